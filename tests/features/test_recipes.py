"""Each recipe against rows in the published shape, written by us, anomalies included: exactly what comes of them."""

import json
from typing import Any

import pytest

from armorm.features.conversation import SplitFractions
from armorm.features.ingest.merge import merge
from armorm.features.ingest.native import NativeRow
from armorm.features.ingest.normalise import Rules, normalise
from armorm.features.sources.described import RECIPES
from armorm.features.sources.own import FORMS, source_of
from armorm.flows.configuration.settings import DatasetSection

Row = dict[str, Any]

Q, G, B = "How tall is a giraffe?", "About five metres.", "Tall."


def turns(answer: str, *, parts: bool = False) -> list[Row]:
    def content(text: str) -> Any:
        return [{"type": "text", "text": text, "image": None, "mimeType": None}] if parts else text

    return [{"role": "user", "content": content(Q)}, {"role": "assistant", "content": content(answer)}]


def rated(response: str, *ratings: int) -> Row:
    names = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
    return {"prompt": Q, "response": response} | dict(zip(names, ratings, strict=True))


STEER: Row = {"domain": "general", "language": "english", "context": turns(G)[:1], "response1": G, "response2": B}
ARENA: Row = {"id": "x", "model_a": "m", "model_b": "n", "conversation_a": turns(G, parts=True)} | {
    "conversation_b": turns(B, parts=True)
}
BENCH: Row = {
    "id": "1",
    "prompt": Q,
    "chosen": [G],
    "rejected": [B, "Very.", "Blue."],
    "subset": "Focus",
    "num_correct": 1,
}
JUDGE: Row = {
    "pair_id": "p",
    "source": "mmlu-pro",
    "question": Q,
    "response_model": "m",
    "response_A": G,
    "response_B": B,
}
PPE: Row = {"question_id": "q", "model_a": "m", "model_b": "n", "prompt": Q, "response_1": G, "response_2": B}
GOOD = (G, B)

CASES: dict[str, tuple[list[Row], list[tuple[str, str]], int, list[str]]] = {
    "helpsteer2": (
        [rated(G, 4, 4, 4, 2, 2), rated(B, 1, 0, 3, 0, 0), rated(B, 5, 0, 3, 0, 0), rated("", 1, 1, 1, 1, 1)],
        [GOOD],
        14,
        ["kept", "kept", "kept", "empty_turn"],
    ),
    "helpsteer3": (
        [STEER | {"overall_preference": preference} for preference in (-3, 0, None)]
        + [STEER | {"response1": B, "response2": G, "overall_preference": 1}],
        [GOOD],
        0,
        ["kept", "tie", "no_verdict", "kept"],
    ),
    "skywork-preference": (
        [{"chosen": turns(G), "rejected": turns(B), "source": "magpie"}, {"chosen": turns(G), "rejected": turns(G)}],
        [GOOD],
        0,
        ["kept", "identical_pair"],
    ),
    "lmarena-preference": (
        [ARENA | {"winner": winner} for winner in ("model_a", "tie", "both_bad", None)],
        [GOOD],
        0,
        ["kept", "tie", "tie", "no_verdict"],
    ),
    "rewardbench-2": (
        [BENCH, BENCH | {"prompt": "Ties?", "chosen": [G, B], "rejected": ["No."], "subset": "Ties"}],
        [GOOD, (G, "Very."), (G, "Blue."), (G, "No."), (B, "No.")],
        0,
        ["kept", "kept"],
    ),
    "rm-bench": (
        [{"id": 1, "prompt": Q, "chosen": ["1", "2", "3"], "rejected": ["4", "5", "6"], "domain": "chat"}],
        [(good, bad) for good in "123" for bad in "456"],
        0,
        ["kept"],
    ),
    "judgebench": (
        [JUDGE | {"label": "A>B"}, JUDGE | {"question": "?", "response_A": B, "response_B": G, "label": "B>A"}],
        [GOOD, GOOD],
        0,
        ["kept", "kept"],
    ),
    "ppe-human-preference": (
        [PPE | {"winner": winner} for winner in ("model_a", "tie", "tie (bothbad)", "?")],
        [GOOD],
        0,
        ["kept", "tie", "tie", "unknown_verdict"],
    ),
    "m-rewardbench": (
        [{"prompt": Q, "chosen": G, "rejected": B, "language": "deu_Latn", "subset": "alpacaeval-easy", "id": 3}],
        [GOOD],
        0,
        ["kept"],
    ),
}


@pytest.mark.parametrize("name", sorted(RECIPES.keys() - FORMS.keys()))
def test_a_recipe_gives_exactly_this(name: str) -> None:
    rows, pairs, n_ratings, outcomes = CASES[name]
    recipe = RECIPES[name]
    source = source_of("mine", recipe.form, licence="", evaluation=recipe.evaluation)
    native = [NativeRow(line, row, json.dumps(row).encode(), None) for line, row in enumerate(rows, start=1)]
    rules = Rules(source, {}, SplitFractions())
    tables = normalise(rules, native, file="rows.jsonl")
    merged = merge(rules, tables).tables
    answers = {of["conversation_id"]: of["messages"][-1]["content"] for of in merged["conversations"].to_pylist()}
    made = [(answers[of["chosen_id"]], answers[of["rejected_id"]]) for of in merged["preferences"].to_pylist()]
    assert sorted(made) == sorted(pairs)
    assert len(merged["ratings"]) == n_ratings
    assert [of["reason"] or of["outcome"] for of in tables["native_rows"].to_pylist()] == outcomes


def test_a_recipe_brings_what_is_known_of_a_dataset() -> None:
    source = DatasetSection(path="rb2", form="rewardbench-2").source("rb2")  # type: ignore[arg-type]
    assert (source.upstream, source.licence, source.evaluation) == ("allenai/reward-bench-2", "ODC-BY", True)
    assert DatasetSection(path="hs3", form="helpsteer3").source("hs3").files == ("preference/*.jsonl.gz",)  # type: ignore[arg-type]
