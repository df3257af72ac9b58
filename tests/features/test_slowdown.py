"""How much slower a type is on this processor, and who is told."""

from pathlib import Path

import pytest

from armorm.features.embedding import slowdown as slow
from armorm.features.embedding.embed import EmbedSettings, Progress, embed_missing
from armorm.features.embedding.fingerprint import BackboneSettings, Dtype
from armorm.features.embedding.slowdown import product_s, slowdown
from armorm.features.store import Store, Writer
from armorm.features.upkeep.doctor import examine
from tests.features import tiny
from tests.features.test_robust import fill


def test_the_speed_of_products_is_measured_once_and_is_no_dream() -> None:
    seconds = product_s("float32")
    assert 1e8 < 2 * slow.ROWS**3 / seconds < 1e15
    assert product_s("float32") == seconds


def test_a_run_keeps_what_was_forwarded(writer: Writer, tmp_path: Path) -> None:
    backbone = BackboneSettings(str(tiny.write_backbone(tmp_path)))
    fill(writer)
    result = embed_missing(writer, backbone, EmbedSettings(token_budget=128, shard_conversations=16))
    took = [shard.summary["measured"] for shard in writer.store.head().within("features").values()]
    assert len(took) == 3
    assert sum(one["forwarded"] for one in took) == result.n_forwarded


@pytest.fixture
def speeds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Speeds of a processor without units for bfloat16."""
    seconds = {"float32": 1.0, "bfloat16": 5.0, "float16": 1.25}
    monkeypatch.setattr(slow, "product_s", seconds.__getitem__)


@pytest.mark.parametrize(("dtype", "times"), [("float32", None), ("float16", None), ("bfloat16", 5.0)])
def test_a_type_that_is_slow_here_is_told(speeds: None, dtype: str, times: float | None) -> None:
    assert slowdown(dtype, "cpu") == times


def test_a_run_tells_of_a_slow_type_from_its_first_pass_on(speeds: None, writer: Writer, tmp_path: Path) -> None:
    backbone = BackboneSettings(str(tiny.write_backbone(tmp_path)), dtype="bfloat16")
    fill(writer)
    seen: list[Progress] = []
    embed_missing(writer, backbone, EmbedSettings(token_budget=128), on_progress=seen.append)
    assert {one.slowdown for one in seen} == {5.0}


def test_doctor_warns_of_a_slow_type(speeds: None, store: Store, tmp_path: Path) -> None:
    folder = str(tiny.write_backbone(tmp_path / "backbone"))
    dtypes: tuple[Dtype, ...] = ("float32", "bfloat16")
    verdicts = {
        dtype: {of.check: of.verdict for of in examine(store, lambda: store, BackboneSettings(folder, dtype=dtype))}
        for dtype in dtypes
    }
    assert {dtype: of["dtype"] for dtype, of in verdicts.items()} == {"float32": "ok", "bfloat16": "warning"}
