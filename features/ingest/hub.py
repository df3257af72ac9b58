"""Datasets of the Hugging Face Hub, by `hf://datasets/owner/name@revision/folder`."""

from collections.abc import Sequence

from armorm.features import hub
from armorm.features.errors import HubError
from armorm.features.hub import HubFiles, HubPlan, HubRepo
from armorm.features.ingest.files import ROW_SUFFIXES

DATA_FILES = tuple(f"*{suffix}" for suffix in ROW_SUFFIXES)
"""Every file that can be read."""


def download_dataset(uri: str, patterns: Sequence[str] = DATA_FILES) -> HubFiles:
    """Bring a dataset's files into huggingface_hub's cache, as far as they are not there.

    Args:
        uri: which dataset; the revision is `main` by default, the folder all of it.
        patterns: which files, as `armorm.features.hub.download` reads them.

    Raises:
        HubUnreachable: the network or the Hub fails, and the cache lacks something.
        HubError: the URI is malformed, names nothing, or what may not be read.
    """
    return hub.download(parse_uri(uri), patterns)


def plan_download(uri: str, patterns: Sequence[str] = DATA_FILES) -> HubPlan:
    """Return what `download_dataset` would fetch. Arguments and errors are the same."""
    return hub.plan_download(parse_uri(uri), patterns)


def parse_uri(uri: str) -> HubRepo:
    """Return the repository, revision and folder that a URI names.

    Raises:
        HubError: it is no `hf://datasets/owner/name@revision/folder`.
    """
    from huggingface_hub import parse_hf_uri
    from huggingface_hub.errors import HfUriError

    expected = "expected hf://datasets/owner/name@revision/folder, the last two optional; correct it"
    if not uri.startswith("hf://datasets/"):
        raise HubError(uri, f"got another address; {expected}")
    try:
        parsed = parse_hf_uri(uri)
    except HfUriError as error:
        raise HubError(
            uri, f"got a malformed address ({' '.join(error.msg.split()).rstrip('.')}); {expected}"
        ) from error
    return HubRepo("dataset", parsed.id, parsed.revision or "main", parsed.path_in_repo.strip("/"))
