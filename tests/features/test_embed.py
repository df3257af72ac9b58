"""Embedding equals a plain one-at-a-time forward pass, is done once, and resumes to the same bytes."""

import random
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel

from armorm.features.catalog.query import query
from armorm.features.conversation import Conversation, SplitFractions, conversation_id, prompt_id, single_turn
from armorm.features.embedding.backbone import Backbone, load
from armorm.features.embedding.embed import EmbedSettings, Progress, embed_missing
from armorm.features.embedding.fingerprint import BackboneSettings, read_fingerprint
from armorm.features.embedding.render import common_prefix, render
from armorm.features.embedding.vectors import embed_conversations
from armorm.features.errors import BackboneError
from armorm.features.ingest.dataset import DatasetFiles, ingest_dataset
from armorm.features.sources import find_source
from armorm.features.store import Store, Writer
from armorm.features.vectors.shards import Feature, FeatureReader
from tests.features import tiny
from tests.features.canonical import Dataset

Features = dict[tuple[str, str], Feature]

WORDS = ["tea", "été", "river", "北京", "12", "why?", "\n\n", "🙂", "list:", "a"]


def corpus(seed: int, n_prompts: int = 12) -> list[Conversation]:
    """Conversations of one to five turns and 1 to 60 words, up to four answers a prompt."""
    rng = random.Random(seed)

    def text(most: int) -> str:
        return "x" + " ".join(rng.choices(WORDS, k=rng.randint(1, most)))

    result: list[Conversation] = []
    for _ in range(n_prompts):
        prompt = [(role, text(20)) for _ in range(rng.randint(0, 1)) for role in ("user", "assistant")]
        system = [("system", text(5))] if rng.random() < 0.3 else []
        for _ in range(rng.randint(1, 4)):
            result.append((*system, *prompt, ("user", "same question"), ("assistant", text(60))))
    return list(dict.fromkeys(result))


def embed_all(
    backbone: Backbone, conversations: list[Conversation], budget: int = 512
) -> dict[tuple[str, str], Feature]:
    ids = {conversation_id(messages) for messages in conversations}
    prompts = {prompt_id(messages) for messages in conversations}
    embedded = embed_conversations(backbone, conversations, ids, prompts, token_budget=budget)
    assert not embedded.rejects
    return {(feature.kind, feature.id): feature for feature in embedded.features}


@pytest.mark.parametrize("template", ["bos", "no_bos", "plain"])
@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_features_equal_one_at_a_time(tmp_path: Path, architecture: str, template: str, seed: int) -> None:
    folder = tiny.write_backbone(tmp_path, architecture=architecture, template=template)
    settings = BackboneSettings(str(folder))
    conversations = corpus(seed)
    features = embed_all(load(settings, read_fingerprint(settings)), conversations)

    model, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)

    def plain(messages: Conversation) -> tuple[list[int], torch.Tensor]:
        turns = [{"role": role, "content": content} for role, content in messages]
        ids = tokenizer.apply_chat_template(turns, tokenize=True, return_dict=True)["input_ids"]
        with torch.no_grad():
            return ids, model(torch.tensor([ids])).last_hidden_state[0]

    for messages in conversations:
        ids, states = plain(messages)
        prompt_ids, _ = plain(messages[:-1])
        assert ids.count(tokenizer.bos_token_id) == (template == "bos")
        n_prompt = common_prefix(tuple(ids), tuple(prompt_ids))
        conversation = features["conversation", conversation_id(messages)]
        prompt = features["prompt", prompt_id(messages)]
        assert (conversation.n_tokens, prompt.n_tokens) == (len(ids), n_prompt)
        assert np.abs(conversation.vector - states[-1].numpy()).max() < 1e-4
        assert np.abs(prompt.vector - states[n_prompt - 1].numpy()).max() < 1e-4
    assert len(features) == len(conversations) + len({prompt_id(m) for m in conversations})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_backbone(tmp_path_factory.mktemp("backbone"))


@pytest.fixture(scope="module")
def settings(folder: Path) -> BackboneSettings:
    return BackboneSettings(str(folder))


