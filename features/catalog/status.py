"""What a store holds, for people and programs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from armorm.features.errors import StoreError
from armorm.features.store import Artifact, Snapshot, Store
from armorm.features.store.json_records import read_summary
from armorm.features.store.stage import Stage
from armorm.features.store.summaries import VectorSummary


@dataclass(frozen=True, slots=True)
class Status:
    """The newest snapshot, a row an artifact; a backbone's shards are one row together."""

    number: int
    snapshot_id: str
    created_at: str
    rows: list[tuple[Any, ...]]
    """(slot, artifact or number of shards, made at, what it is)."""

    @property
    def line(self) -> str:
        """For a person."""
        return f"snapshot {self.number} ({self.snapshot_id}), committed {self.created_at}"

    def as_json(self) -> dict[str, Any]:
        """For a program."""
        names = ("slot", "artifact", "created_at", "what")
        head = {"number": self.number, "snapshot_id": self.snapshot_id, "created_at": self.created_at}
        return head | {"artifacts": [dict(zip(names, row, strict=True)) for row in self.rows]}


def store_status(store: Store, snapshot: Snapshot, stages: Mapping[str, Stage]) -> Status:
    """Return what a snapshot holds, which the stages say of their artifacts."""
    rows = [
        (slot, artifact.artifact_id, artifact.created_at, _what(store, artifact, stages))
        for slot, artifact in sorted(snapshot.artifacts.items())
        if artifact.recipe.stage != "embed"
    ]
    for backbone_id in snapshot.within("backbone"):
        shards = snapshot.within(f"features/{backbone_id}").values()
        newest = max((shard.created_at for shard in shards), default="")
        vectors = sum(read_summary(shard, VectorSummary).rows for shard in shards)
        rows.append((f"features/{backbone_id}", f"{len(shards)} shards", newest, f"{vectors} vectors"))
    return Status(snapshot.number, snapshot.snapshot_id, snapshot.created_at, rows)


def _what(store: Store, artifact: Artifact, stages: Mapping[str, Stage]) -> str:
    stage = stages.get(artifact.recipe.stage)
    try:
        return stage.line(store, artifact) if stage else ""
    except StoreError as error:  # one damaged record does not keep the others from being listed
        return str(error)
