"""What the manifests of a store say, as small tables: no object is opened for any of them."""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal

import pyarrow as pa

from armorm.features.objectives import Scale, in_order
from armorm.features.store import Snapshot, Store
from armorm.features.store.json_records import read_summary
from armorm.features.store.summaries import BackboneSummary, ingests
from armorm.features.tables import schema_of

Table = Literal["conversations", "ratings", "preferences"]


INVENTORY: Final[Mapping[str, pa.Schema]] = {
    "datasets": schema_of(
        "dataset upstream licence evaluation:bool rows:int kept:int rejected:int dropped:int parts_refused:int "
        "conversations:int ratings:int preferences:int"
    ),
    "objectives": schema_of("position:int objective dataset lo:float hi:float rule"),
    "backbones": schema_of("backbone name architecture hidden_size:int dtype max_tokens:int record"),
    "runs": schema_of("run_id command started_at last_commit_at code_version"),
    "snapshots": schema_of("number:int snapshot_id created_at run_id expired:bool"),
    "tags": schema_of("name kind id number:int set_at"),
    "artifacts": schema_of(
        "artifact_id slot stage key run_id created_at n_objects:int size_bytes:int parameters summary"
    ),
    "lineage": schema_of("artifact_id input input_id"),
}
"""Name to schema; grain and key of each stand at the head of its view in `sql/views/`."""


def inventory_table(store: Store, snapshot: Snapshot, name: str) -> pa.Table:
    """Return one of the tables."""
    rows = list(_ROWS[name](store, snapshot))
    names = INVENTORY[name].names
    return pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows], schema=INVENTORY[name])


def _runs(store: Store, snapshot: Snapshot) -> Iterable[tuple[Any, ...]]:
    runs = {s.run.run_id: (s.run, s.created_at) for s in reversed(list(store.history())) if s.run}
    return [(r.run_id, r.command, r.started_at, at, r.code_version) for r, at in runs.values()]


def _snapshots(store: Store, snapshot: Snapshot) -> Iterable[tuple[Any, ...]]:
    for s in store.history():
        yield s.number, s.snapshot_id, s.created_at, s.run.run_id if s.run else None, s.expired is not None


def _tags(store: Store, snapshot: Snapshot) -> Iterable[tuple[Any, ...]]:
    return [(name, p.kind, p.id, p.number, p.set_at) for name, p in sorted(store.head().pointers.items())]


def _datasets(store: Store, snapshot: Snapshot) -> Iterable[tuple[Any, ...]]:
    for of in ingests(snapshot):
        tables = (of.parts_refused, of.conversations, of.ratings, of.preferences)
        yield of.dataset, of.upstream, of.licence, of.evaluation, *of.counts, *tables


def _objectives(store: Store, snapshot: Snapshot) -> Iterable[tuple[Any, ...]]:
    """Return one row an objective and dataset that rates it; an objective that none rates still has its row."""
    for position, objective in enumerate(stored_objectives(snapshot)):
        rated: list[tuple[Any, ...]] = [
            (position, objective, of.dataset, scale.lo, scale.hi, scale.rule)
            for of in ingests(snapshot)
            if (scale := of.scales.get(objective))
        ]
        yield from rated or [(position, objective, None, None, None, None)]


def _backbones(store: Store, snapshot: Snapshot) -> Iterable[tuple[Any, ...]]:
    for backbone_id, artifact in snapshot.within("backbone").items():
        of, record = read_summary(artifact, BackboneSummary), json.dumps(dict(artifact.recipe.parameters))
        yield backbone_id, of.name, of.architecture, of.hidden_size, of.dtype, of.max_tokens, record


def _artifacts(store: Store, snapshot: Snapshot) -> Iterable[tuple[Any, ...]]:
    for artifact in snapshot.artifacts.values():
        refs = artifact.objects.values()
        yield (
            artifact.artifact_id,
            artifact.recipe.slot,
            artifact.recipe.stage,
            artifact.recipe.key,
            artifact.run_id,
            artifact.created_at,
            len(refs),
            sum(ref.size_bytes for ref in refs),
            json.dumps(dict(artifact.recipe.parameters)),
            json.dumps(dict(artifact.summary)),
        )


def _lineage(store: Store, snapshot: Snapshot) -> Iterable[tuple[Any, ...]]:
    return [(a.artifact_id, name, id) for a in snapshot.artifacts.values() for name, id in a.recipe.inputs.items()]


_ROWS: Final[Mapping[str, Callable[[Store, Snapshot], Iterable[tuple[Any, ...]]]]] = {
    "datasets": _datasets,
    "objectives": _objectives,
    "backbones": _backbones,
    "runs": _runs,
    "snapshots": _snapshots,
    "tags": _tags,
    "artifacts": _artifacts,
    "lineage": _lineage,
}


def ingested(snapshot: Snapshot, what: Table) -> int:
    """Return how many `conversations`, `ratings` or `preferences` a snapshot's datasets have, shared ones in each."""
    return sum(getattr(of, what) for of in ingests(snapshot))


def rows_of(what: Table) -> Callable[[Snapshot, object], dict[str, int]]:
    """Return what tells how much work a stage has that reads all `conversations`, `ratings` or `preferences`."""
    return lambda snapshot, settings: {"rows": ingested(snapshot, what)}


def stored_objectives(snapshot: Snapshot) -> tuple[str, ...]:
    """Return the names of all objectives, those that only own datasets rate among them, in the order of models."""
    return in_order(name for of in ingests(snapshot) for name in of.scales)


def stored_scales(snapshot: Snapshot) -> dict[tuple[str, str], Scale]:
    """Return the native scale of each dataset and objective that it rates."""
    return {(of.dataset, objective): scale for of in ingests(snapshot) for objective, scale in of.scales.items()}
