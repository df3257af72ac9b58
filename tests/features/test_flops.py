"""Operations that an embedding needs, against torch's own count, and the best that the machine does."""

from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModel, GPT2Config, GPT2Model

from armorm.features.catalog.questions import ask
from armorm.features.embedding import flops
from armorm.features.embedding.embed import EmbedSettings, Progress, embed_missing
from armorm.features.embedding.fingerprint import BackboneSettings, Dtype
from armorm.features.embedding.flops import Cost, cost_of, least_flops, peak_flops, slowdown
from armorm.features.embedding.packs import Batch, TokenSequence, Wanted, plan_packs
from armorm.features.store import Made, Recipe, Store, Writer
from armorm.features.upkeep.doctor import examine
from tests.features import tiny
from tests.features.test_robust import fill


def text(length: int, *more: int, name: str = "a") -> TokenSequence:
    """A conversation of 4, 5, 6 .. and of other tokens, with its vector wanted."""
    tokens = (*range(4, 4 + length), *more)
    return TokenSequence(tokens, (Wanted("conversation", name, len(tokens) - 1, len(tokens)),))


def count(model: torch.nn.Module, one: TokenSequence) -> int:
    """What torch counts, where every token sees every token and every layer is whole."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.tensor([one.token_ids]), use_cache=False)
    return int(counter.get_total_flops())


@pytest.mark.parametrize("architecture", [*tiny.ARCHITECTURES, "gpt2"])
def test_a_text_needs_what_torch_counts_less_what_is_left_out(tmp_path: Path, architecture: str) -> None:
    if architecture == "gpt2":
        model = GPT2Model(GPT2Config(vocab_size=260, n_embd=32, n_layer=3, n_head=4, n_positions=64))
    else:
        model = AutoModel.from_pretrained(tiny.write_backbone(tmp_path, architecture=architecture))
    model.set_attn_implementation("eager")  # whose products are counted
    cost = cost_of(model)
    for n in (1, 20):
        (pack,) = plan_packs([text(n)], token_budget=100)
        unseen = (cost.layers - 1) * n * (n - 1) / 2 + n * (n - 1)
        left_out = unseen * cost.seen + (n - 1) * (cost.token - cost.keys_values)
        assert least_flops(cost, pack) + left_out == pytest.approx(count(model, text(n)), rel=2e-3)  # rotations


COST = Cost(layers=3, token=1000, keys_values=100, seen=1)


def test_a_shared_beginning_is_counted_once_and_padding_never() -> None:
    """Two answers of 5 and 7 tokens to a prompt of 20."""
    texts = [text(20, *[90] * 5), text(20, *[91] * 7, name="b")]
    (pack,) = plan_packs(texts, token_budget=100)
    last = 2 * 900 + 25 + 27
    shared = sum(range(1, 26)) + sum(range(21, 28))
    assert least_flops(COST, pack) == 2 * (32 * 1000 + shared) + 32 * 100 + last
    apart = sum(range(1, 26)) + sum(range(1, 28))
    assert least_flops(COST, Batch(tuple(texts))) == 2 * (52 * 1000 + apart) + 52 * 100 + last


def test_the_peak_is_measured_once_and_is_no_dream() -> None:
    peak = peak_flops("float32", "cpu")
    assert 1e8 < peak < 1e15
    assert peak_flops("float32", "cpu") == peak


def test_a_run_tells_and_keeps_its_share_of_the_peak(writer: Writer, tmp_path: Path) -> None:
    backbone = BackboneSettings(str(tiny.write_backbone(tmp_path)))
    fill(writer)
    seen: list[Progress] = []
    settings = EmbedSettings(token_budget=128, shard_conversations=16)
    result = embed_missing(writer, backbone, settings, on_progress=seen.append)
    assert seen[0].peak_share is None
    assert all(one.peak_share and 0 < one.peak_share < 1 for one in seen[1:2] + seen[-1:])
    assert result.peak_share
    assert 0 < result.peak_share < 1
    took = [shard.summary["measured"] for shard in writer.store.head().within("features").values()]
    assert len(took) == 3
    assert sum(one["forwarded"] for one in took) == result.n_forwarded
    assert {one["peak_flops"] for one in took} == {peak_flops("float32", "cpu")}
    assert embed_missing(writer, backbone, settings).peak_share is None


@pytest.fixture
def peaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a processor without units for bfloat16."""
    per_s = {"float32": 1000.0, "bfloat16": 200.0, "float16": 800.0}
    monkeypatch.setattr(flops, "peak_flops", lambda dtype, device: per_s[dtype])


@pytest.mark.parametrize(("dtype", "times"), [("float32", None), ("float16", None), ("bfloat16", 5.0)])
def test_a_type_that_is_slow_here_is_told(peaks: None, dtype: str, times: float | None) -> None:
    assert slowdown(dtype, "cpu") == times


def test_a_run_tells_of_a_slow_type_from_its_first_pass_on(peaks: None, writer: Writer, tmp_path: Path) -> None:
    backbone = BackboneSettings(str(tiny.write_backbone(tmp_path)), dtype="bfloat16")
    fill(writer)
    seen: list[Progress] = []
    embed_missing(writer, backbone, EmbedSettings(token_budget=128), on_progress=seen.append)
    assert {one.slowdown for one in seen} == {5.0}


def test_doctor_warns_of_a_slow_type(peaks: None, store: Store, tmp_path: Path) -> None:
    folder = str(tiny.write_backbone(tmp_path / "backbone"))
    dtypes: tuple[Dtype, ...] = ("float32", "bfloat16")
    verdicts = {
        dtype: {of.check: of.verdict for of in examine(store, lambda: store, BackboneSettings(folder, dtype=dtype))}
        for dtype in dtypes
    }
    assert {dtype: of["dtype"] for dtype, of in verdicts.items()} == {"float32": "ok", "bfloat16": "warning"}


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(("known", "share"), [(False, None), (True, 0.5)])
def test_where_the_peak_is_not_known_there_is_no_share_of_it(
    store: Store, writer: Writer, known: bool, share: float | None
) -> None:
    """Shards whose operations others did do not count as if this machine had done them."""
    took = {"tokens": 9, "forwarded": 9, "seconds": 1.0, "predicted_tokens": 9.0}
    shards = [took | {"flops": 8.0, "peak_flops": 0.0}] + [took | {"flops": 4.0, "peak_flops": 8.0}] * known
    for number, measured in enumerate(shards):
        writer.commit(Recipe(f"elsewhere/b/{number}", "embed", 1, {}, {}), Made({}, {"measured": measured}))
    (row,) = ask(store, "predicted").records
    assert row["shards"] == len(shards)
    assert row["peak_share"] == share
