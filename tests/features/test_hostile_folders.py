"""Nothing of a backbone's folder is run, whoever is asked; what would change with a package is refused."""

import builtins
import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModel, AutoTokenizer, dynamic_module_utils

from armorm import RewardModel
from armorm.features.conversation import conversation_id, single_turn
from armorm.features.embedding import sandbox
from armorm.features.embedding.backbone import load
from armorm.features.embedding.canary import take_canaries
from armorm.features.embedding.fingerprint import BackboneSettings, read_fingerprint
from armorm.features.embedding.render import render
from armorm.features.embedding.template import dated
from armorm.features.errors import BackboneError
from tests.features import hostile, tiny


@pytest.fixture(autouse=True)
def _says_yes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Whoever asks is told yes; code that is copied goes into the test's folder."""
    monkeypatch.setattr(builtins, "input", lambda *_: "y")
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 100))
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    yield
    sys.modules.pop("evil", None)


@pytest.mark.parametrize("kind", hostile.KINDS)
def test_a_hostile_folder_is_refused_in_one_line_and_nothing_runs(kind: str, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    settings = BackboneSettings(str(hostile.write(tmp_path / "folder", kind, marker)))
    with pytest.raises(BackboneError) as error:
        load(settings, read_fingerprint(settings))
    assert "\n" not in str(error.value)
    assert not marker.exists()


@pytest.mark.parametrize("kind", hostile.HARMLESS)
def test_what_a_backbone_does_not_need_is_not_looked_at(kind: str, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    settings = BackboneSettings(str(hostile.write(tmp_path / "folder", kind, marker)))
    assert load(settings, read_fingerprint(settings)).why_padded is None
    assert not marker.exists()


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "model.safetensors",
        "more.safetensors",
        "additional_chat_templates/other.jinja",
        "question_encoder_tokenizer/tokenizer.json",
    ],
)
@pytest.mark.parametrize("lies_there", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_what_never_comes_to_an_end_is_not_read(name: str, lies_there: Callable[[Path], None], tmp_path: Path) -> None:
    path = tiny.write_backbone(tmp_path) / name
    path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    lies_there(path)
    with pytest.raises(BackboneError):
        read_fingerprint(BackboneSettings(str(tmp_path)))


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "generation_config.json",
        "adapter_config.json",
        "chat_template.jinja",
        "tokenizer.model",
        "merges.txt",
        "model.safetensors",
        "model.safetensors.index.json",
        "checksums.json",
    ],
)
def test_a_folder_where_a_file_should_be_is_one_line(name: str, tmp_path: Path) -> None:
    path = tiny.write_backbone(tmp_path) / name
    path.unlink(missing_ok=True)
    path.mkdir()
    with pytest.raises(BackboneError) as error:
        read_fingerprint(BackboneSettings(str(tmp_path)))
    assert name in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("config.json", {"num_hidden_layers": 10**8}),
        ("config.json", {"num_hidden_layers": -1}),
        ("config.json", {"text_config": {"hidden_size": 32}}),
        ("tokenizer_config.json", {"model_max_length": "x"}),
    ],
)
def test_settings_that_make_no_backbone_are_one_line(name: str, values: dict[str, object], tmp_path: Path) -> None:
    folder = tiny.write_backbone(tmp_path)
    hostile.change(folder / name, **values)
    settings = BackboneSettings(str(folder))
    with pytest.raises(BackboneError) as error:
        load(settings, read_fingerprint(settings))
    assert "\n" not in str(error.value)


def test_a_model_larger_than_its_files_is_never_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny.write_backbone(tmp_path)
    hostile.change(folder / "config.json", num_hidden_layers=4)
    settings = BackboneSettings(str(folder))
    monkeypatch.setattr(AutoModel, "from_pretrained", lambda *_, **__: pytest.fail("made up what is missing"))
    with pytest.raises(BackboneError):
        load(settings, read_fingerprint(settings))


