"""Embedding that is killed, short of memory or poisoned: nothing is lost, nothing wrong is kept, all is named."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from armorm.features.catalog.query import query
from armorm.features.conversation import conversation_id, prompt_id, single_turn
from armorm.features.embedding import backbone as backbone_module
from armorm.features.embedding.embed import EmbedResult, EmbedSettings, Progress, embed_missing, why_incomplete
from armorm.features.embedding.fingerprint import BackboneSettings, read_fingerprint
from armorm.features.embedding.forecast import plan_embedding
from armorm.features.embedding.packs import Pack
from armorm.features.embedding.vectors import WHY
from armorm.features.errors import NotInStore, OutOfMemory
from armorm.features.store import Store, Writer
from armorm.features.vectors.shards import FeatureReader, VectorType, open_shard, shards_of, unusable
from tests.features import tiny
from tests.features.canonical import Dataset

pytestmark = pytest.mark.usefixtures("in_process")

Forward = Callable[..., torch.Tensor]
FORWARD: Forward = backbone_module.forward

SETTINGS = EmbedSettings(token_budget=128, shard_conversations=16, save_every_s=0)

ANSWERS = [f"answer {n} is {'here ' * (n % 4)}" for n in range(40)]


def conversation(number: int) -> Any:
    return single_turn(f"question {number // 4}", ANSWERS[number])


def fill(writer: Writer, numbers: Sequence[int] = range(40)) -> None:
    dataset = Dataset("mine")
    for number in numbers:
        dataset.rate(str(number), conversation(number), number % 5)
    dataset.commit(writer)


def why_embed(writer: Writer, backbone: BackboneSettings, vector_type: VectorType) -> str | None:
    return plan_embedding(writer.store, read_fingerprint(backbone), vector_type).reason


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> BackboneSettings:
    return BackboneSettings(str(tiny.write_backbone(tmp_path_factory.mktemp("backbone"))))


@pytest.fixture
def patch(monkeypatch: pytest.MonkeyPatch) -> Callable[[Forward], None]:
    """Puts a function in the place of the forward pass."""
    return lambda function: monkeypatch.setattr(backbone_module, "forward", function)


def counting(passes: list[Pack], stop_after: int | None = None) -> Forward:
    """Remembers the packs of texts (not those that loading probes with), and is killed at some point."""

    def forward(model: Any, last_layer: Any, pack: Pack) -> torch.Tensor:
        if len(pack.features[0].id) == 32:
            if len(passes) == stop_after:
                raise KeyboardInterrupt
            passes.append(pack)
        return FORWARD(model, last_layer, pack)

    return forward


def poisoned(ids: dict[str, float]) -> Forward:
    """Writes a number into the vectors of some texts; zero into all of it."""

    def forward(model: Any, last_layer: Any, pack: Pack) -> torch.Tensor:
        states_WD = FORWARD(model, last_layer, pack).clone()
        for row, wanted in enumerate(pack.features):
            if wanted.id in ids:
                states_WD[row, slice(None) if ids[wanted.id] == 0 else 3] = ids[wanted.id]
        return states_WD

    return forward


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, backbone: BackboneSettings) -> tuple[Store, list[Pack]]:
    """The store of an embedding that nothing has stopped, and its passes."""
    whole, passes = Store(tmp_path_factory.mktemp("undisturbed") / "whole"), list[Pack]()
    with pytest.MonkeyPatch.context() as patch, whole.writing("test") as writer:
        fill(writer)
        patch.setattr(backbone_module, "forward", counting(passes))
        embed_missing(writer, backbone, SETTINGS)
    assert len(passes) >= 10
    return whole, passes


@pytest.mark.parametrize("stop_after", [1, 3, 6, 9])
def test_a_killed_run_goes_on_within_a_shard_to_the_same_snapshot(
    tmp_path: Path,
    backbone: BackboneSettings,
    patch: Callable[[Forward], None],
    undisturbed: tuple[Store, list[Pack]],
    stop_after: int,
) -> None:
    whole, killed = undisturbed[0], Store(tmp_path / "killed")
    with killed.writing("test") as writer:
        fill(writer)

    passes: list[Pack] = []
    patch(counting(passes, stop_after))
    with killed.writing("test") as writer, pytest.raises(KeyboardInterrupt):
        embed_missing(writer, backbone, SETTINGS)
    patch(counting(passes))
    seen: list[Progress] = []
    with killed.writing("test") as writer:
        embed_missing(writer, backbone, SETTINGS, on_progress=seen.append)
    assert (seen[-1].texts, seen[-1].tokens) == (seen[-1].total_texts, seen[-1].total_tokens)
    assert passes == undisturbed[1]  # each pass once, and those that were put aside not again
    assert killed.head().within("unfinished") == {}
    assert killed.head().snapshot_id == whole.head().snapshot_id


def test_what_a_killed_run_loses_is_what_came_since_it_last_saved(
    writer: Writer, backbone: BackboneSettings, patch: Callable[[Forward], None]
) -> None:
    fill(writer)
    passes: list[Pack] = []
    patch(counting(passes, stop_after=3))
    rarely = EmbedSettings(token_budget=128, shard_conversations=16, save_every_s=3600)
    with pytest.raises(KeyboardInterrupt):
        embed_missing(writer, backbone, rarely)
    assert writer.store.head().within("unfinished") == {}


def test_parts_of_texts_that_are_gone_go_too(
    writer: Writer, backbone: BackboneSettings, patch: Callable[[Forward], None]
) -> None:
    fill(writer)
    patch(counting([], stop_after=2))
    with pytest.raises(KeyboardInterrupt):
        embed_missing(writer, backbone, SETTINGS)
    assert writer.store.head().within("unfinished")
    assert query(writer.store, "SELECT count(*) FROM features").rows == [(0,)]
    fill(writer, range(4))
    patch(FORWARD)
    assert embed_missing(writer, backbone, SETTINGS).n_conversations == 4
    assert writer.store.head().within("unfinished") == {}


def embed_all(store: Store, backbone: BackboneSettings) -> tuple[EmbedResult, np.ndarray]:
    """All in large passes; the vectors of all conversations."""
    with store.writing("test") as writer:
        fill(writer)
        result = embed_missing(writer, backbone, EmbedSettings(token_budget=1000, shard_conversations=16))
        reader = FeatureReader(writer.store, result.backbone_id)
        return result, reader.gather("conversation", [conversation_id(conversation(n)) for n in range(40)])


@pytest.fixture(scope="module")
def with_much_memory(tmp_path_factory: pytest.TempPathFactory, backbone: BackboneSettings) -> np.ndarray:
    """The vectors of all conversations."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backbone_module, "forward", FORWARD)
        return embed_all(Store(tmp_path_factory.mktemp("much") / "whole"), backbone)[1]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried ..."),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
        MemoryError(),
    ],
)
def test_too_little_memory_halves_the_passes(
    store: Store,
    backbone: BackboneSettings,
    patch: Callable[[Forward], None],
    with_much_memory: np.ndarray,
    error: Exception,
) -> None:
    def forward(model: Any, last_layer: Any, pack: Pack) -> torch.Tensor:
        if pack.n_tokens > 100 and len(pack.wanted) > 2:
            raise error
        return FORWARD(model, last_layer, pack)

    patch(forward)
    result, vectors = embed_all(store, backbone)
    assert (result.n_conversations, result.n_prompts) == (40, 10)
    assert result.token_budget < 1000
    assert np.abs(with_much_memory - vectors).max() < 1e-4


