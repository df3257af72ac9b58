"""Two snapshots, two models or two backbones of a store, side by side."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from armorm.features.catalog.diff import CHANGES, Diff, diff
from armorm.features.conversation import HELD_OUT
from armorm.features.errors import InputError
from armorm.features.store import Artifact, Pointer, Snapshot, Store
from armorm.features.store.json_records import read_record
from armorm.features.store.names import find_named
from armorm.features.tables import check_parquet
from armorm.features.vectors.drift import SAMPLE, Drift, drift, shared_ids
from armorm.features.vectors.shards import FeatureReader
from armorm.maths.paired import PairedTest
from armorm.model.compare import ModelDiff, compare_objectives, compare_pairs, figures_of, model_sections, side_by_side
from armorm.model.head import RewardHead
from armorm.records.evaluation import Evaluation
from armorm.report.sections import Cell, Section
from armorm.stages import evaluate
from armorm.stages.data import load_pairs
from armorm.stages.model import STAGE, load_model


@dataclass(frozen=True, slots=True)
class Comparison:
    """All that can be said of two of a kind; of models and backbones, no rows."""

    rows: Diff | None
    models: ModelDiff | None
    drift: Sequence[Drift]

    def as_json(self) -> dict[str, Any]:
        """Return the comparison as JSON."""
        rows = self.rows.as_json() if self.rows else {}
        models = {"models": asdict(self.models) if self.models else None}
        return rows | models | {"drift": [asdict(of_kind) for of_kind in self.drift]}

    @property
    def line(self) -> str:
        """A one-line summary."""
        of = self.models
        models = f"model {of.before[:12]} to {of.after[:12]}" if of else ""
        return "; ".join(filter(None, [self.rows.line if self.rows else "", models]))

    @property
    def sections(self) -> list[Section]:
        """Return the comparison as tables, without the rows one by one."""
        tables = _row_sections(self.rows) if self.rows else []
        return [
            section
            for section in [*tables, *(model_sections(self.models) if self.models else []), _drift_section(self.drift)]
            if section.rows
        ]


def compare(store: Store, before: str, after: str, *, n_rows: int | None = None) -> Comparison:
    """Whatever two names mean; of two snapshots also their models, and their models' backbones.

    Args:
        store: holds both.
        before: a name, as `find_named` takes it.
        after: another one of that kind.
        n_rows: how many changed rows to list; all by default.

    Raises:
        InputError: they mean different kinds of things.
        NotInStore: one of them means nothing.
    """
    one, other = find_named(store, before), find_named(store, after)
    if one.kind != other.kind:
        raise InputError(f"got {one.kind} {before} and {other.kind} {after}; expected two of a kind; name another")
    if one.kind == "backbone":
        return Comparison(None, None, drift(store, (one.id, _holding(store, one)), (other.id, _holding(store, other))))
    if one.kind == "model":
        models, moved = _compare_models(store, store.find(STAGE, one.id), store.find(STAGE, other.id))
        return Comparison(None, models, moved)
    snapshots = store.snapshot(before), store.snapshot(after)
    first, second = (snapshot.artifacts.get(STAGE) for snapshot in snapshots)
    rows = diff(store, *snapshots, n_rows=n_rows)
    if not first or not second or first.artifact_id == second.artifact_id:
        return Comparison(rows, None, ())
    return Comparison(rows, *_compare_models(store, first, second))


def _compare_models(store: Store, first: Artifact, second: Artifact) -> tuple[ModelDiff, list[Drift]]:
    """Two models, and their backbones where these differ."""
    models = load_model(store, first), load_model(store, second)
    head = store.head()
    readers = {model.backbone_id: FeatureReader(store, model.backbone_id, head) for model in models}
    prompts = shared_ids(readers[models[0].backbone_id], readers[models[1].backbone_id], "prompt")[:SAMPLE]
    gates = [_mean_gate(model, readers[model.backbone_id], prompts) for model in models]
    evaluations = [newest_evaluation(store, artifact) for artifact in (first, second)]
    figures = [
        figures_of(model, read_record(store, found, Evaluation) if found else None)
        for model, found in zip(models, evaluations, strict=True)
    ]
    found = ModelDiff(
        first.artifact_id,
        second.artifact_id,
        (models[0].nuisances, models[1].nuisances),
        compare_objectives(*models, gates=(gates[0], gates[1])),
        side_by_side(*figures),
        len(prompts),
        _paired(store, *evaluations, backbone_id=models[1].backbone_id),
    )
    ids = [model.backbone_id for model in models]
    return found, drift(store, (ids[0], head), (ids[1], head)) if ids[0] != ids[1] else []


def _mean_gate(model: RewardHead, reader: FeatureReader, prompts: list[str]) -> Any:
    """Return `[K]` mean weights; None without prompts."""
    return model.gating(reader.gather("prompt", prompts)).mean(axis=0) if prompts else None


def newest_evaluation(store: Store, model: Artifact) -> Artifact | None:
    """Return the newest evaluation of a model."""
    for snapshot in store.history():
        found = snapshot.artifacts.get(evaluate.STAGE)
        if found and found.recipe.inputs.get(STAGE) == model.artifact_id:
            return found
    return None


def _paired(
    store: Store, first: Artifact | None, second: Artifact | None, *, backbone_id: str
) -> dict[str, PairedTest]:
    """Return both models on the held-out pairs of the newest snapshot that both have scored."""
    if not first or not second:
        return {}
    stored = load_pairs(store, backbone_id=backbone_id)
    of_both = [outcomes(store, evaluation) for evaluation in (first, second)]
    scored_P = np.array([all(id in outcome for outcome in of_both) for id in stored.pair_ids], dtype=bool)
    here_P = scored_P & stored.usable(*HELD_OUT)
    won = [np.array([outcome[id] for id in stored.pair_ids[here_P]], dtype=bool) for outcome in of_both]
    return compare_pairs(
        *won,
        datasets_P=stored.datasets[here_P],
        prompts_P=stored.prompt_ids[here_P],
        benchmark_P=stored.split_P[here_P] == "evaluation",
    )


def outcomes(store: Store, evaluation: Artifact) -> dict[str, bool]:
    """Return whether each pair was ranked correctly, by its id."""
    path = store.objects.path(evaluation.objects["pair_scores"])
    check_parquet(path)
    table = pq.read_table(path, columns=["pair_id", "correct"])
    return dict(zip(table["pair_id"].to_pylist(), table["correct"].to_pylist(), strict=True))


def _holding(store: Store, backbone: Pointer) -> Snapshot:
    """Return the newest snapshot, or that which the backbone was found in."""
    head = store.head()
    return head if head.within(f"features/{backbone.id}") else store.manifests.read(backbone.number)


def _row_sections(found: Diff) -> list[Section]:
    counts: list[tuple[Cell, ...]] = [(name, *of.values()) for name, of in found.datasets.items()]
    means = [(m.dataset, m.objective, m.n_before, m.n_after, m.mean_before, m.mean_after, m.moved) for m in found.means]
    columns = ["dataset", "objective", "ratings before", "after", "mean before", "after", "moved"]
    return [
        Section("rows", "Rows", ["dataset", *CHANGES], counts),
        Section("means", "Mean ratings that moved", columns, means, "on the native scale"),
    ]


_COSINES = {"mean": "cosine mean", "min": "min", "p05": "5 %", "median": "median", "p95": "95 %", "max": "max"}


def _drift_section(drifts: Sequence[Drift]) -> Section:
    def row(of: Drift) -> tuple[Cell, ...]:
        return (of.kind, of.n_shared, of.n_compared, *((of.cosine or {}).get(name) for name in _COSINES), of.cka)

    note = "cosine of a text's two vectors, where both have one size; CKA: do the same texts lie near to each other?"
    columns = ["kind", "shared", "compared", *_COSINES.values(), "CKA"]
    return Section("drift", "Drift between the backbones", columns, [row(of) for of in drifts], note)