@pytest.mark.parametrize(
    "values",
    [
        {"max_position_embeddings": 10**9},
        {"head_dim": 10**10},
        {"model_type": "gpt_neo", "num_layers": 2, "attention_types": [[["global", "local"], 1]], "num_heads": 4}
        | {"max_position_embeddings": 25_000},
        {"model_type": "gptj", "n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 4, "n_positions": 10**9},
        {"model_type": "codegen", "n_embd": 32, "n_head": 4, "rotary_dim": 4}
        | {"num_hidden_layers": 8, "max_position_embeddings": 2**24},
        {"model_type": "mpt", "d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 10**9},
        {"model_type": "ctrl", "n_embd": 32, "n_layer": 2, "n_head": 4, "dff": 48, "n_positions": 10**9},
        {"model_type": "xglm", "d_model": 32, "ffn_dim": 48, "num_layers": 2, "attention_heads": 4}
        | {"max_position_embeddings": 10**8},
    ],
    ids=str,
)
def test_tables_of_a_configuration_are_refused_before_they_take_memory(
    values: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny.write_backbone(tmp_path)
    hostile.change(folder / "config.json", **values)
    save_file({"enough": torch.zeros(10**6)}, folder / "more.safetensors")  # for all parameters
    settings = BackboneSettings(str(folder))
    monkeypatch.setattr(AutoModel, "from_pretrained", lambda *_, **__: pytest.fail("made the tables"))
    with pytest.raises(BackboneError) as error:
        load(settings, read_fingerprint(settings))
    assert "\n" not in str(error.value)


def test_a_template_stays_in_its_sandbox(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    settings = BackboneSettings(str(hostile.write(tmp_path / "folder", "template", marker)))
    backbone = load(settings, read_fingerprint(settings))
    (why,) = render(backbone.tokenizer, [single_turn("question", "answer")]).refused.values()
    assert "\n" not in why
    assert not marker.exists()


LOOPS = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"


@pytest.mark.parametrize(
    "template",
    [
        LOOPS,
        "{{ 'x' * 10**10 }}",
        "{{ 10 ** (10**10) }}",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
        "{% set n = namespace(s='xx') %}{% for i in range(60) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
    ],
)
def test_a_template_that_never_ends_is_refused(template: str, tmp_path: Path) -> None:
    folder = tiny.write_backbone(tmp_path)
    (folder / "chat_template.jinja").write_text(template)
    settings = BackboneSettings(str(folder))
    with pytest.raises(BackboneError) as error:
        take_canaries(load(settings, read_fingerprint(settings)), token_budget=256)
    assert "\n" not in str(error.value)


SLOW, FAST = "(x+x+)+y", "yes"
"""Expressions: the first backtracks for ever in many x, the second never does."""


def split(expression: str) -> dict[str, Any]:
    """A tokenizer's first step that looks for an expression."""
    first = {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}
    bytes_ = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {"type": "Sequence", "pretokenizers": [first, bytes_]}


def replaced(by: str, times: int) -> dict[str, Any]:
    """A normalizer that writes a text for every character, again and again."""
    one = {"type": "Replace", "pattern": {"Regex": "."}, "content": by}
    return {"type": "Sequence", "normalizers": [one] * times}


def added(n: int) -> list[dict[str, Any]]:
    """So many tokens besides the vocabulary."""
    said = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return [{"id": 260 + number, "content": f"<z{number}>", "special": True, **said} for number in range(n)]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("tokenizer.json", {"added_tokens": added(40_000)}),
        ("tokenizer_config.json", {"extra_special_tokens": [f"<z{number}>" for number in range(40_000)]}),
        ("tokenizer_config.json", {"extra_special_tokens": {f"z{n}_token": f"<z{n}>" for n in range(40_000)}}),
        ("added_tokens.json", {f"<z{number}>": 260 + number for number in range(40_000)}),
        ("tokenizer.json", {"pre_tokenizer": split(f"(?i:{'ß' * 300_000})")}),
        ("tokenizer.json", {"pre_tokenizer": split("(")}),
        ("tokenizer.json", {"normalizer": replaced("x" * 1000, 8)}),
    ],
    ids=["tokens", "special tokens", "named tokens", "another file", "long expression", "open bracket", "growth"],
)
def test_a_tokenizer_that_costs_too_much_to_load_is_refused_before(
    name: str, values: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny.write_backbone(tmp_path)
    hostile.change(folder / name, **values)
    settings = BackboneSettings(str(folder))
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", lambda *_, **__: pytest.fail("loaded it"))
    monkeypatch.setattr(sandbox, "LOAD_S", 3.0)
    with pytest.raises(BackboneError) as error:
        load(settings, read_fingerprint(settings))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("steps", "odd"),
    [
        ({"pre_tokenizer": split(SLOW)}, "x" * 40),
        ({"pre_tokenizer": split(f"(?:{SLOW}|z)")}, ("x" * 21 + "z") * 100),
        ({"normalizer": {"type": "Replace", "pattern": {"String": "zz"}, "content": "x" * 10**6}}, "zz" * 10**4),
        ({"normalizer": {"type": "Replace", "pattern": {"String": "zz"}, "content": "x" * 10**6}}, "zz"),
    ],
    ids=["gives up", "takes long", "takes memory", "many tokens"],
)
def test_a_text_that_a_tokenizer_does_not_end_costs_that_text(steps: dict[str, Any], odd: str, tmp_path: Path) -> None:
    folder = tiny.write_backbone(tmp_path)
    hostile.change(folder / "tokenizer.json", **steps)
    settings = BackboneSettings(str(folder))
    tokenizer = load(settings, read_fingerprint(settings)).tokenizer
    texts = [single_turn(question, "answer") for question in ("first", odd, "last")]
    rendering = render(tokenizer, texts)
    assert [of.conversation_id for of in rendering.rendered] == [conversation_id(texts[0]), conversation_id(texts[2])]
    assert list(rendering.refused) == [conversation_id(texts[1])]


def test_a_tokenizer_that_never_ends_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny.write_backbone(tmp_path)
    hostile.change(folder / "tokenizer.json", normalizer=replaced("x" * 100, 3))
    settings = BackboneSettings(str(folder))
    monkeypatch.setattr(sandbox, "MOST_ENDED", 1)
    with pytest.raises(BackboneError) as error:
        take_canaries(load(settings, read_fingerprint(settings)), token_budget=256)
    assert "\n" not in str(error.value)


def test_a_tokenizer_that_draws_its_tokens_is_refused(tmp_path: Path) -> None:
    folder = tiny.write_backbone(tmp_path)
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    hostile.change(folder / "tokenizer.json", model=model | {"dropout": 0.5})
    settings = BackboneSettings(str(folder))
    with pytest.raises(BackboneError, match="dropout"):
        load(settings, read_fingerprint(settings))


def test_tokens_are_those_that_transformers_makes(tmp_path: Path) -> None:
    folder = tiny.write_backbone(tmp_path)
    shortened = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    hostile.change(folder / "tokenizer.json", truncation=shortened)
    for splits in (False, True):
        hostile.change(folder / "tokenizer_config.json", split_special_tokens=splits)
        settings = BackboneSettings(str(folder))
        tokenizer: Any = load(settings, read_fingerprint(settings)).tokenizer
        (rendered,) = render(tokenizer, [single_turn("question", "answer")]).rendered
        text = tokenizer.decode(rendered.token_ids)
        assert list(rendered.token_ids) == tokenizer(text, add_special_tokens=False).input_ids
        assert (len(rendered.token_ids) > 40) == splits


@pytest.mark.parametrize("template", ["{{ 'x' * 10**7 }}", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", LOOPS])
def test_a_text_that_a_template_does_not_end_costs_that_text(template: str, tmp_path: Path) -> None:
    folder = tiny.write_backbone(tmp_path)
    usual = tiny.TEMPLATES["no_bos"]
    one = f"{{% if 'odd' in messages[0]['content'] %}}{template}{{% else %}}{usual}{{% endif %}}"
    (folder / "chat_template.jinja").write_text(one)
    settings = BackboneSettings(str(folder))
    tokenizer = load(settings, read_fingerprint(settings)).tokenizer
    texts = [single_turn(question, "answer") for question in ("first", "odd", "last")]
    rendering = render(tokenizer, texts)
    assert [of.conversation_id for of in rendering.rendered] == [conversation_id(texts[0]), conversation_id(texts[2])]
    assert list(rendering.refused) == [conversation_id(texts[1])]


def test_a_template_of_comments_that_are_not_closed_is_read_at_once() -> None:
    assert dated("{#" * 10**6) == "{#" * 10**6


def test_a_folder_that_is_mistyped_is_not_looked_for_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.write_backbone(tmp_path / "models" / "mine")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("armorm.features.hub.download", lambda *_: pytest.fail("asked the Hub"))
    read_fingerprint(BackboneSettings("models/mine"))
    with pytest.raises(BackboneError, match="no such folder in models"):
        read_fingerprint(BackboneSettings("models/mime"))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"tiny.Q4_1.gguf"}, "got tiny.Q4_1.gguf without config.json"),
        ({"adapter_config.json", "adapter_model.safetensors"}, "got an adapter"),
        ({"config.json", "pytorch_model.bin"}, "it has pytorch_model.bin, which is not read"),
        ({"config.json", "tiny.gguf"}, "it has tiny.gguf, which is not read"),
        (set(), "config.json is missing"),
    ],
)
def test_what_is_no_backbone_is_said_by_name(files: set[str], message: str, tmp_path: Path) -> None:
    for name in files:
        (tmp_path / name).write_text("{}")
    with pytest.raises(BackboneError, match=message):
        read_fingerprint(BackboneSettings(str(tmp_path)))


@pytest.mark.parametrize("name", ["tiny.gguf", "adapter_config.json"])
def test_as_a_model_to_score_with_it_is_said_by_name_too(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("{}")
    with pytest.raises(BackboneError, match=name):
        RewardModel.load(tmp_path)
