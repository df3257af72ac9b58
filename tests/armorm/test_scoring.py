"""A loaded model scores conversations in every form that people have them in."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from armorm import RewardModel
from armorm.errors import ModelError
from armorm.features.errors import BackboneError, InputError, NativeFileError
from armorm.scoring import files
from armorm.scoring.files import count_requests, score_file
from armorm.scoring.reward_model import native_units
from tests.armorm.exported import Exported, export

MESSAGES = [{"role": "user", "content": "Name a river."}, {"role": "assistant", "content": "The Danube."}]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export(tmp_path_factory.mktemp("model"), objectives=[f"o{k}" for k in range(6)])


def test_every_form_is_the_same_conversation(exported: Exported) -> None:
    forms: list[Any] = [
        MESSAGES,
        ("Name a river.", "The Danube."),
        {"messages": MESSAGES},
        {"prompt": "Name a river.", "response": "The Danube."},
        [("user", "Name a river."), ("assistant", "The Danube.")],
    ]
    scores = RewardModel.load(exported.folder).score(forms)
    np.testing.assert_allclose(scores.score, scores.score[0], atol=1e-6)
    np.testing.assert_allclose(scores.contributions.sum(axis=1), scores.score, atol=1e-5)
    np.testing.assert_allclose((scores.rewards * scores.coefficients).sum(axis=1), scores.score, atol=1e-5)
    np.testing.assert_allclose(scores.native[:, 0], scores.rewards[:, 0] * 5 - 0.5, atol=1e-6)
    assert np.isnan(scores.native[:, 1]).all(), "nothing is known of its scale"
    assert not scores.truncated.any()


def test_none_is_scored_as_none(exported: Exported) -> None:
    assert RewardModel.load(exported.folder).score([]).rewards.shape == (0, 6)


def test_what_is_no_conversation_is_named_by_its_place(exported: Exported) -> None:
    model = RewardModel.load(exported.folder)
    for wrong, said in (
        ("text", "not_messages"),
        ({"chosen": MESSAGES, "rejected": MESSAGES}, "got a pair"),
        ([{"role": "user"}], "not_messages"),
        ([("user", "?")], "roles_out_of_order"),
    ):
        with pytest.raises(InputError, match=rf"conversation 1: \w+: .*{said}|conversation 1: {said}"):
            model.score([MESSAGES, wrong])


def test_two_files_need_the_backbone_that_they_were_trained_on(exported: Exported, tmp_path: Path) -> None:
    exported.model.save(tmp_path / "heads")
    with pytest.raises(ModelError, match="got a model without a backbone"):
        RewardModel.load(tmp_path / "heads").score([MESSAGES])
    backbone = str(exported.folder.parent / "backbone")
    given = RewardModel.load(tmp_path / "heads", backbone=backbone)
    own = RewardModel.load(exported.folder)
    np.testing.assert_allclose(given.score([MESSAGES]).score, own.score([MESSAGES]).score, atol=1e-6)
    with pytest.raises(BackboneError, match="which the model was trained on"):
        RewardModel.load(tmp_path / "heads", backbone=str(exported.folder))


def test_one_objective_on_several_scales_has_no_native_unit() -> None:
    of_five, of_ten = {"lo": 1, "hi": 5, "rule": "bin_centre"}, {"lo": 1, "hi": 10, "rule": "bin_centre"}
    scales = {"same": {"x": of_five, "y": of_five}, "other": {"x": of_five, "y": of_ten}}
    native = native_units(np.array([[0.5, 0.5, 0.5]]), ["same", "other", "unknown"], scales)
    np.testing.assert_allclose(native, [[3.0, np.nan, np.nan]])


def test_a_file_is_read_a_chunk_at_a_time(exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With 25 conversations, 10 at most in memory: read on only as scores are taken, and what came before stays."""
    monkeypatch.setattr(files, "CHUNK", 10)
    lines = [f'{{"prompt": "Say {n}.", "response": "{n}"}}\n' for n in range(25)]
    file = tmp_path / "in.jsonl"
    file.write_text("".join(lines))
    model = RewardModel.load(exported.folder)
    done: list[int] = []

    def chunks(path: Path) -> Any:
        return score_file(path, model, model.loaded_backbone, token_budget=512, on_progress=done.append)

    assert count_requests(file) == 25
    found = [[one.line for one in chunk] for chunk in chunks(file)]
    assert [len(chunk) for chunk in found] == [10, 10, 5]
    assert [line for chunk in found for line in chunk] == list(range(1, 26))
    assert done == [10, 20, 25]
    monkeypatch.setattr(files, "CHUNK_CHARS", 20)
    assert max(len(chunk) for chunk in chunks(file)) == 3
    file.write_text("".join(lines[:13]) + "{\n")
    with pytest.raises(NativeFileError, match=r"line 14: malformed_row.*nothing was scored"):
        count_requests(file)


def test_a_text_without_a_vector_stops_at_its_chunk(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "CHUNK", 2)
    file = tmp_path / "in.jsonl"
    file.write_text("".join(f'{{"prompt": "Say {n}.", "response": "{n}"}}\n' for n in range(4)))
    model = RewardModel.load(exported.folder)
    backbone = model.loaded_backbone
    template = backbone.tokenizer.chat_template
    backbone.tokenizer.chat_template = "{% if 'Say 3' in messages[0]['content'] %}{{ oops() }}{% endif %}" + template
    chunks = score_file(file, model, backbone, token_budget=512)
    assert len(next(chunks)) == 2
    with pytest.raises(NativeFileError, match=r"line 4: no vector of it: .*; 2 conversations before it were scored"):
        next(chunks)
