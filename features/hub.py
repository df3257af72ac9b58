"""The Hugging Face Hub: what a repository holds at a commit, and its files in the local cache.

All of it by huggingface_hub, so that its cache (what is there is not fetched again), its offline mode and its other
environment variables hold here as well. The token comes from HF_TOKEN alone and is part of no message. Nothing is told
of the machine unless the user's environment says so.
"""

import glob
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from armorm.features.errors import HubError, HubUnreachable

if TYPE_CHECKING:
    from huggingface_hub import RepoFile

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # read when huggingface_hub is imported

HIDDEN: Final = [".*", "*/.*"]
"""Patterns of files that are hidden or in a hidden folder; `*` also crosses slashes."""


@dataclass(frozen=True, slots=True)
class HubRepo:
    """A repository as it was asked for."""

    kind: Literal["dataset", "model"]
    name: str
    """`owner/name`."""
    revision: str = "main"
    """A commit, tag or branch."""
    folder: str = ""
    """Only what lies below it; empty for all."""

    def __str__(self) -> str:
        return f"hf://{self.kind}s/{self.name}@{self.revision}" + (f"/{self.folder}" if self.folder else "")


@dataclass(frozen=True, slots=True)
class HubFiles:
    """Files of a repository, in the local cache."""

    folder: Path
    """Holds links to the cached files, and perhaps more of the repository than `files`."""
    revision: str
    """The commit's 40 hex digits."""
    files: tuple[str, ...]
    """Relative to `folder`, sorted."""
    size_bytes: int


@dataclass(frozen=True, slots=True)
class HubPlan:
    """What a download would do."""

    revision: str
    """The commit's 40 hex digits."""
    n_files: int
    size_bytes: int
    """The size of all files."""
    cached_bytes: int
    """The size of the files that are in the cache."""

    @property
    def missing_bytes(self) -> int:
        """What would be downloaded."""
        return self.size_bytes - self.cached_bytes


def download(repo: HubRepo, patterns: Sequence[str]) -> HubFiles:
    """Bring the matching files into the cache, as far as they are not there.

    Args:
        repo: which repository, at which revision; without a network, what the cache knows of a branch counts.
        patterns: of paths below `repo.folder`, as `fnmatch` reads them: `*` also crosses slashes.

    Raises:
        HubUnreachable: the network or the Hub fails, and the cache lacks something.
        HubError: no such repository, revision or file, or no right to read it.
    """
    from huggingface_hub import snapshot_download

    with _named_errors(repo), _bars():
        commit = _commit(repo)
        chosen = _chosen(repo, commit, patterns)
        names = [glob.escape(file.path) for file in chosen.values()]
        snapshot = snapshot_download(
            repo.name, repo_type=repo.kind, revision=commit, allow_patterns=names, token=_token()
        )
    return HubFiles(Path(snapshot, repo.folder), commit, tuple(chosen), sum(file.size for file in chosen.values()))


def plan_download(repo: HubRepo, patterns: Sequence[str]) -> HubPlan:
    """Return what `download` would fetch; fetches no content. Arguments and errors are those of `download`."""
    from huggingface_hub import snapshot_download

    with _named_errors(repo), _bars():
        commit = _commit(repo)
        chosen = _chosen(repo, commit, patterns)
        names = [glob.escape(file.path) for file in chosen.values()]
        planned = snapshot_download(
            repo.name, repo_type=repo.kind, revision=commit, allow_patterns=names, token=_token(), dry_run=True
        )
    sizes = {file.path: file.size for file in chosen.values()}
    cached = sum(sizes[file.filename] for file in planned if not file.will_download)
    return HubPlan(commit, len(chosen), sum(sizes.values()), cached)


def _commit(repo: HubRepo) -> str:
    from huggingface_hub import HfApi

    api = HfApi(token=_token())
    return api.resolve_revision(repo.name, repo_type=repo.kind, revision=repo.revision).resolved


