"""What a run would do, as far as it can be told without running. Nothing is fetched and nothing is written."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from armorm.features import hub
from armorm.features.catalog.views import connect
from armorm.features.embedding.canary import SLOT as CANARY
from armorm.features.embedding.embed import covered, find_missing, why_incomplete
from armorm.features.embedding.fingerprint import HUB_FILES, BackboneSettings, Fingerprint, hub_repo, local_path
from armorm.features.embedding.predict import missing_tokens, predict
from armorm.features.errors import FeatureStoreError, PlanOutdated
from armorm.features.hub import HubRepo
from armorm.features.secrets import redacted
from armorm.features.store import Snapshot, Store
from armorm.features.store.estimate import Planned, last_time, measured, unknown
from armorm.features.store.json_records import read_summary
from armorm.features.store.summaries import IngestSummary, VectorSummary
from armorm.features.vectors.shards import SLOT, VectorType


@dataclass(frozen=True, slots=True)
class Files:
    """The files of a dataset or of the backbone, before they are read."""

    name: str
    source: str
    """A path, or the address on the Hub."""
    revision: str | None = None
    """The commit, on the Hub."""
    n_files: int = 0
    size_bytes: int = 0
    missing_bytes: int = 0
    """What would be downloaded."""
    problem: str | None = None
    """Why nothing can be told of them."""


def local_files(name: str, path: Path, find: Callable[[], Sequence[Path]]) -> Files:
    """Return the number and size of files on this machine."""
    try:
        sizes = [file.stat().st_size for file in find()]
    except (FeatureStoreError, OSError) as error:
        return Files(name, str(path), problem=redacted(str(error)))
    return Files(name, str(path), n_files=len(sizes), size_bytes=sum(sizes))


def hub_files(name: str, repo: HubRepo, patterns: Sequence[str]) -> Files:
    """Return the number and size of files on the Hub, some of which may be in its cache."""
    try:
        planned = hub.plan_download(repo, patterns)
    except FeatureStoreError as error:
        return Files(name, str(repo), problem=str(error))
    return Files(name, str(repo), planned.revision, planned.n_files, planned.size_bytes, planned.missing_bytes)


def backbone_files(settings: BackboneSettings) -> Files:
    """Return the number and size of the backbone's files, on this machine or on the Hub."""
    try:
        path = local_path(settings)
    except FeatureStoreError as error:
        return Files("backbone", settings.path, problem=str(error))
    if path:
        return local_files(
            "backbone", path, lambda: [of for of in ([path] if path.is_file() else path.iterdir()) if of.is_file()]
        )
    return hub_files("backbone", hub_repo(settings), HUB_FILES)


def require_planned(store: Store, snapshot_id: str) -> None:
    """Refuse to run if somebody has committed since the plan was made; the caller holds the writer's lock.

    Raises:
        PlanOutdated: the newest snapshot is another one.
    """
    if (now := store.head().snapshot_id) != snapshot_id:
        raise PlanOutdated("run", "snapshot", now, snapshot_id)


def plan_embedding(store: Store, fingerprint: Fingerprint, vector_type: VectorType) -> Planned:
    """Return what of the newest snapshot has no vector of this backbone. A text that was rejected is not missing.

    Tables and indexes are opened only when the manifests do not tell that nothing is missing.
    """
    if not why_incomplete(store, fingerprint.backbone_id, vector_type):
        return Planned("embed", None, basis=_last_time(store.head(), fingerprint))
    with connect(store) as catalog:
        missing = find_missing(catalog, fingerprint.backbone_id, vector_type)
        tokens, notes = missing_tokens(catalog, fingerprint.backbone_id) if missing else (0, "")
    if not missing:
        there = f"{CANARY}/{fingerprint.backbone_id}" in store.head().artifacts
        reason = None if there else "no canaries of this backbone"
        return Planned("embed", reason, basis=_last_time(store.head(), fingerprint))
    reason = f"{missing.conversations} conversations and {missing.prompts} prompts without a vector of this backbone"
    return _timed(
        store.head(), fingerprint, vector_type, reason, missing.conversations + missing.prompts, tokens, notes
    )


def plan_embedding_at_most(
    store: Store, fingerprint: Fingerprint, vector_type: VectorType, reason: str, n_bytes: Mapping[str, int]
) -> Planned:
    """Return the most that can be to embed after an ingest of some datasets: as if all of it were new.

    Args:
        store: what it holds tells how many conversations and tokens there are in a byte.
        fingerprint: the backbone.
        vector_type: how vectors are kept.
        reason: why more cannot be told.
        n_bytes: bytes of the native files of each dataset that is to be ingested.
    """
    snapshot = store.head()
    ingested = {name: snapshot.artifacts.get(f"ingest/{name}") for name in n_bytes}
    there = covered(snapshot, fingerprint.backbone_id)
    stored = snapshot.within(f"{SLOT}/{fingerprint.backbone_id}").values()
    shards = [read_summary(shard, VectorSummary) for shard in stored]
    known = all(measured(artifact).get("bytes") for artifact in ingested.values())
    if not (known and there and there.conversations):
        return unknown("embed", reason, "not known before ingest", n_bytes=None)
    conversations = sum(
        read_summary(artifact, IngestSummary).conversations * n_bytes[name] / measured(artifact)["bytes"]
        for name, artifact in ingested.items()
        if artifact
    )
    waiting = plan_embedding(store, fingerprint, vector_type)
    rows = round(conversations * (1 + there.prompts / there.conversations))
    tokens = round(rows * sum(shard.tokens for shard in shards) / sum(shard.rows for shard in shards))
    rows, tokens = rows + (waiting.rows or 0), tokens + (waiting.tokens or 0)
    notes = f"at most, as if nothing in {', '.join(n_bytes)} had a vector; tokens by those of stored vectors"
    return _timed(snapshot, fingerprint, vector_type, reason, rows, tokens, notes)


def _timed(
    snapshot: Snapshot,
    fingerprint: Fingerprint,
    vector_type: VectorType,
    reason: str,
    rows: int,
    tokens: int,
    notes: str,
) -> Planned:
    predicted = predict(snapshot, fingerprint.backbone_id, tokens)
    width = int(fingerprint.record["hidden_size"]) * (2 if vector_type == "float16" else 4)
    basis = "; ".join(filter(None, [predicted.basis, notes, _last_time(snapshot, fingerprint)]))
    return Planned("embed", reason, "", rows, tokens, rows * width, predicted.seconds, basis)


def _last_time(snapshot: Snapshot, fingerprint: Fingerprint) -> str:
    return last_time(snapshot.within(f"{SLOT}/{fingerprint.backbone_id}").values())
