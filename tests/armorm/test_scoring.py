"""A loaded model scores conversations in every form that people have them in."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from armorm import RewardModel
from armorm.errors import ModelError
from armorm.features.errors import BackboneError, InputError, MalformedRows, NativeFileError
from armorm.features.ingest.requests import count_requests
from armorm.model.head import UNCERTAINTY_FILE
from armorm.scoring import files
from armorm.scoring.files import Scored, score_file
from armorm.scoring.reward_model import native_units
from armorm.scoring.tables import explain_tables, summary_table
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
        ({"chosen": MESSAGES, "rejected": MESSAGES}, r"unknown_form: .*\bpair\b"),
        ([{"role": "user"}], "not_messages"),
        ([("user", "?")], "roles_out_of_order"),
    ):
        with pytest.raises(InputError, match=rf"conversation 1: {said}"):
            model.score([MESSAGES, wrong])


def test_two_files_need_the_backbone_that_they_were_trained_on(exported: Exported, tmp_path: Path) -> None:
    exported.model.save(tmp_path / "heads")
    with pytest.raises(ModelError, match=r"\bbackbone="):
        RewardModel.load(tmp_path / "heads").score([MESSAGES])
    backbone = str(exported.folder.parent / "backbone")
    given = RewardModel.load(tmp_path / "heads", backbone=backbone)
    own = RewardModel.load(exported.folder)
    np.testing.assert_allclose(given.score([MESSAGES]).score, own.score([MESSAGES]).score, atol=1e-6)
    with pytest.raises(BackboneError, match=rf"{re.escape(str(exported.folder))}: .*\b{given.backbone_id}\b"):
        RewardModel.load(tmp_path / "heads", backbone=str(exported.folder))


def test_one_objective_on_several_scales_has_no_native_unit() -> None:
    of_five, of_ten = {"lo": 1, "hi": 5, "rule": "bin_centre"}, {"lo": 1, "hi": 10, "rule": "bin_centre"}
    scales = {"same": {"x": of_five, "y": of_five}, "other": {"x": of_five, "y": of_ten}}
    native = native_units(np.array([[0.5, 0.5, 0.5]]), ["same", "other", "unknown"], scales)
    np.testing.assert_allclose(native, [[3.0, np.nan, np.nan]])


def scored(side: str, **of: Any) -> Scored:
    known: dict[str, Any] = {
        "score": sum(of["contributions"].values()),
        "rewards": {"safe": 0.9, "length": 5.0},
        "native": {"safe": 6.3, "length": None},
        "gating": {"safe": 1.0, "length": 0.0},
        "coefficients": {"safe": 1.0, "length": -0.1},
        "off_scale": {"safe": "1..5"},
        "truncated": False,
    }
    return Scored(line=3, side=side, **{**known, **of})


def test_an_explanation_tells_what_sums_to_the_score_and_what_is_strange() -> None:
    chosen = scored("chosen", contributions={"safe": 0.9, "length (taken out)": -0.5}, deviations={"safe": 0.2})
    rejected = scored("rejected", contributions={"length (taken out)": -0.6, "safe": 0.1})
    of_chosen, of_rejected, pair = explain_tables([chosen, rejected])
    rows = {row[0]: row for row in of_chosen.rows}
    assert sum(row[-1] for row in rows.values()) == pytest.approx(0.4)  # type: ignore[misc]
    assert rows["safe"][1:4] == (0.9, 0.2, "6.3, off 1..5")
    assert re.search(r"\blength\b.*-0\.100 .*\bdecorrelation\b", of_chosen.note)
    assert "deviation" not in of_rejected.columns
    assert [row[0] for row in pair.rows] == ["safe", "length (taken out)"]
    assert [row[-1] for row in pair.rows] == pytest.approx([0.8, 0.1])
    assert re.search(r"\bchosen\b.* 0\.9\b.*\bsafe \(\+0\.8\)", pair.note)
    assert len(explain_tables([rejected, chosen])) == 2, "no pair"
    mixed = scored("conversation", contributions={"safe": 1.0}, coefficients={"safe": -1.0}, gating={"safe": -1.0})
    assert "mixture" in explain_tables([mixed])[0].note


def test_a_bound_is_a_column_where_it_was_asked_for() -> None:
    one = scored("conversation", contributions={"safe": 1.0})
    assert [*one.as_json(explain=False)] == [
        *("line", "side", "score", "rewards", "native", "gating", "coefficients", "truncated")
    ]
    bounded = scored("conversation", contributions={"safe": 1.0}, deviation=0.1, lower=0.8, deviations={"safe": 0.1})
    told = bounded.as_json(explain=True)
    assert (told["deviation"], told["lower"], told["off_scale"]) == (0.1, 0.8, {"safe": "1..5"})
    assert [len(summary_table([of]).columns) for of in (one, bounded)] == [4, 6]
    assert summary_table([bounded]).rows[0][2:5] == (1.0, 0.1, 0.8)


def test_the_sides_of_a_pair_are_in_one_chunk(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "CHUNK", 2)
    file = tmp_path / "in.jsonl"
    pair = '{"prompt": "Say it.", "chosen": "a", "rejected": "b"}\n'
    file.write_text('{"prompt": "Say it.", "response": "c"}\n' + 2 * pair)
    model = RewardModel.load(exported.folder)
    chunks = score_file(file, model, model.loaded_backbone, token_budget=512)
    assert [[one.side for one in chunk] for chunk in chunks] == [
        ["conversation", "chosen", "rejected"],
        ["chosen", "rejected"],
    ]


def test_an_export_has_no_bound_and_says_so(exported: Exported) -> None:
    with pytest.raises(ModelError, match=UNCERTAINTY_FILE):
        RewardModel.load(exported.folder).score([MESSAGES], lower=0.05)


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
    with pytest.raises(MalformedRows, match=r"\b14: malformed_row\b") as caught:
        count_requests(file)
    assert (caught.value.path, len(caught.value.rows)) == (file, 1)


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
    with pytest.raises(NativeFileError, match=r"\b4: .*\b2 conversations\b"):
        next(chunks)
