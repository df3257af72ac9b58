"""What manifests say of datasets, backbones and vectors; a default is what an older one lacks."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from armorm.features.objectives import Scale
from armorm.features.store.artifacts import Snapshot
from armorm.features.store.json_records import Summary, read_summary


@dataclass(frozen=True, slots=True)
class Origin:
    """Where native files are from; empty for those of this machine."""

    uri: str | None = None
    revision: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestSummary(Summary):
    """The counts of a dataset's ingest."""

    dataset: str = ""
    upstream: str | None = None
    licence: str | None = None
    evaluation: bool = False
    origin: Origin = field(default_factory=Origin)
    files_left: Mapping[str, str] = field(default_factory=dict)
    """Files below the path that were not read, and why."""
    outcomes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Native rows by `kept`, `rejected` and `dropped`, then by reason."""
    pairs_dropped: Mapping[str, int] = field(default_factory=dict)
    """Pairs that ratings did not make, by reason."""
    parts_refused: int = 0
    conversations: int = 0
    ratings: int = 0
    preferences: int = 0
    scales: Mapping[str, Scale] = field(default_factory=dict)
    """By objective."""

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Native rows in all, kept, rejected and dropped."""
        kept, rejected, dropped = (sum(self.outcomes.get(o, {}).values()) for o in ("kept", "rejected", "dropped"))
        return kept + rejected + dropped, kept, rejected, dropped


@dataclass(frozen=True, slots=True)
class BackboneSummary(Summary):
    """What a backbone is; its fingerprint says more."""

    name: str = ""
    architecture: str = ""
    hidden_size: int = 0
    dtype: str = ""
    max_tokens: int = 0


@dataclass(frozen=True, slots=True)
class VectorSummary(Summary):
    """Vectors, or texts without one."""

    rows: int = 0
    tokens: int = 0
    """The tokens of the conversations."""
    width: int = 0


@dataclass(frozen=True, slots=True)
class Coverage(Summary):
    """What has a vector of a backbone, or none that is usable."""

    conversations: int
    prompts: int


def ingests(snapshot: Snapshot) -> list[IngestSummary]:
    """Return the datasets of a snapshot, by name."""
    return [read_summary(artifact, IngestSummary) for artifact in snapshot.within("ingest").values()]
