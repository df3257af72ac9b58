"""What a person sees while something long runs."""

from typing import Any

import pytest

from features.embedding.embed import Progress
from flows.console import of_tokens


def test_an_embedding_is_told_by_tokens_with_texts_speed_and_share_of_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 100.0, 102.0])
    monkeypatch.setattr("flows.console.time.monotonic", lambda: next(clock))
    shown: list[tuple[Any, ...]] = []
    show = of_tokens(lambda *given: shown.append(given))
    show(Progress(10, 2000, 500, 90_000))  # an earlier run has done so much
    show(Progress(10, 2000, 500, 90_000))
    show(Progress(30, 2000, 3500, 91_000, peak_share=0.618))
    assert shown == [
        (500, 90_000, "tokens, 10 of 2,000 texts"),
        (500, 90_000, "tokens, 10 of 2,000 texts"),
        (3500, 91_000, "tokens, 30 of 2,000 texts, 1,500 tokens/s, 62% of peak"),
    ]
