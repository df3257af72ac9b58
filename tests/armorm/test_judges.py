"""Judges of every kind on the same pairs: what each says is what its own plain use says, and nothing is asked twice."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

from armorm import RewardModel
from armorm.config import EvaluationConfig
from armorm.features.catalog.views import connect
from armorm.features.conversation import Conversation, SplitFractions, conversation_id, single_turn
from armorm.features.embedding.fingerprint import BackboneSettings
from armorm.features.errors import BackboneError, FeatureStoreError, InputError, MalformedRows, NotInStore
from armorm.features.ingest.dataset import DatasetFiles, ingest_dataset
from armorm.features.store import Store
from armorm.flows.configuration.settings import DatasetSection
from armorm.judges.compared import Compared, Judged
from armorm.judges.comparison import ALL, LONGER, compare_judges
from armorm.judges.endpoint import Endpoint, EndpointError
from armorm.judges.judge import Question
from armorm.judges.language_models import Classifier, ImplicitReward, Pairwise
from armorm.judges.open import Judges
from armorm.judges.settings import (
    ClassifierSettings,
    EndpointSettings,
    FileSettings,
    ImplicitSettings,
    PairwiseSettings,
    fill_prompt,
)
from armorm.judges.verdict_file import VerdictFile
from armorm.maths.benchmarks import JudgedPairs, own_scores
from armorm.report.published import PUBLISHED, REWARDBENCH
from armorm.stages.data import load_pairs
from armorm.stages.judge import Verdict, judge_id, read_verdicts
from tests.armorm.endpoint_server import serving
from tests.armorm.published import write_published
from tests.features.canonical import Dataset
from tests.features.tiny import SIZES, write_tokenizer

CONFIG = EvaluationConfig(n_resamples=20)

Pair = tuple[Conversation, Conversation]


@pytest.fixture
def pairs(store: Store) -> dict[str, Pair]:
    """Pair id to the chosen and the rejected answer, of two held-out datasets and of RewardBench."""
    found: dict[str, Pair] = {}
    with store.writing("test") as writer:
        for name in ("mine", "other", "rewardbench"):
            benchmark = name == "rewardbench"
            of = Dataset(name, split="evaluation" if benchmark else "test")
            for row in range(8):
                prompt, answers = f"{name} question {row // 2}", (f"yes, {row}", "no" * (row % 5 + 1))
                of.prefer(f"r{row}", *answers, prompt=prompt, subset="hep-go" if benchmark else None)
                chosen, rejected = (single_turn(prompt, answer) for answer in answers)
                found[of.preferences[-1]["pair_id"]] = chosen, rejected
            of.commit(writer)
    return found


@dataclass
class Stub:
    """A judge that prefers the answer with the smaller id."""

    name: str = "stub"
    n_at_once: int = 5
    asked: list[Question] = field(default_factory=list)
    identity: Mapping[str, Any] = field(default_factory=lambda: {"kind": "stub"})

    def answer(self, questions: Sequence[Question]) -> Iterator[Verdict]:
        for question in questions:
            self.asked.append(question)
            yield question.scored(1.0, 0.0)


def compared(store: Store, *judges: Any, **more: Any) -> Compared:
    return compare_judges(store, judges, CONFIG, **more)


def row(found: Compared, judge: str, pairs: str = ALL) -> Judged:
    return next(of for of in found.rows if (of.judge, of.pairs) == (judge, pairs))


def questions(pairs: Mapping[str, Pair]) -> list[Question]:
    """Questions with the answer of the smaller id first, as judges get them."""
    found = []
    for both in pairs.values():
        first, second = sorted(both, key=conversation_id)
        found.append(Question(conversation_id(first), conversation_id(second), first, second))
    return found


def test_all_judges_are_on_the_same_pairs_and_none_is_asked_twice(store: Store, pairs: dict[str, Pair]) -> None:
    judge = Stub()
    found = compared(store, judge)
    assert len(judge.asked) == len(pairs)
    right = {id: conversation_id(chosen) < conversation_id(rejected) for id, (chosen, rejected) in pairs.items()}
    assert {of.pairs for of in found.rows} == {ALL, "mine", "other", "rewardbench"}
    per_dataset = [row(found, "stub", name) for name in ("mine", "other", "rewardbench")]
    assert sum(of.n for of in per_dataset) == len(pairs)
    assert sum(of.n * of.accuracy.estimate for of in per_dataset) == pytest.approx(sum(right.values()))
    assert row(found, LONGER).n == row(found, "stub").n == 16
    assert found.rewardbench["stub"].subsets[0].n == 8
    again = Stub()
    assert compared(store, again).rows == found.rows
    assert again.asked == []
    with connect(store) as catalog:
        stored = dict(catalog.sql("SELECT pair_id, correct FROM judged_pairs").fetchall())
    assert stored == right


def test_some_of_the_pairs_are_part_of_more_of_them(store: Store, pairs: dict[str, Pair]) -> None:
    judge = Stub()
    assert row(compared(store, judge, n_pairs=3), "stub").n == 6
    assert row(compared(store, judge, n_pairs=5), "stub").n == 10
    assert len(judge.asked) == 15
    assert {of.pairs for of in compared(store, judge, datasets=["other"]).rows} == {"other"}
    with pytest.raises(InputError, match="mine, other, rewardbench"):
        compared(store, judge, datasets=["nope"])


def test_what_was_said_before_an_error_is_kept(store: Store, pairs: dict[str, Pair]) -> None:
    @dataclass
    class Breaks(Stub):
        def answer(self, questions: Sequence[Question]) -> Iterator[Verdict]:
            for verdict in super().answer(questions):
                if len(self.asked) == 8:
                    raise InputError("gone")
                yield verdict

    with pytest.raises(InputError, match="gone"):
        compared(store, Breaks())
    assert len(read_verdicts(store, judge_id(Stub().identity))) == 7
    judge = Stub()
    compared(store, judge)
    assert len(judge.asked) == len(pairs) - 7


def test_ties_and_missing_verdicts_count_as_not_correct_and_are_counted(store: Store, pairs: dict[str, Pair]) -> None:
    @dataclass
    class Silent(Stub):
        def answer(self, questions: Sequence[Question]) -> Iterator[Verdict]:
            for number, question in enumerate(questions):
                yield (question.scored(1.0, 1.0), question.unanswered("mute"), question.scored(1.0, 0.0))[number % 3]

    found = compared(store, Silent(n_at_once=100, identity={"kind": "silent"}))
    rows = [row(found, "stub", name) for name in ("mine", "other", "rewardbench")]
    assert (sum(of.n_ties for of in rows), sum(of.n_without for of in rows)) == (8, 8)
    assert sum(of.n * of.accuracy.estimate for of in rows) <= 8
    assert found.why_not == {"stub": {"mute": 8}}


def test_two_judges_of_one_name_and_a_store_without_pairs_are_refused(store: Store, pairs: dict[str, Pair]) -> None:
    with pytest.raises(InputError, match="different names"):
        compared(store, Stub(), Stub())
    with pytest.raises(NotInStore):
        compared(Store(Path(store.place) / "empty"), Stub())


# Models of transformers


def write_model(folder: Path, kind: Any, *, seed: int = 0, **config: Any) -> str:
    torch.manual_seed(seed)
    kind(LlamaConfig(**SIZES, **config)).save_pretrained(folder)
    write_tokenizer(folder, "bos")
    return str(folder)


def written(folder: str, messages: Conversation) -> tuple[list[int], list[int]]:
    """The tokens of a conversation, and of its prompt."""
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    turns = [{"role": role, "content": content} for role, content in messages]
    both = (tokenizer.apply_chat_template(of, tokenize=False) for of in (turns, turns[:-1]))
    whole, prompt = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in both)
    return whole, prompt


@pytest.mark.parametrize("pad", [0, None])
def test_a_classifier_scores_each_answer_as_it_does_alone(
    store: Store, pairs: dict[str, Pair], tmp_path: Path, pad: int | None
) -> None:
    folder = write_model(tmp_path / "rm", LlamaForSequenceClassification, num_labels=1, pad_token_id=pad)
    model = LlamaForSequenceClassification.from_pretrained(folder).eval()
    verdicts = list(Classifier("rm", ClassifierSettings(path=folder)).answer(questions(pairs)))
    for question, verdict in zip(questions(pairs), verdicts, strict=True):
        with torch.no_grad():
            alone = [
                model(torch.tensor([written(folder, of)[0]])).logits.item() for of in (question.first, question.second)
            ]
        assert (verdict.score_first, verdict.score_second) == pytest.approx(tuple(alone), abs=1e-5)
    named = Judges(store, {}, BackboneSettings(path="none"), token_budget=64).open([folder])
    assert row(compared(store, *named), "rm").n == 16


def test_a_classifier_with_several_labels_needs_the_one_that_is_the_score(
    pairs: dict[str, Pair], tmp_path: Path
) -> None:
    folder = write_model(tmp_path / "rm", LlamaForSequenceClassification, num_labels=3, pad_token_id=0)
    with pytest.raises(BackboneError, match="3 labels"):
        list(Classifier("rm", ClassifierSettings(path=folder)).answer(questions(pairs)))
    with pytest.raises(BackboneError, match="label 3"):
        list(Classifier("rm", ClassifierSettings(path=folder, label=3)).answer(questions(pairs)))
    scores = [
        [
            of.score_first
            for of in Classifier("rm", ClassifierSettings(path=folder, label=place)).answer(questions(pairs))
        ]
        for place in range(3)
    ]
    assert scores[0] != scores[1] != scores[2]


def test_a_policy_is_scored_by_how_much_more_likely_it_makes_the_answer(pairs: dict[str, Pair], tmp_path: Path) -> None:
    folders = [write_model(tmp_path / str(seed), LlamaForCausalLM, seed=seed) for seed in (1, 2)]
    models = [LlamaForCausalLM.from_pretrained(folder).eval() for folder in folders]

    def logp(model: Any, messages: Conversation) -> float:
        whole, prompt = written(folders[0], messages)
        with torch.no_grad():
            of_next = model(torch.tensor([whole])).logits[0].double().log_softmax(-1)
        return sum(of_next[place - 1, whole[place]].item() for place in range(len(prompt), len(whole)))

    judge = ImplicitReward("dpo", ImplicitSettings(path=folders[0], reference=folders[1]))
    for question, verdict in zip(questions(pairs), judge.answer(questions(pairs)), strict=True):
        rewards = [logp(models[0], of) - logp(models[1], of) for of in (question.first, question.second)]
        assert (verdict.score_first, verdict.score_second) == pytest.approx(tuple(rewards), abs=1e-4)
    same = ImplicitReward("dpo", ImplicitSettings(path=folders[0], reference=folders[0]))
    assert all(of.preference == 0 for of in same.answer(questions(pairs)))
    with pytest.raises(ValueError, match="reference"):
        ImplicitSettings(path=folders[0])


def test_a_pair_model_is_asked_in_both_orders_as_its_card_says(
    store: Store, pairs: dict[str, Pair], tmp_path: Path
) -> None:
    folder = write_model(tmp_path / "pm", LlamaForCausalLM)
    model: Any = LlamaForCausalLM.from_pretrained(folder).eval()
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    names = [tokenizer(name, add_special_tokens=False)["input_ids"][0] for name in "AB"]

    def p_first(prompt: str, one: str, other: str) -> float:
        text = f"[CONTEXT] \n\n<turn> user\n {prompt}\n [RESPONSE A] {one} [RESPONSE B] {other} \n"
        shown = tokenizer.apply_chat_template([{"role": "user", "content": text}], tokenize=False)
        ids = tokenizer(shown.replace("<bos>", ""), add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            return float(model(torch.tensor([ids])).logits[0, -1, names].double().softmax(0)[0])

    judge = Pairwise("pm", PairwiseSettings(path=folder))
    for question, verdict in zip(questions(pairs), judge.answer(questions(pairs)), strict=True):
        prompt, (one, other) = question.prompt[0][1], question.answers
        forwards, backwards = p_first(prompt, one, other), p_first(prompt, other, one)
        assert verdict.shown_first == pytest.approx(2 * forwards - 1, abs=1e-5)
        assert verdict.shown_second == pytest.approx(1 - 2 * backwards, abs=1e-5)
        assert verdict.preference == pytest.approx(forwards - backwards, abs=1e-5)
    (order,) = compared(store, judge).orders
    assert order.n == len(pairs)
    with pytest.raises(BackboneError, match="one token each"):
        list(Pairwise("pm", PairwiseSettings(path=folder, labels=("first", "B"))).answer(questions(pairs)))


def test_a_text_that_is_too_long_costs_itself_alone(pairs: dict[str, Pair], tmp_path: Path) -> None:
    folder = write_model(tmp_path / "rm", LlamaForSequenceClassification, num_labels=1, pad_token_id=0)
    prompt = single_turn("Why?", "no")[:-1]
    (long,) = questions({"": ((*prompt, ("assistant", "x" * 600)), (*prompt, ("assistant", "y")))})
    verdicts = list(Classifier("rm", ClassifierSettings(path=folder)).answer([long, *questions(pairs)]))
    assert verdicts[0].preference is None
    assert "512" in str(verdicts[0].why_not)
    assert all(of.preference is not None for of in verdicts[1:])


def test_a_reward_model_gives_the_scores_that_it_gives_by_itself(
    store: Store, pairs: dict[str, Pair], tmp_path: Path
) -> None:
    folder = write_published(tmp_path / "published")
    opened = Judges(store, {}, BackboneSettings(path="none"), token_budget=512).open([str(folder)])
    found = compared(store, *opened)
    model = RewardModel.load(folder)
    scores = [model.score(list(both)).score for both in pairs.values()]
    right = sum(bool(chosen > rejected) for chosen, rejected in scores)
    rows = [row(found, "published", name) for name in ("mine", "other", "rewardbench")]
    assert sum(of.n * of.accuracy.estimate for of in rows) == pytest.approx(right)


# An endpoint


def shorter(prompt: str) -> str:
    """What a judge says that prefers the shorter answer."""
    first, second = (prompt.split(f"<answer {name}>\n")[1].split("\n</answer")[0] for name in "AB")
    mark = "C" if len(first) == len(second) else "A" if len(first) < len(second) else "B"
    return f"[[A]] or [[B]]? I think\n[[{mark}]]"


def endpoint(url: str, **more: Any) -> Endpoint:
    return Endpoint("judge", EndpointSettings(url=url, model="m", **more))


def test_an_endpoint_is_asked_in_both_orders_and_once(
    store: Store, pairs: dict[str, Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE_KEY", "secret-key")
    with serving(shorter) as server:
        judge = endpoint(server.url, key="JUDGE_KEY")
        found = compared(store, judge)
        assert len(server.prompts) == len(set(server.prompts)) == 2 * len(pairs)
        assert server.keys == {"Bearer secret-key"}
        assert compared(store, judge).rows == found.rows
        assert len(server.prompts) == 2 * len(pairs)
    expected = sum(len(chosen[-1][1]) < len(rejected[-1][1]) for chosen, rejected in pairs.values())
    rows = [row(found, "judge", name) for name in ("mine", "other", "rewardbench")]
    assert sum(of.n * of.accuracy.estimate for of in rows) == pytest.approx(expected)
    (order,) = found.orders
    assert (order.same, order.first) == (1.0, 0.5)
    assert "secret-key" not in json.dumps(found.as_json())
    assert "secret-key" not in json.dumps(judge.identity)


def test_a_judge_that_always_takes_the_first_answer_is_seen(store: Store, pairs: dict[str, Pair]) -> None:
    with serving(lambda prompt: "[[A]]") as server:
        found = compared(store, endpoint(server.url))
    (order,) = found.orders
    assert (order.same, order.first) == (0.0, 1.0)
    assert row(found, "judge").n_ties == row(found, "judge").n


def test_late_wrong_and_missing_replies_are_counted_and_end(store: Store, pairs: dict[str, Pair]) -> None:
    odd: list[Any] = [
        "no mark",
        500,
        b"<html>",
        b'{"choices": []}',
        b"[" * 10_000,
        "late",
        b'{"choices": [{"message": {"content": null}}]}',
    ]
    replies = iter([*odd, *(of for of in odd if of != "late")])

    def answer(prompt: str) -> Any:
        said = next(replies, None)
        if said == "late":
            time.sleep(4.5)
        return shorter(prompt) if said in (None, "late") else said

    with serving(answer) as server:
        first = compared(store, endpoint(server.url, at_once=1, timeout_s=4.0))
        n_asked = len(server.prompts)
        unheard = row(first, "judge").n_without
        assert unheard
        assert len(server.prompts) == len(set(server.prompts)), "what was taken is not sent again"
        second = compared(store, endpoint(server.url))
    reasons = {"no verdict in the reply", "HTTP 500", "an answer that is no chat completion", "no reply within 4 s"}
    assert set(first.why_not["judge"]) == reasons
    assert set(second.why_not["judge"]) == {"no verdict in the reply"}, "the others are asked again, and answer now"
    assert len(server.prompts) > n_asked


def test_a_busy_server_is_asked_again_and_one_that_refuses_ends_the_run(
    store: Store, pairs: dict[str, Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("armorm.judges.endpoint.LONGEST_WAIT_S", 0.01)
    busy = iter([429, 503])
    with serving(lambda prompt: next(busy, 0) or shorter(prompt)) as server:
        assert not compared(store, endpoint(server.url, at_once=1)).why_not
    with serving(lambda prompt: 401) as server, pytest.raises(EndpointError, match=r"401.*OPENAI_API_KEY"):
        compared(store, replace(endpoint(server.url), settings=EndpointSettings(url=server.url, model="other")))
    with pytest.raises(FeatureStoreError):
        compared(store, endpoint(server.url, prompt="nowhere.txt"))
    nobody = compared(store, Endpoint("judge", EndpointSettings(url="http://127.0.0.1:9/v1", model="m")))
    assert nobody.why_not["judge"] == {"no connection (ConnectError), 3 times": len(pairs)}


@pytest.mark.parametrize(
    "settings",
    [
        {"url": "ftp://x", "model": "m"},
        {"url": "http://user:word@x/v1", "model": "m"},
        {"url": "http://x"},
        {"url": "http://x", "model": "m", "tie": "[[A]]"},
        {"url": "http://x", "model": "m", "at_once": 0},
    ],
)
def test_settings_of_an_endpoint_that_cannot_be_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        EndpointSettings(**settings)


def test_a_prompt_keeps_the_braces_of_what_is_judged() -> None:
    assert fill_prompt("{first}|{second}|{context}", "{first}", "{second}", r"\1 {x}") == r"{second}|\1 {x}|{first}"
    with pytest.raises(ValueError, match=r"\{second\}"):
        PairwiseSettings(path="x", prompt="{context} {first}")


# Files


def verdict_file(store: Store, pairs: dict[str, Pair], path: Path, rows: Sequence[Mapping[str, Any]]) -> Compared:
    path.write_text("".join(json.dumps(of) + "\n" for of in rows))
    named = Judges(store, {}, BackboneSettings(path="none"), token_budget=64).open([str(path)])
    return compared(store, *named)


def test_verdicts_of_a_file_are_found_by_pair_and_by_text(store: Store, pairs: dict[str, Pair], tmp_path: Path) -> None:
    forms: list[Any] = [
        lambda id, texts: {"pair_id": id, "score_chosen": 2, "score_rejected": 1.5},
        lambda id, texts: texts | {"scores_chosen": [0.5], "scores_rejected": [0.75]},
        lambda id, texts: texts | {"preference": 1},
        lambda id, texts: {"pair_id": id, "winner": "tie"},
        lambda id, texts: {"pair_id": id, "winner": "Rejected"},
    ]
    rows = []
    for number, (id, (chosen, rejected)) in enumerate(pairs.items()):
        texts = {"prompt": chosen[0][1], "chosen": chosen[-1][1], "rejected": rejected[-1][1]}
        if number < 20:
            rows.append(forms[number % 5](id, texts))
    found = verdict_file(store, pairs, tmp_path / "theirs.jsonl", rows)
    of_all = [row(found, "theirs", name) for name in ("mine", "other", "rewardbench")]
    assert sum(of.n * of.accuracy.estimate for of in of_all) == pytest.approx(8)
    assert sum(of.n_ties for of in of_all) == 4
    assert found.why_not == {"theirs": {"the file has no verdict on it": 4}}


@pytest.mark.parametrize(
    "bad",
    [
        {"pair_id": "x"},
        {"prompt": "a", "response": "b", "winner": "tie"},
        {"pair_id": "p", "score_chosen": "NaN", "score_rejected": 1},
    ],
)
def test_rows_that_hold_no_verdict_are_listed(
    store: Store, pairs: dict[str, Pair], tmp_path: Path, bad: dict[str, Any]
) -> None:
    known = next(iter(pairs))
    bad = bad | ({"pair_id": known} if "pair_id" in bad else {})
    with pytest.raises(MalformedRows, match=r"line 2.*\n.*line 3"):
        verdict_file(store, pairs, tmp_path / "theirs.jsonl", [{"pair_id": known, "winner": "tie"}, bad, bad])


def test_a_judge_that_nobody_knows_is_refused(store: Store, pairs: dict[str, Pair], tmp_path: Path) -> None:
    configured = {"theirs": FileSettings(path=str(tmp_path / "none.jsonl"))}
    judges = Judges(store, configured, BackboneSettings(path="none"), token_budget=64)
    with pytest.raises(InputError, match="theirs"):
        judges.open(["nope"])
    (judge,) = judges.open([])
    assert isinstance(judge, VerdictFile)
    with pytest.raises(FeatureStoreError):
        compared(store, judge)
    assert np.isfinite([row(compared(store, Stub()), LONGER).accuracy.estimate]).all()


def test_a_benchmark_with_a_rule_of_its_own_is_scored_by_it(store: Store) -> None:
    file = Path(__file__).parent.parent / "cases" / "recipes" / "rewardbench-2.jsonl"
    section = DatasetSection.model_validate({"path": str(file), "form": "rewardbench-2"})
    with store.writing("test") as writer:
        ingest_dataset(writer, DatasetFiles(section.source("rb2"), file, {}), splits=SplitFractions())
    found = compared(store, Stub(), published=True)
    pairs = load_pairs(store, backbone_id="")
    margins_P = np.where(pairs.chosen_ids < pairs.rejected_ids, 1.0, -1.0)
    columns = (pairs.source_rows, pairs.prompt_ids, pairs.subsets, pairs.chosen_ids, pairs.rejected_ids)
    judged = JudgedPairs(*columns, margins_P, np.stack([margins_P > 0, margins_P < 0]).astype(float))
    assert found.own["stub"]["rb2"] == own_scores("rewardbench-2", judged, CONFIG)
    (table,) = [of for of in found.sections if of.id == "rewardbench-2"]
    assert table.rows[0][:2] == ("stub", "rb2")
    assert len(table.rows) == 1 + len(PUBLISHED["rewardbench-2"].scores)
    (first_version,) = [of for of in found.sections if of.id == "rewardbench"]
    assert len(first_version.rows) == len(REWARDBENCH) == 7
