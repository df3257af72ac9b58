"""Models that were trained on the same data with several backbones, side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any, Final

from armorm.features.documents import encode
from armorm.features.store import Store
from armorm.features.store.estimate import measured
from armorm.features.store.json_records import read_summary
from armorm.features.store.summaries import VectorSummary
from armorm.features.vectors.shards import SLOT as FEATURES
from armorm.judges.compared import Compared
from armorm.maths.metrics import Interval
from armorm.maths.ridge import ObjectiveFit
from armorm.report.sections import Cell, Section
from armorm.stages import model
from armorm.stages.common import stage_artifact
from armorm.stages.evaluate import EVALUATE
from armorm.stages.regress import REGRESS

BACKBONES: Final = ["backbone", "width", "texts", "tokens", "hours", "tokens a second", "probe", "low", "high", "model"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A backbone: what its vectors have cost, and what was trained on them."""

    name: str
    backbone_id: str
    model_id: str
    width: int
    n_texts: int
    """Conversations and prompts with a vector."""
    n_tokens: int
    """Tokens of the conversations."""
    seconds: float
    """The time that the embedding of all of them took, in whatever runs."""
    probe: Interval | None
    """The Bradley-Terry probe's accuracy on held-out pairs; None without one."""
    objectives: tuple[ObjectiveFit, ...]


@dataclass(frozen=True, slots=True)
class BakeOff:
    """All candidates, in the order given, and their models on the same pairs."""

    candidates: tuple[Candidate, ...]
    compared: Compared | None
    """None without held-out pairs."""

    @property
    def sections(self) -> list[Section]:
        """Return the tables."""
        sections = [_costs(self.candidates), _objectives(self.candidates)]
        return [section for section in sections if section.rows] + (self.compared.sections if self.compared else [])

    def as_json(self) -> dict[str, Any]:
        """Return the figures as JSON."""
        found: dict[str, Any] = encode(self)
        return found


def read_candidate(name: str, store: Store, backbone_id: str) -> Candidate:
    """Return what the newest snapshot holds of a backbone, on whose vectors all was trained last.

    Raises:
        NotInStore: something was not trained or evaluated.
    """
    head = store.head()
    shards = list(head.within(f"{FEATURES}/{backbone_id}").values())
    vectors = [read_summary(shard, VectorSummary) for shard in shards]
    accuracy = EVALUATE.told(store, stage_artifact(head, EVALUATE.name)).pairs.rows
    return Candidate(
        name=name,
        backbone_id=backbone_id,
        model_id=stage_artifact(head, model.STAGE).artifact_id,
        width=max(of.width for of in vectors),
        n_texts=sum(of.rows for of in vectors),
        n_tokens=sum(of.tokens for of in vectors),
        seconds=sum(measured(shard).get("seconds", 0.0) for shard in shards),
        probe=accuracy[0].accuracy.get("probe") if accuracy else None,
        objectives=REGRESS.told(store, stage_artifact(head, REGRESS.name)).regression,
    )


def _costs(candidates: Sequence[Candidate]) -> Section:
    rows: list[tuple[Cell, ...]] = []
    for of in candidates:
        probe = (of.probe.estimate, of.probe.low, of.probe.high) if of.probe else (None,) * 3
        speed = of.n_tokens / of.seconds if of.seconds else None
        rows.append((of.name, of.width, of.n_texts, of.n_tokens, of.seconds / 3600, speed, *probe, of.model_id[:12]))
    note = (
        "tokens: of the conversations; hours: of their embedding, on the machines that did it; probe: its accuracy on "
        "held-out pairs, a Bradley-Terry model of one direction"
    )
    return Section("backbones", "Backbones on the same data", BACKBONES, rows, note)


def _objectives(candidates: Sequence[Candidate]) -> Section:
    """Return each objective's R2 on held-out ratings, by backbone, and which one is best."""
    fits = [{fit.objective: fit for fit in of.objectives} for of in candidates]
    rows: list[tuple[Cell, ...]] = []
    for objective in dict.fromkeys(name for of in fits for name in of):
        here = [of.get(objective) for of in fits]
        r2 = {of.name: fit.test_r2 for of, fit in zip(candidates, here, strict=True) if fit and not isnan(fit.test_r2)}
        figures = [figure for fit in here for figure in ((fit.test_r2, fit.test_r2_error) if fit else (None, None))]
        n_test = next(fit.n_test for fit in here if fit)
        rows.append((objective, n_test, *figures, max(r2, key=r2.__getitem__) if r2 else None))
    columns = ["objective", "test", *(name for of in candidates for name in (of.name, "its error")), "best"]
    note = "R2 on held-out ratings with its standard error over prompts; best: the largest, however close another is"
    return Section("objectives", "Objectives by backbone", columns, rows, note)