@pytest.mark.parametrize(
    ("error", "expected"),
    [(MemoryError(), OutOfMemory), (RuntimeError("shapes differ"), RuntimeError)],
)
def test_one_text_that_memory_does_not_hold_stops_the_run_by_name_and_another_error_as_it_is(
    writer: Writer,
    backbone: BackboneSettings,
    patch: Callable[[Forward], None],
    error: Exception,
    expected: type[Exception],
) -> None:
    def forward(model: Any, last_layer: Any, pack: Pack) -> torch.Tensor:
        if len(pack.features[0].id) == 32:
            raise error
        return FORWARD(model, last_layer, pack)

    fill(writer)
    patch(forward)
    with pytest.raises(expected) as caught:
        embed_missing(writer, backbone, SETTINGS)
    if isinstance(caught.value, OutOfMemory):
        assert f" {caught.value.n_tokens} tokens" in str(caught.value)
    else:
        assert caught.value is error


def test_vectors_that_cannot_be_kept_have_a_reason() -> None:
    vectors = np.ones((6, 4), np.float32)
    vectors[1, 2], vectors[2, 0], vectors[3] = np.nan, np.inf, 0
    vectors[4, 1], vectors[5, 1] = 70000, 3e38
    expected = [None, "not_finite", "not_finite", "zero"]
    assert unusable(vectors, "float32") == [*expected, None, "not_finite"]  # the squares of the last one overflow
    assert unusable(vectors, "float16") == [*expected, "float16_overflow", "not_finite"]
    assert unusable(np.full((1, 4), 1e-9, np.float32), "float16") == ["zero"]
    assert unusable([], "float16") == []


