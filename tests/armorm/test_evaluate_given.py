"""A folder in the published layout on a store's held-out pairs: the figures are those of scoring each text by hand."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from armorm import RewardModel
from armorm.config import EvaluationConfig
from armorm.features.checks.contamination import CONTAMINATION, ContaminationSettings
from armorm.features.conversation import Conversation, SplitFractions, single_turn
from armorm.features.documents import decode, encode
from armorm.features.embedding.backbone import Backbone
from armorm.features.embedding.embed import EmbedSettings, embed_missing
from armorm.features.errors import NotInStore
from armorm.features.ingest.dataset import DatasetFiles, ingest_dataset
from armorm.features.objectives import OBJECTIVES
from armorm.features.store import Artifact, Made, Recipe, Store, Writer
from armorm.features.tables import make_table, write_parquet
from armorm.flows.configuration.settings import DatasetSection
from armorm.judges import held_out as scoring
from armorm.judges.held_out import Evaluated, evaluate_model
from armorm.maths.benchmarks import BEST_OF_FOUR
from armorm.model.inspection import describe, inspect, taken_off
from armorm.records.evaluation import Evaluation
from armorm.report.sections import benchmark_name, own_published_sections
from tests.armorm.published import write_published
from tests.features.canonical import Dataset

CONFIG = EvaluationConfig(n_resamples=20)
LONG = "very " * 100

Pair = tuple[str, Conversation, Conversation]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_published(tmp_path_factory.mktemp("published") / "model")


@pytest.fixture
def pairs(writer: Writer) -> dict[str, Pair]:
    """Id to what is held out, apart from pairs of other splits and of a contaminated prompt, which do not count."""
    mine, bench = Dataset("mine"), Dataset("rewardbench", split="evaluation")
    found: dict[str, Pair] = {}
    splits = ("test", "test", "train", "validation")
    for row in range(40):
        of, prompt = (mine, bench)[row % 3 == 2], f"Question {row // 2} about {row * 31}"
        split = "evaluation" if of is bench else splits[row % 4]
        subset = ("donotanswer", "hep-go")[row % 2] if of is bench else None
        of.prefer(f"r{row}", f"yes, {row}", "no" * (row % 5 + 1), prompt=prompt, split=split, subset=subset)
        if split in ("test", "evaluation"):
            both = (single_turn(prompt, answer) for answer in (f"yes, {row}", "no" * (row % 5 + 1)))
            found[of.preferences[-1]["pair_id"]] = (of.name, *both)
    mine.prefer("seen", "one", "two", prompt="Question 2 about 155", split="test")
    for dataset in (mine, bench):
        dataset.commit(writer)
    CONTAMINATION.ensure(writer, ContaminationSettings())
    return found


def never() -> Backbone:
    raise AssertionError("the backbone was loaded")


def run(store: Store, model: RewardModel, load: Callable[[], Backbone] | None = None, **more: Artifact) -> Evaluated:
    return evaluate_model(store, model, load or (lambda: model.loaded_backbone), CONFIG, token_budget=512, **more)


def test_the_figures_are_those_of_each_text_scored_by_itself(
    folder: Path, store: Store, pairs: dict[str, Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "CHUNK", 7)
    model = RewardModel.load(folder)
    found = run(store, model)
    won: dict[str, list[bool]] = {}
    for name, chosen, rejected in pairs.values():
        one, other = model.score([chosen, rejected]).score
        won.setdefault(name, []).append(bool(one > other))
    by_dataset = {row.dataset: row for row in found.record.pairs.rows}
    assert by_dataset["mine"].n == len(won["mine"]) == by_dataset["all"].n
    assert by_dataset["mine"].accuracy["gate"].estimate == pytest.approx(np.mean(won["mine"]))
    subsets = found.record.rewardbench.subsets
    assert sum(row.n for row in subsets) == len(won["rewardbench"])
    assert sum(row.n * row.accuracy for row in subsets) == pytest.approx(sum(won["rewardbench"]))
    assert set(by_dataset["all"].accuracy) == {"gate", "mean", "longer"}
    assert found.record.calibration is None, "the released model has no beta"
    texts = {text for _, chosen, rejected in pairs.values() for text in (chosen, rejected)}
    assert found.n_embedded == len(texts) + len({text[:-1] for text in texts})
    assert found.record.reward_correlations.n_responses == len(texts), "every length is known"
    titles = [section.title for section in found.sections]
    assert {"Held-out pairs", benchmark_name(found.record.rewardbench), "Gate by kind of prompt"} <= set(titles)
    assert found.record.rewardbench.missing.sections
    assert benchmark_name(found.record.rewardbench) in found.line


def test_vectors_that_the_store_has_are_read_from_there(
    folder: Path, store: Store, writer: Writer, pairs: dict[str, Pair]
) -> None:
    model = RewardModel.load(folder)
    assert model.backbone_settings
    embedded = run(store, model)
    embed_missing(writer, model.backbone_settings, EmbedSettings(vector_type="float32"))
    read = run(store, model, never)
    assert (read.n_embedded, read.line) == (0, embedded.line.split(";")[0])
    for name in ("pairs", "length", "rewardbench"):
        assert getattr(read.record, name) == getattr(embedded.record, name)
    before, after = (np.array(of.record.reward_correlations.after, dtype=float) for of in (embedded, read))
    np.testing.assert_allclose(before, after, atol=0.05)  # bfloat16 rounds by what else is in a pass


def test_pairs_with_a_text_that_gets_no_vector_are_left_out_and_counted(
    folder: Path, store: Store, writer: Writer
) -> None:
    mine = Dataset("mine", split="test")
    for row in range(6):
        mine.prefer(f"r{row}", f"yes, {row}", LONG if row == 3 else "no", prompt=f"Question {row}")
    mine.commit(writer)
    CONTAMINATION.ensure(writer, ContaminationSettings())
    model = RewardModel.load(folder)
    assert model.backbone_settings
    strict = replace(model.backbone_settings, over_long="refuse", max_tokens=100)
    found = run(store, replace(model, backbone_settings=strict, fingerprint=_fingerprint(strict)))
    assert found.record.rejected_pairs == 1
    assert found.record.pairs.rows[0].n == 5
    assert "1 pairs" in found.line


def _fingerprint(settings: object) -> object:
    from armorm.features.embedding.fingerprint import BackboneSettings, read_fingerprint

    assert isinstance(settings, BackboneSettings)
    return read_fingerprint(settings)


def evaluated(writer: Writer, won: dict[str, bool]) -> Artifact:
    """A model of the store, and an evaluation that says so of each pair."""
    model = writer.commit(Recipe("model", "model", 1, {}, {}), Made({}, {}))
    rows = [
        {"model": model.artifact_id, "pair_id": id, "score_chosen": 1.0, "score_rejected": 0.0, "correct": of}
        for id, of in won.items()
    ]
    ref = writer.store.objects.put("parquet", partial(write_parquet, table=make_table("pair_scores", rows)))
    writer.commit(Recipe("evaluate", "evaluate", 1, {}, {"model": model.artifact_id}), Made({"pair_scores": ref}, {}))
    return model


def test_it_is_compared_with_a_model_of_the_store_on_the_pairs_that_both_have_scored(
    folder: Path, store: Store, writer: Writer, pairs: dict[str, Pair]
) -> None:
    model = RewardModel.load(folder)
    scores = {id: model.score([chosen, rejected]).score for id, (_, chosen, rejected) in pairs.items()}
    known = [id for id, (name, *_) in pairs.items() if name == "mine"][1:]
    other = evaluated(writer, {id: bool(scores[id][0] <= scores[id][1]) for id in known})
    found = run(store, model, against=other)
    assert found.against == other.artifact_id
    assert set(found.paired) == {"all held-out", "mine"}
    test = found.paired["mine"]
    n_won = sum(bool(scores[id][0] > scores[id][1]) for id in known)
    assert (test.n, test.only_first, test.only_second) == (len(known), len(known) - n_won, n_won)
    assert other.artifact_id[:12] in found.sections[-1].title


def test_what_cannot_be_is_said(folder: Path, store: Store, writer: Writer) -> None:
    model = RewardModel.load(folder)
    never_evaluated = writer.commit(Recipe("model", "model", 1, {}, {}), Made({}, {}))
    with pytest.raises(NotInStore, match=never_evaluated.artifact_id):
        run(store, model, against=never_evaluated)
    Dataset("mine").commit(writer)
    with pytest.raises(NotInStore, match=r"\bpairs\b"):
        run(store, model)


def test_a_downloaded_model_can_be_inspected(folder: Path) -> None:
    """Nothing is said of it but what its own arrays hold: the penalties are those that were written into them."""
    model = RewardModel.load(folder)
    (verbosity,) = taken_off(model)
    assert verbosity == "helpsteer-verbosity"
    np.testing.assert_allclose(taken_off(model)[verbosity], -model.transform_KK[4] + (np.arange(19) == 4))
    report = inspect(model, "A model")
    (table,) = report.sections
    assert [row[0] for row in table.rows] == list(OBJECTIVES)
    assert (table.columns[-1], table.rows[4][-1]) == ("lambda of helpsteer-verbosity", 1.0)
    assert table.rows[0][1] == "0..4 (helpsteer)"
    (beta,) = [fact for fact in report.facts if "beta" in fact]
    assert not re.search(r"\d", beta)
    assert any(fact.endswith(": helpsteer-verbosity") for fact in report.facts)
    described = describe(model)
    assert described["reward_transform_matrix"] == model.transform_KK.tolist()
    assert described["gate"]["temperature"] == 2
    assert described["logit_scale"] == 1


def test_a_benchmark_that_a_recipe_read_is_scored_by_its_own_rule(
    folder: Path, store: Store, writer: Writer, tmp_path: Path
) -> None:
    def row(number: int, subset: str, chosen: list[str], rejected: list[str], id: str = "") -> dict[str, object]:
        prompt = f"Question {number} about {subset}?"
        return {"id": id or str(number), "prompt": prompt, "subset": subset, "chosen": chosen, "rejected": rejected}

    answers = ["Yes.", "No, never.", "It is blue.", "Ask me again!"]  # each is the right one once
    rows = [
        row(number, subset, answers[number : number + 1], answers[:number] + answers[number + 1 :])
        for subset in BEST_OF_FOUR
        for number in range(4)
    ]
    rows += [row(n, "Ties", [f"red {n}"], ["dog", "cat"], f"ref:{n}") for n in range(3)]
    rows += [row(n + 9, "Ties", [f"red {n}", "blue", "green"], ["dog", f"cat {n}"], f"tied:{n}") for n in range(3)]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(of) + "\n" for of in rows))
    section = DatasetSection.model_validate({"path": str(file), "form": "rewardbench-2"})
    ingest_dataset(writer, DatasetFiles(section.source("rb2"), file, {}), splits=SplitFractions())
    CONTAMINATION.ensure(writer, ContaminationSettings())
    model = RewardModel.load(folder)

    def score(of: dict[str, object], answer: str) -> float:
        return float(model.score([single_turn(str(of["prompt"]), answer)]).score[0])

    credits: dict[str, list[float]] = {}
    for of in rows[:20]:
        best, *others = [score(of, answer) for answer in [*of["chosen"], *of["rejected"]]]  # type: ignore[misc]
        credits.setdefault(str(of["subset"]), []).append(float(best > max(others)))
    found = run(store, model)
    own = found.record.benchmarks["rb2"]
    assert (own.kind, own.missing) == ("rewardbench-2", {})
    assert list(own.scores) == [*BEST_OF_FOUR, "Ties", "overall"]
    by_hand = {subset: float(np.mean(of)) for subset, of in credits.items()}
    assert {subset: own.scores[subset].estimate for subset in BEST_OF_FOUR} == pytest.approx(by_hand)
    assert 0 < sum(by_hand.values()) < 5, "the scores tell something"
    (shown,) = [of for of in found.sections if of.id == "own-scores"]
    assert [of[:3] for of in shown.rows] == [("rb2", "RewardBench 2", name) for name in own.scores]
    assert decode(Evaluation, encode(found.record)).benchmarks == found.record.benchmarks
    (published,) = own_published_sections(found.record.benchmarks)
    assert published.columns == ["model", "overall", *BEST_OF_FOUR, "Ties"]
    assert published.rows[0][:2] == ("this model on rb2", own.scores["overall"].estimate)
    assert len(published.rows) == 11
