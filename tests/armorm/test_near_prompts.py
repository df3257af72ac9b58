"""The nearest training prompt of each prompt of a benchmark."""

from pathlib import Path

import numpy as np
import pytest

from armorm.features.catalog.questions import ask
from armorm.features.catalog.views import connect
from armorm.features.checks.contamination import CONTAMINATION, ContaminationSettings
from armorm.features.conversation import prompt_id, single_turn
from armorm.features.embedding.embed import EmbedSettings, embed_missing
from armorm.features.embedding.fingerprint import BackboneSettings
from armorm.features.store import Store
from armorm.features.vectors.shards import FeatureReader
from armorm.maths import nearest as search
from armorm.maths.nearest import nearest
from armorm.stages.near_prompts import CLOSE, NEAR_PROMPTS
from tests.features import tiny
from tests.features.canonical import Dataset


@pytest.mark.parametrize("block", [1, 7, 100])
def test_the_nearest_are_those_of_all_cosines(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(search, "BLOCK_ROWS", block)
    draw = np.random.default_rng(0)
    among_ND, asked_ED = draw.normal(3, 1, (40, 6)).astype(np.float32), draw.normal(3, 1, (9, 6)).astype(np.float32)
    among_ND[13] = asked_ED[4]
    row_E, cosine_E = nearest(asked_ED, among_ND)
    centred = [of - among_ND.mean(axis=0) for of in (asked_ED, among_ND)]
    units = [of / np.linalg.norm(of, axis=1, keepdims=True) for of in centred]
    cosines_EN = units[0] @ units[1].T
    np.testing.assert_array_equal(row_E, cosines_EN.argmax(axis=1))
    np.testing.assert_allclose(cosine_E, cosines_EN.max(axis=1), atol=1e-5)
    assert (row_E[4], cosine_E[4]) == (13, pytest.approx(1, abs=1e-6))


def test_a_vector_that_is_the_mean_is_like_no_other() -> None:
    _, cosine_E = nearest(np.ones((1, 3), np.float32), np.ones((2, 3), np.float32))
    assert cosine_E.tolist() == [0]


def test_prompts_of_benchmarks_are_told_with_the_nearest_of_training(store: Store, tmp_path: Path) -> None:
    mine, bench = Dataset("mine", split="train"), Dataset("bench", split="evaluation")
    trained = [f"Question {row} about {row * 31}" for row in range(12)]
    asked = [*(f"{prompt}, please" for prompt in trained[:5]), trained[6]]  # the last is left out of training
    for row, prompt in enumerate(trained):
        mine.prefer(f"r{row}", "yes", "no", prompt=prompt)
    for row, prompt in enumerate(asked):
        bench.prefer(f"r{row}", "yes", "no", prompt=prompt)
    settings = BackboneSettings(str(tiny.write_backbone(tmp_path / "backbone")))
    with store.writing("test") as writer:
        mine.commit(writer)
        bench.commit(writer)
        CONTAMINATION.ensure(writer, ContaminationSettings(threshold=1.0))
        backbone_id = embed_missing(writer, settings, EmbedSettings()).backbone_id
        artifact = NEAR_PROMPTS.ensure(writer, None, backbone_id).artifact
    with connect(store) as catalog:
        found = catalog.sql("SELECT evaluation_prompt_id, prompt_id, cosine FROM near_prompts").fetchall()
    ours, theirs = (
        [prompt_id(single_turn(text, "")) for text in texts] for texts in (trained[:6] + trained[7:], asked)
    )
    reader = FeatureReader(store, backbone_id)
    row_E, cosine_E = nearest(reader.gather("prompt", theirs), reader.gather("prompt", ours))
    expected = {id: (ours[row], cosine) for id, row, cosine in zip(theirs, row_E, cosine_E, strict=True)}
    assert {id: near for id, near, _ in found} == {id: near for id, (near, _) in expected.items()}
    assert {id: cosine for id, _, cosine in found} == pytest.approx(
        {id: c for id, (_, c) in expected.items()}, abs=1e-5
    )
    told = NEAR_PROMPTS.told(store, artifact)
    assert (told.n_prompts, told.n_close) == (6, int((cosine_E >= CLOSE).sum()))
    rows = ask(store, "near_benchmark", n="2").records
    assert [row["cosine"] for row in rows] == pytest.approx(sorted(cosine_E.tolist())[:-3:-1], abs=1e-5)
    assert {row["benchmark"] for row in rows} <= set(asked)
    assert {row["training"] for row in rows} <= set(trained)


def test_without_a_benchmark_there_is_nothing_to_tell(store: Store, tmp_path: Path) -> None:
    mine = Dataset("mine", split="train")
    mine.prefer("r", "yes", "no")
    settings = BackboneSettings(str(tiny.write_backbone(tmp_path / "backbone")))
    with store.writing("test") as writer:
        mine.commit(writer)
        CONTAMINATION.ensure(writer, ContaminationSettings())
        backbone_id = embed_missing(writer, settings, EmbedSettings()).backbone_id
        artifact = NEAR_PROMPTS.ensure(writer, None, backbone_id).artifact
    assert NEAR_PROMPTS.told(store, artifact).n_prompts == 0
    assert ask(store, "near_benchmark").records == []