@pytest.fixture(scope="module")
def backbone(settings: BackboneSettings) -> Backbone:
    return load(settings, read_fingerprint(settings))


def test_a_prompt_ends_at_its_end_of_turn_token(backbone: Backbone) -> None:
    (rendered,) = render(backbone.tokenizer, [(("user", "hello"), ("assistant", "there"))]).rendered
    prompt = backbone.tokenizer.decode(rendered.token_ids[: rendered.n_prompt_tokens])
    assert prompt == "<bos><turn>user\nhello<end>\n"


def test_a_batch_changes_nothing(backbone: Backbone, seed: int) -> None:
    conversations = corpus(seed)
    alone, together = (embed_all(backbone, conversations, budget) for budget in (1, 10_000))
    for key, feature in alone.items():
        assert np.abs(feature.vector - together[key].vector).max() < 1e-4


@pytest.mark.parametrize("padded", [False, True])
def test_order_threads_and_budget_change_nothing(settings: BackboneSettings, seed: int, padded: bool) -> None:
    backbone = load(settings, read_fingerprint(settings))
    if padded:
        backbone.model.set_attn_implementation("sdpa")
        backbone = replace(backbone, last_layer=None)
    conversations = corpus(seed)
    expected = embed_all(backbone, conversations)
    rng = random.Random(seed)
    for threads, budget in ((1, 64), (2, 512), (2, 4096)):
        torch.set_num_threads(threads)
        try:
            got = embed_all(backbone, rng.sample(conversations, len(conversations)), budget)
        finally:
            torch.set_num_threads(1)
        assert got.keys() == expected.keys()
        for key, feature in expected.items():
            assert got[key].n_tokens == feature.n_tokens
            assert np.abs(feature.vector - got[key].vector).max() < 1e-4


def test_what_is_too_long_loses_its_beginning_and_says_so(settings: BackboneSettings) -> None:
    short = replace(settings, max_tokens=40)
    long_answer = (("user", "q"), ("assistant", "word " * 30))
    long_prompt = (("user", "word " * 30), ("assistant", "a"))
    features = embed_all(load(short, read_fingerprint(short)), [long_answer, long_prompt])
    truncated = {key: feature.truncated for key, feature in features.items()}
    assert truncated == {
        ("conversation", conversation_id(long_answer)): True,
        ("prompt", prompt_id(long_answer)): False,
        ("conversation", conversation_id(long_prompt)): True,
        ("prompt", prompt_id(long_prompt)): True,
    }


def test_the_fingerprint_is_over_content_and_settings(folder: Path, settings: BackboneSettings, tmp_path: Path) -> None:
    import shutil

    moved = Path(shutil.copytree(folder, tmp_path / "elsewhere"))
    here = read_fingerprint(settings).backbone_id
    assert read_fingerprint(BackboneSettings(str(moved))).backbone_id == here
    assert read_fingerprint(replace(settings, max_tokens=100)).backbone_id != here
    assert read_fingerprint(replace(settings, dtype="bfloat16")).backbone_id != here
    (moved / "chat_template.jinja").write_text(tiny.TEMPLATES["no_bos"])
    assert read_fingerprint(BackboneSettings(str(moved))).backbone_id != here


