"""What a run would do, as far as it can be told without running. Nothing is fetched and nothing is written."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from features import hub
from features.catalog import connect
from features.embedding.canary import SLOT as CANARY
from features.embedding.embed import find_missing, why_incomplete
from features.embedding.fingerprint import HUB_FILES, BackboneSettings, hub_repo, local_folder
from features.errors import FeatureStoreError
from features.hub import HubRepo
from features.shards import VectorType
from features.store import Done, Made, Recipe, Store, Writer
from features.store.artifacts import why_stale


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
    """Of files on this machine."""
    try:
        sizes = [file.stat().st_size for file in find()]
    except (FeatureStoreError, OSError) as error:
        return Files(name, str(path), problem=str(error))
    return Files(name, str(path), n_files=len(sizes), size_bytes=sum(sizes))


def hub_files(name: str, repo: HubRepo, patterns: Sequence[str]) -> Files:
    """Of files on the Hub, some of which may be in its cache."""
    try:
        planned = hub.plan_download(repo, patterns)
    except FeatureStoreError as error:
        return Files(name, str(repo), problem=str(error))
    return Files(name, str(repo), planned.revision, planned.n_files, planned.size_bytes, planned.missing_bytes)


def backbone_files(settings: BackboneSettings) -> Files:
    """Of the backbone, wherever it lies."""
    try:
        folder = local_folder(settings)
    except FeatureStoreError as error:
        return Files("backbone", settings.path, problem=str(error))
    if folder:
        return local_files("backbone", folder, lambda: [file for file in folder.iterdir() if file.is_file()])
    return hub_files("backbone", hub_repo(settings), HUB_FILES)


def why_embed(store: Store, backbone_id: str, vector_type: VectorType) -> str | None:
    """What of the newest snapshot has no vector of this backbone, in words; None when all has."""
    if not why_incomplete(store, backbone_id, vector_type):
        return None
    with connect(store) as catalog:
        missing = find_missing(catalog, backbone_id, vector_type)
    if not missing:
        return None if f"{CANARY}/{backbone_id}" in store.head().artifacts else "no canaries of this backbone"
    return f"{missing.conversations} conversations and {missing.prompts} prompts without a vector"


def why_run(store: Store, stage: Callable[[Writer], Done]) -> str | None:
    """Why a stage would make its artifact again, in words; None when it stands.

    The stage is asked itself, by a writer that makes nothing.
    """
    try:
        stage(_Asking(store, "armorm plan"))
    except _Stale as stale:
        return stale.reason
    return None


class _Stale(Exception):
    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _Asking(Writer):
    def ensure(self, recipe: Recipe, make: Callable[[], Made]) -> Done:
        existing = self.store.head().artifacts.get(recipe.slot)
        reason = why_stale(recipe, existing)
        if existing is None or reason:
            raise _Stale(reason or "first time")
        return Done(existing, None)