def _chosen(repo: HubRepo, commit: str, patterns: Sequence[str]) -> dict[str, "RepoFile"]:
    """Return the files below the repository's folder that match a pattern and are not hidden, by their path there."""
    from huggingface_hub.utils import filter_repo_objects  # type: ignore[attr-defined]

    files, start = _listing(repo, commit), f"{repo.folder}/" if repo.folder else ""
    below = {file.path.removeprefix(start): file for file in files if file.path.startswith(start)}
    matching = filter_repo_objects(sorted(below), allow_patterns=list(patterns), ignore_patterns=HIDDEN)
    chosen = {path: below[path] for path in matching}
    if not chosen:
        wanted = ", ".join(patterns)
        raise HubError(repo, f"got {len(files)} files, none of them {wanted}; correct the name, the revision or folder")
    return chosen


def _listing(repo: HubRepo, commit: str) -> list["RepoFile"]:
    """Return all files of a commit: from the cache, since a commit never changes, else from the Hub."""
    from huggingface_hub import HfApi, RepoFile, get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    try:
        return get_cached_repo_tree(repo.name, repo_type=repo.kind, revision=commit)
    except CachedRepoTreeNotFoundError:
        api = HfApi(token=_token())
        # Fails at once where there is no answer; the listing tries for 20 seconds.
        api.repo_info(repo.name, repo_type=repo.kind, revision=commit)
        tree = api.list_repo_tree(repo.name, repo_type=repo.kind, revision=commit, recursive=True)
        return [entry for entry in tree if isinstance(entry, RepoFile)]


def _token() -> str | Literal[False]:
    """Return HF_TOKEN, or `False`, which keeps huggingface_hub from looking for a token that a login stored."""
    return os.environ.get("HF_TOKEN", "").strip() or False


def _bars() -> AbstractContextManager[object]:
    """Show huggingface_hub's progress bars on a terminal, or as its own variable says."""
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if sys.stderr.isatty() or "HF_HUB_DISABLE_PROGRESS_BARS" in os.environ:
        return nullcontext()
    return disable_progress_bars()


@contextmanager
def _named_errors(repo: HubRepo) -> Iterator[None]:
    import httpx2
    from huggingface_hub.errors import HFValidationError, RevisionResolutionError

    try:
        yield
    except HFValidationError as error:
        raise HubError(repo, "got no name of a repository; expected owner/name; correct it") from error
    except OSError as error:
        if error.errno is not None:  # of the local disk
            raise
        raise _named(repo, error) from error
    except (httpx2.HTTPError, RevisionResolutionError) as error:
        raise _named(repo, error) from error


def _named(repo: HubRepo, error: Exception) -> HubError:
    """Return an error of one line for the many that huggingface_hub raises."""
    from huggingface_hub import is_offline_mode
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if isinstance(error, LocalEntryNotFoundError) and isinstance(error.__cause__, HfHubHTTPError):
        error = error.__cause__  # it only adds that the cache lacks the file
    if isinstance(error, GatedRepoError):
        page = f"https://huggingface.co/{'datasets/' if repo.kind == 'dataset' else ''}{repo.name}"
        return HubError(repo, f"got a gated repository; accept its terms at {page} and set HF_TOKEN to your token")
    if isinstance(error, RepositoryNotFoundError):
        return HubError(
            repo, "got no such repository, or a private one; correct the name, or set HF_TOKEN to a token that reads it"
        )
    if isinstance(error, RevisionNotFoundError):
        return HubError(repo, "got an unknown revision; expected a commit, tag or branch; correct what follows the @")
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        if status in (401, 403):
            return HubError(repo, f"got a refusal (HTTP {status}); set HF_TOKEN to a token that may read it")
        return HubUnreachable(repo, f"got HTTP {status} from the Hub, and the cache lacks files; run again later")
    if is_offline_mode():
        return HubError(repo, "got HF_HUB_OFFLINE, and the cache lacks files; unset it, or give a local folder")
    cause = type(error.__cause__ or error).__name__
    return HubUnreachable(
        repo,
        f"got no answer from the Hub ({cause}), and the cache lacks files; run again later, or give a local folder",
    )