def test_every_file_that_may_make_the_tokenizer_is_in_the_fingerprint(folder: Path, tmp_path: Path) -> None:
    import shutil

    moved = Path(shutil.copytree(folder, tmp_path / "elsewhere"))
    settings = BackboneSettings(str(moved))
    before = read_fingerprint(settings).backbone_id
    (moved / "vocab.txt").write_text("of no use beside tokenizer.json")
    assert read_fingerprint(settings).backbone_id == before
    (moved / "tokenizer.4.0.0.json").write_text("{}")  # what fast_tokenizer_files may name
    assert read_fingerprint(settings).backbone_id != before
    (moved / "tokenizer.json").unlink()
    assert {"vocab.txt", "tokenizer.4.0.0.json"} <= set(read_fingerprint(settings).record["tokenizer"])


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda folder: (folder / "chat_template.jinja").unlink(), r"\bchat_template\.jinja\b.*\[backbone\]"),
        (lambda folder: (folder / "config.json").unlink(), r"\bconfig\.json\b.*\bmissing\b"),
        (lambda folder: (folder / "config.json").write_text("{"), r"\bconfig\.json\b.*\bJSON\b"),
        (lambda folder: (folder / "chat_template.jinja").write_bytes(b"\xff"), r"\bchat_template\.jinja\b.*\bUTF-8\b"),
        (lambda folder: (folder / "model.safetensors").unlink(), r"no \*.safetensors"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"nothing"), r"\btransformers\b"),
    ],
)
def test_a_broken_folder_is_one_line(tmp_path: Path, break_it, message: str) -> None:  # type: ignore[no-untyped-def]
    settings = BackboneSettings(str(tiny.write_backbone(tmp_path)))
    break_it(tmp_path)
    with pytest.raises(BackboneError, match=message) as error:
        load(settings, read_fingerprint(settings))
    assert "\n" not in str(error.value)


def test_a_device_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    settings = BackboneSettings(str(tiny.write_backbone(tmp_path)), device="cuda:99")
    with pytest.raises(BackboneError, match=r"\bcuda:99\b") as error:
        load(settings, read_fingerprint(settings))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("scale", [1.0, 1e-4])