POISON = {3: np.nan, 4: np.inf, 17: 0.0, 21: 70000.0}


def test_a_poisoned_text_ends_in_rejects_and_not_the_run(
    writer: Writer,
    backbone: BackboneSettings,
    patch: Callable[[Forward], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ids = {conversation_id(conversation(n)): value for n, value in POISON.items()}
    bad_prompt = prompt_id(conversation(8))
    fill(writer)
    patch(poisoned(ids | {bad_prompt: np.nan}))
    halves = EmbedSettings(token_budget=128, shard_conversations=16, vector_type="float16")
    result = embed_missing(writer, backbone, halves)
    assert (result.n_conversations, result.n_prompts) == (36, 9)
    assert result.rejected == {"not_finite": 3, "zero": 1, "float16_overflow": 1}
    rows = query(writer.store, "SELECT dataset, source_row, scope, reason, raw FROM rejects ORDER BY scope").rows
    assert {row[0] for row in rows} == {f"backbone/{result.backbone_id}"}
    assert {row[1:4] for row in rows} == {
        (conversation_id(conversation(3)), "conversation", "not_finite"),
        (conversation_id(conversation(4)), "conversation", "not_finite"),
        (conversation_id(conversation(17)), "conversation", "zero"),
        (conversation_id(conversation(21)), "conversation", "float16_overflow"),
        (bad_prompt, "prompt", "not_finite"),
    }
    assert rows[-1][4] == '[["user","question 2"]]'
    reader = FeatureReader(writer.store, result.backbone_id)
    assert reader.gather("conversation", [conversation_id(conversation(5))]).shape == (1, 32)
    with pytest.raises(NotInStore):
        reader.gather("conversation", [conversation_id(conversation(3))])

    # What was rejected is not tried again ..
    number = writer.store.head().number
    assert why_embed(writer, backbone, "float16") is None
    with monkeypatch.context() as context:
        context.setattr("armorm.features.embedding.backbone.load", lambda *_: pytest.fail("loaded"))
        assert embed_missing(writer, backbone, halves).rejected == {}
    assert writer.store.head().number == number

    # .. but under another type of vector, or another version of the stage, it is, and it alone.
    assert re.search(r"\b4 conversations\b.*\b1 prompts\b", str(why_embed(writer, backbone, "float32")))
    again = embed_missing(writer, backbone, SETTINGS)
    assert (again.n_conversations, again.rejected) == (1, {"not_finite": 3, "zero": 1})
    assert query(writer.store, "SELECT count(*) FROM rejects").rows == [(4,)]
    patch(FORWARD)
    monkeypatch.setattr("armorm.features.embedding.embed.STAGE_VERSION", 99)
    assert embed_missing(writer, backbone, SETTINGS).n_conversations == 3
    assert query(writer.store, "SELECT count(*) FROM rejects").rows == [(0,)]
    assert why_incomplete(writer.store, result.backbone_id, "float32") is None


def test_a_shard_of_poison_alone_is_no_shard(
    writer: Writer, backbone: BackboneSettings, patch: Callable[[Forward], None]
) -> None:
    fill(writer, range(4))
    texts = [conversation_id(conversation(n)) for n in range(4)] + [prompt_id(conversation(0))]
    patch(poisoned(dict.fromkeys(texts, np.nan)))
    result = embed_missing(writer, backbone, SETTINGS)
    assert (result.n_shards, result.rejected) == (0, {"not_finite": 5})
    assert why_embed(writer, backbone, "float32") is None
    patch(FORWARD)
    fill(writer, range(8))
    assert embed_missing(writer, backbone, SETTINGS).n_conversations == 4


NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"


def test_a_conversation_that_the_template_refuses_is_rejected_by_name(writer: Writer, tmp_path: Path) -> None:
    folder = tiny.write_backbone(tmp_path / "backbone")
    (folder / "chat_template.jinja").write_text(NO_SYSTEM + tiny.TEMPLATES["bos"])
    dataset = Dataset("mine")
    dataset.rate("a", single_turn("question", "answer"), 1)
    dataset.rate("b", (("system", "Be brief."), *single_turn("question", "answer")), 1)
    dataset.commit(writer)
    result = embed_missing(writer, BackboneSettings(str(folder)), SETTINGS)
    assert (result.n_conversations, result.n_prompts, result.rejected) == (1, 1, {"not_rendered": 2})
    ((detail,),) = query(writer.store, "SELECT DISTINCT detail FROM rejects").rows
    assert re.search(r'\bsystem, user, assistant: .*\bsystem = "first_user" .*\[backbone\]', detail)


@pytest.mark.parametrize(
    ("dtype", "vector_type", "kept"),
    [
        ("float32", "auto", "float32"),
        ("bfloat16", "auto", "float16"),
        ("float16", "auto", "float16"),
        ("bfloat16", "float32", "float32"),
        ("float32", "float16", "float16"),
    ],
)
def test_vectors_are_kept_in_the_bits_that_they_have(
    writer: Writer, backbone: BackboneSettings, dtype: Any, vector_type: Any, kept: str
) -> None:
    fill(writer, range(4))
    settings = replace(SETTINGS, vector_type=vector_type)
    embed_missing(writer, replace(backbone, dtype=dtype), settings)
    (shards,) = shards_of(writer.store.head())
    stored = open_shard(writer.store, shards.artifacts[0].objects["shard"]).column("vector").type.value_type
    assert str(stored) == {"float32": "float", "float16": "halffloat"}[kept]
    assert why_embed(writer, replace(backbone, dtype=dtype), kept) is None  # type: ignore[arg-type]


def test_a_bfloat16_that_float16_does_not_hold_is_rejected_by_name_with_what_to_do(
    writer: Writer, backbone: BackboneSettings, patch: Callable[[Forward], None]
) -> None:
    fill(writer, range(4))
    patch(poisoned({conversation_id(conversation(1)): 1e5}))
    halves = replace(backbone, dtype="bfloat16")
    assert embed_missing(writer, halves, SETTINGS).rejected == {"float16_overflow": 1}
    ((detail,),) = query(writer.store, "SELECT detail FROM rejects").rows
    assert detail == WHY["float16_overflow"]
    assert 'vector_type = "float32"' in detail
    wide = embed_missing(writer, halves, replace(SETTINGS, vector_type="float32"))
    assert (wide.n_conversations, wide.rejected) == (1, {})
    assert query(writer.store, "SELECT count(*) FROM rejects").rows == [(0,)]
