"""Templates of every temper: where the prompt ends, one BOS, system turns, and texts that are too long."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from armorm.features.conversation import Conversation, conversation_id, prompt_id, single_turn
from armorm.features.embedding.backbone import load
from armorm.features.embedding.embed import EmbedSettings, embed_missing
from armorm.features.embedding.fingerprint import BackboneSettings, OverLong, read_fingerprint
from armorm.features.embedding.render import render, shortened
from armorm.features.embedding.vectors import Embedded, embed_conversations, plan_texts
from armorm.features.errors import BackboneError
from armorm.features.store import Writer, content_id
from armorm.flows.configuration.settings import load_settings
from tests.features import tiny
from tests.features.canonical import Dataset
from tests.features.test_robust import NO_SYSTEM

TURNS = tiny.TEMPLATES["no_bos"]
ASSISTANT_LAST = "{% if messages[-1]['role'] != 'assistant' %}{{ raise_exception('answer it') }}{% endif %}"

ONE = single_turn("hello", "there")
TALK: Conversation = (
    ("system", "Be brief."),
    *[(role, f"{role} {n}") for n in range(3) for role in ("user", "assistant")],
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_backbone(tmp_path_factory.mktemp("backbone"))


def tokenizer_of(folder: Path, template: str) -> PreTrainedTokenizerBase:
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = template
    return tokenizer  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("template", "prompt"),
    [
        (TURNS, "<turn>user\nhello<end>\n"),
        ("{{ bos_token }}" + TURNS, "<bos><turn>user\nhello<end>\n"),
        # Each ends the prompt in a way of its own that no conversation has: what both share counts.
        (TURNS + "{% if messages[-1]['role'] == 'user' %}<pad>{% endif %}", "<turn>user\nhello<end>\n"),
        # A prompt alone is refused, or written otherwise: then what stands before an answer, whatever the answer.
        (ASSISTANT_LAST + TURNS, "<turn>user\nhello<end>\n<turn>assistant\n"),
        ("{{ messages|length }}" + TURNS, "2<turn>user\nhello<end>\n<turn>assistant\n"),
        ("{{ bos_token }}{{ messages|length }}" + TURNS, "<bos>2<turn>user\nhello<end>\n<turn>assistant\n"),
        ("{% for m in messages %}{{ m['content']|tojson }}{% endfor %}", '"hello"'),
    ],
)
def test_the_prompt_ends_where_the_template_says(folder: Path, template: str, prompt: str) -> None:
    tokenizer = tokenizer_of(folder, template)
    (one,) = render(tokenizer, [ONE]).rendered
    assert tokenizer.decode(one.token_ids[: one.n_prompt_tokens]) == prompt
    (other,) = render(tokenizer, [single_turn("hello", "why?")]).rendered
    assert other.token_ids[: other.n_prompt_tokens] == one.token_ids[: one.n_prompt_tokens]


def test_a_template_that_writes_nothing_rejects_by_name(folder: Path) -> None:
    rendering = render(tokenizer_of(folder, "{{ '' }}"), [ONE])
    assert rendering.rendered == []
    ((id, why),) = rendering.refused.items()
    assert id == conversation_id(ONE)
    assert re.search(r"\btemplate\b.*\bnothing\b", why)


def test_a_prompt_that_no_template_rule_finds_costs_the_conversation_nothing(tmp_path: Path) -> None:
    folder = tiny.write_backbone(tmp_path)
    (folder / "chat_template.jinja").write_text("{{ messages[-1]['content'] }}")  # begins with the answer
    settings = BackboneSettings(str(folder))
    texts = plan_texts(load(settings, read_fingerprint(settings)), [ONE], {conversation_id(ONE)}, {prompt_id(ONE)})
    assert [wanted.kind for sequence in texts.sequences for wanted in sequence.wanted] == ["conversation"]
    assert [(reject.kind, reject.reason) for reject in texts.rejects] == [("prompt", "not_rendered")]


def test_system_turns_go_where_they_are_told(folder: Path) -> None:
    tokenizer = tokenizer_of(folder, NO_SYSTEM + TURNS)
    assert len(render(tokenizer, [TALK, ONE]).refused) == 1
    folded = render(tokenizer, [TALK, ONE], system="first_user")
    assert tokenizer.decode(folded.rendered[0].token_ids).startswith(
        "<turn>user\nBe brief.\n\nuser 0<end>\n<turn>assis"
    )
    assert folded.rendered[0].conversation_id == conversation_id(TALK)
    assert folded.rendered[1] == render(tokenizer, [ONE]).rendered[0]


def test_settings_that_vectors_depend_on_make_another_backbone_and_the_usual_ones_do_not(folder: Path) -> None:
    usual = read_fingerprint(BackboneSettings(str(folder)))
    others: list[dict[str, Any]] = [{"over_long": "drop_turns"}, {"over_long": "refuse"}, {"system": "first_user"}]
    ids = {read_fingerprint(replace(BackboneSettings(str(folder)), **other)).backbone_id for other in others}
    assert len(ids | {usual.backbone_id}) == 4
    assert not {"over_long", "system"} & usual.record.keys()
    assert (usual.over_long, usual.system) == ("cut_left", "template")


def test_a_template_of_its_own_for_a_model_that_has_none(tmp_path: Path, writer: Writer) -> None:
    bare = tiny.write_backbone(tmp_path / "bare", template=None)
    with pytest.raises(BackboneError, match=rf"{bare} .*\bchat_template\.jinja\b.*\[backbone\]"):
        read_fingerprint(BackboneSettings(str(bare)))
    with pytest.raises(BackboneError, match=rf"\bchat_template {tmp_path / 'none.jinja'}\b") as caught:
        read_fingerprint(BackboneSettings(str(bare), chat_template=str(tmp_path / "none.jinja")))
    assert isinstance(caught.value.__cause__, FileNotFoundError)
    (tmp_path / "mine.jinja").write_text(tiny.TEMPLATES["bos"])
    (tmp_path / "armorm.toml").write_text(
        '[backbone]\npath = "bare"\nchat_template = "mine.jinja"\n[datasets.helpsteer]\npath = "data"\n'
    )
    settings = load_settings(tmp_path / "armorm.toml").local_backbone()
    assert settings.chat_template == str(tmp_path / "mine.jinja")
    dressed = BackboneSettings(str(tiny.write_backbone(tmp_path / "dressed", template="bos")))
    one, other = (load(of, read_fingerprint(of)).tokenizer for of in (settings, dressed))
    assert render(one, [ONE, TALK]).rendered == render(other, [ONE, TALK]).rendered
    assert read_fingerprint(settings).record["chat_template"] == read_fingerprint(dressed).record["chat_template"]

    before = read_fingerprint(settings).backbone_id
    (tmp_path / "mine.jinja").write_text(tiny.TEMPLATES["plain"])
    assert read_fingerprint(settings).backbone_id != before
    dataset = Dataset("mine")
    dataset.rate("a", ONE, 1)
    dataset.commit(writer)
    assert embed_missing(writer, settings, EmbedSettings()).n_conversations == 1


def test_the_oldest_exchanges_go_first_and_the_system_turn_never() -> None:
    assert [[content for _, content in one] for one in shortened(TALK)] == [
        ["Be brief.", "user 1", "assistant 1", "user 2", "assistant 2"],
        ["Be brief.", "user 2", "assistant 2"],
    ]
    assert shortened(ONE) == []


def embedded(folder: Path, conversations: list[Conversation], over_long: OverLong, max_tokens: int) -> Embedded:
    settings = BackboneSettings(str(folder), max_tokens=max_tokens, over_long=over_long)
    ids = {conversation_id(one) for one in conversations}
    prompts = {prompt_id(one) for one in conversations}
    return embed_conversations(
        load(settings, read_fingerprint(settings)), conversations, ids, prompts, token_budget=512
    )


LONG = single_turn("short", "word " * 30)


@pytest.mark.parametrize("over_long", ["cut_left", "drop_turns", "refuse"])
def test_what_is_too_long_follows_the_policy_and_is_marked_in_its_row(folder: Path, over_long: OverLong) -> None:
    result = embedded(folder, [ONE, TALK, LONG], over_long, 100)
    truncated = {(feature.kind, feature.id): feature.truncated for feature in result.features}
    rejected = {(reject.kind, reject.id): reject.reason for reject in result.rejects}
    talk, long = (("conversation", conversation_id(one)) for one in (TALK, LONG))
    assert not any(truncated.pop((kind, id)) for kind, id in [("conversation", conversation_id(ONE))])
    expected: dict[str, tuple[Any, Any]] = {  # of the talk, and of the one exchange that is too long by itself
        "cut_left": (True, True),
        "drop_turns": (True, "over_long"),
        "refuse": ("over_long", "over_long"),
    }
    assert tuple(truncated.get(name, rejected.get(name)) for name in (talk, long)) == expected[over_long]
    assert truncated["prompt", prompt_id(LONG)] is False  # the prompt itself is short
    assert len(truncated) + len(rejected) == 5


def test_a_text_without_its_oldest_exchanges_is_embedded_as_what_is_left(folder: Path) -> None:
    (whole,) = [one for one in embedded(folder, [TALK], "drop_turns", 100).features if one.kind == "conversation"]
    (left,) = [one for one in embedded(folder, [shortened(TALK)[0]], "refuse", 100).features if one.kind != "prompt"]
    assert abs(whole.vector - left.vector).max() < 1e-5  # other texts are computed beside it
    assert whole.n_tokens > 100 >= left.n_tokens
    assert (whole.truncated, left.truncated) == (True, False)


def test_the_reason_says_what_to_do(folder: Path) -> None:
    (reject,) = [one for one in embedded(folder, [LONG], "refuse", 100).rejects if one.kind == "conversation"]
    assert re.search(r"\b100 \(over_long .*\bmax_tokens\b.*\bover_long\b", reject.detail)


LLAMA = (
    "{# strftime_now #}{% if strftime_now is defined %}{% set today = strftime_now('%d %b %Y') %}"
    "{% else %}{% set today = '26 Jul 2024' %}{% endif %}"
)
GRANITE = """{% set today = "Today's Date: " + strftime_now("%B %d, %Y") + '.' %}"""
TODAY = "{% for m in messages %}<turn>{{ m['role'] }} {{ today }}\n{{ m['content'] }}<end>\n{% endfor %}"


@pytest.mark.parametrize(("head", "written"), [(LLAMA, "26 Jul 2024"), (GRANITE, "Today's Date: July 26, 2024.")])
@pytest.mark.parametrize("given", ["folder", "several", "settings"])
def test_a_template_with_todays_date_writes_the_same_one_every_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: str, written: str, given: str
) -> None:
    folder, template = tiny.write_backbone(tmp_path / "backbone"), head + TODAY
    settings = BackboneSettings(str(folder))
    if given == "settings":
        (tmp_path / "mine.jinja").write_text(template)
        settings = replace(settings, chat_template=str(tmp_path / "mine.jinja"))
    elif given == "folder":
        (folder / "chat_template.jinja").write_text(template)
    else:
        (folder / "chat_template.jinja").unlink()
        config = json.loads((folder / "tokenizer_config.json").read_text())
        named = [{"name": "default", "template": template}, {"name": "tool_use", "template": TODAY}]
        (folder / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": named}))
    backbone = load(settings, read_fingerprint(settings))
    assert backbone.fingerprint.record["date"] == "2024-07-26"
    text: Any = backbone.tokenizer.apply_chat_template([{"role": "user", "content": "question"}], tokenize=False)
    assert text == f"<turn>user {written}\nquestion<end>\n"


def test_a_template_without_a_date_leaves_the_fingerprint_as_it_was(tmp_path: Path) -> None:
    settings = BackboneSettings(str(tiny.write_backbone(tmp_path)))
    fingerprint = read_fingerprint(settings)
    assert "date" not in fingerprint.record
    assert fingerprint.record["chat_template"] == content_id(tiny.TEMPLATES["bos"])


@pytest.mark.parametrize(
    ("template", "culprit"),
    [
        ("{{ strftime_now(messages[0]['content']) }}", "strftime_now"),
        ("{% set now = strftime_now %}{{ now('%d') }}", "strftime_now"),
        ("{{ ['a', 'b'] | random }}", "random"),
    ],
)
def test_a_template_that_still_depends_on_the_clock_or_on_chance_is_refused(
    tmp_path: Path, template: str, culprit: str
) -> None:
    folder = tiny.write_backbone(tmp_path)
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(BackboneError, match=rf"\b{culprit}\).*\bchat_template\b.*\[backbone\]") as error:
        read_fingerprint(BackboneSettings(str(folder)))
    assert "\n" not in str(error.value)