def test_an_encoder_is_refused(tmp_path: Path, scale: float) -> None:
    """However small the numbers of its vectors are."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    model = BertModel(BertConfig(vocab_size=300, initializer_range=0.5, **sizes))
    with torch.no_grad():
        model.encoder.layer[-1].output.LayerNorm.weight *= scale
    model.save_pretrained(tmp_path)
    tiny.write_tokenizer(tmp_path, "bos")
    settings = BackboneSettings(str(tmp_path))
    with pytest.raises(BackboneError, match=r"\bcausal\b"):
        load(settings, read_fingerprint(settings))


@pytest.mark.parametrize("path", ["./nowhere", "nobody/nothing-of-that-name"])
def test_a_backbone_that_is_nowhere_is_one_line(path: str) -> None:
    with pytest.raises(BackboneError) as error:
        read_fingerprint(BackboneSettings(path))
    assert "\n" not in str(error.value)


def rated_rows(n: int) -> list[str]:
    row = '{{"prompt": "p{p}", "response": "answer {n} is here", "is_safe": {safe}}}'
    return [row.format(p=i // 3, n=i, safe=str(i % 2 == 0).lower()) for i in range(n)]


def ingest(writer: Writer, folder: Path, rows: list[str]) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "rows.jsonl").write_text("\n".join(rows))
    ingest_dataset(writer, DatasetFiles(find_source("beavertails-30k"), folder, {}), splits=SplitFractions())


SMALL = EmbedSettings(token_budget=256, shard_conversations=8)


def test_a_second_run_embeds_nothing_and_loads_nothing(
    writer: Writer, tmp_path: Path, settings: BackboneSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest(writer, tmp_path / "data", rated_rows(30))
    first = embed_missing(writer, settings, SMALL)
    assert (first.n_conversations, first.n_prompts, first.n_shards) == (30, 10, 4)
    monkeypatch.setattr("armorm.features.embedding.backbone.load", lambda *_: pytest.fail("loaded"))
    number = writer.store.head().number
    second = embed_missing(writer, settings, SMALL)
    assert (second.n_conversations, second.n_prompts, second.n_present) == (0, 0, 40)
    assert writer.store.head().number == number


def test_only_what_is_new_is_embedded_and_a_label_is_not_content(
    writer: Writer, tmp_path: Path, settings: BackboneSettings
) -> None:
    rows = rated_rows(30)
    ingest(writer, tmp_path / "data", rows)
    embed_missing(writer, settings, SMALL)
    rows[3] = rows[3].replace("answer 3", "another answer")
    rows[5] = rows[5].replace("false", "true")
    rows.append(rows[0].replace("answer 0", "one more answer"))  # to a prompt that has its vector
    ingest(writer, tmp_path / "data", rows)
    again = embed_missing(writer, settings, SMALL)
    assert (again.n_conversations, again.n_prompts) == (2, 0)


def test_a_stopped_run_is_continued_to_the_same_shards(
    tmp_path: Path, settings: BackboneSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shards(store: Store) -> dict[str, str]:
        return store.head().ids_within(f"features/{read_fingerprint(settings).backbone_id}")

    whole, stopped = Store(tmp_path / "whole"), Store(tmp_path / "stopped")
    for store in (whole, stopped):
        with store.writing("test") as writer:
            ingest(writer, tmp_path / "data", rated_rows(50))
    with whole.writing("test") as writer:
        embed_missing(writer, settings, SMALL)

    def stop_after_two(done: Progress) -> None:
        if len(shards(stopped)) == 2:
            raise KeyboardInterrupt

    with stopped.writing("test") as writer, pytest.raises(KeyboardInterrupt):
        embed_missing(writer, settings, SMALL, on_progress=stop_after_two)
    finished = shards(stopped)
    assert len(finished) == 2
    with stopped.writing("test") as writer:
        result = embed_missing(writer, settings, SMALL)
    assert result.n_conversations == 50 - 16
    assert finished.items() <= shards(stopped).items()
    assert shards(stopped) == shards(whole)
    assert stopped.head().snapshot_id == whole.head().snapshot_id


def test_progress_tells_texts_and_tokens_and_what_sharing_saves(
    writer: Writer, tmp_path: Path, settings: BackboneSettings
) -> None:
    ingest(writer, tmp_path / "data", rated_rows(50))
    seen: list[Progress] = []
    result = embed_missing(writer, settings, SMALL, on_progress=seen.append)
    assert {one.total_texts for one in seen} == {67}
    assert (seen[0].texts, seen[0].tokens, seen[-1].texts) == (0, 0, 67)
    assert seen[-1].tokens == seen[-1].total_tokens == result.n_tokens
    assert all(one.tokens <= two.tokens and one.texts <= two.texts for one, two in pairwise(seen))
    assert all(abs(one.total_tokens / result.n_tokens - 1) < 0.1 for one in seen)  # known from the first shard on
    assert 0 < result.n_forwarded < result.n_tokens  # three answers go on from one prompt


@pytest.mark.usefixtures("in_process")
def test_conversations_that_go_on_from_one_another_share_a_pass(writer: Writer, settings: BackboneSettings) -> None:
    """Twenty dialogues of two exchanges and their beginnings."""
    dataset, longer = Dataset("mine"), []
    for number in range(20):
        one = single_turn(f"question {number} " + "more " * (number % 5), f"answer {number}")
        longer.append((*one, *single_turn("and then?", f"that {number}")))
        dataset.rate(f"short {number}", one, 1)
        dataset.rate(f"long {number}", longer[-1], 1)
    dataset.commit(writer)
    result = embed_missing(writer, settings, EmbedSettings(shard_conversations=2))
    assert (result.n_conversations, result.n_prompts, result.n_shards) == (40, 40, 20)
    kept = query(writer.store, "SELECT id, n_tokens FROM features WHERE kind = 'conversation'").rows
    n_tokens = dict(kept)
    assert result.n_forwarded == sum(n_tokens[conversation_id(one)] for one in longer)
    assert embed_missing(writer, settings, SMALL).n_shards == 0


def test_two_backbones_stand_side_by_side(writer: Writer, tmp_path: Path, settings: BackboneSettings) -> None:
    other = BackboneSettings(str(tiny.write_backbone(tmp_path / "other", architecture="qwen2")))
    ingest(writer, tmp_path / "data", rated_rows(6))
    ids = [embed_missing(writer, which, SMALL).backbone_id for which in (settings, other)]
    one = [conversation_id((("user", "p0"), ("assistant", "answer 0 is here")))]
    first, second = (FeatureReader(writer.store, id).gather("conversation", one) for id in ids)
    assert not np.allclose(first, second)
