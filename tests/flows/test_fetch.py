"""The one task that uses the network: what may pass is tried again, what is wrong is not."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from prefect import flow

from armorm.features.errors import HubError, HubUnreachable
from armorm.features.hub import HubFiles
from armorm.flows import ingest

FETCHED = HubFiles(Path("cache"), "c0ffee", ("train.jsonl",), 3)


@pytest.mark.parametrize(
    ("error", "tries"), [(HubUnreachable("repo", "got no answer"), 2), (HubError("repo", "got a gated repository"), 1)]
)
def test_only_what_may_pass_is_tried_again(
    error: HubError, tries: int, server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def download(uri: str, patterns: Sequence[str]) -> HubFiles:
        tried.append(uri)
        if len(tried) == 1:
            raise error
        return FETCHED

    monkeypatch.setattr(ingest, "download_dataset", download)
    fetch = ingest.fetch_dataset.with_options(retry_delay_seconds=0)

    @flow
    def fetching() -> HubFiles:
        return fetch("pairs", "hf://datasets/a/b", ["*"])

    if tries == 1:
        with pytest.raises(HubError):
            fetching()
    else:
        assert fetching() == FETCHED
    assert len(tried) == tries
