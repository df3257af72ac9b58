"""What form rows seem to have, by names and values; what they cannot say is a question."""

import json
from typing import Any

import pytest

from armorm.features.sources.described import form_of
from armorm.features.sources.proposal import columns_of, propose

Row = dict[str, Any]

Q, GOOD, BAD = "Tea?", "Yes, please, with milk.", "No."


def turns(answer: str) -> list[Row]:
    return [{"role": "user", "content": Q}, {"role": "assistant", "content": answer}]


def both(first: Row, second: Row) -> list[Row]:
    return [first, second] * 4


RATED = {"objectives": {"stars": {"column": "stars", "lo": 1, "hi": 5}}, "pairs_from": ["stars"]}
FORMS: dict[str, tuple[list[Row], str, Row]] = {
    "texts and a rating": (
        both({"id": 1, "question": Q, "answer": GOOD, "stars": 5}, {"id": 2, "question": Q, "answer": BAD, "stars": 2}),
        "ratings",
        {"prompt": "question", "response": "answer", **RATED},
    ),
    "CSV with ratings as text": (
        both({"q": Q, "response": GOOD, "stars": "4"}, {"q": Q, "response": BAD, "stars": "2"}),
        "ratings",
        {"prompt": "q", "response": "response", **RATED},
    ),
    "messages and a rating": (
        [{"messages": turns(answer), "stars": stars} for answer, stars in ((GOOD, 5), (BAD, None), (BAD, 1))],
        "ratings",
        {"style": "messages", "response": "messages", **RATED},
    ),
    "ShareGPT and a label": (
        both(
            {"conversations": [{"from": "human", "value": Q}, {"from": "gpt", "value": GOOD}], "ok": True},
            {"conversations": [{"from": "human", "value": Q}, {"from": "gpt", "value": BAD}], "ok": False},
        ),
        "ratings",
        {
            "style": "messages",
            "response": "conversations",
            "objectives": {"ok": {"column": "ok", "lo": 0, "hi": 1, "rule": "boolean"}},
            "pairs_from": ["ok"],
        },
    ),
    "pairs of texts": (
        [{"prompt": Q, "chosen": GOOD, "rejected": BAD, "id": 3}] * 3,
        "pairs",
        {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"},
    ),
    "pairs of messages with scores": (
        [{"prompt": Q, "chosen": turns(GOOD), "rejected": turns(BAD), "score_chosen": 8.0, "score_rejected": 2.0}] * 3,
        "pairs",
        {
            "style": "messages",
            "chosen": "chosen",
            "rejected": "rejected",
            "chosen_score": "score_chosen",
            "rejected_score": "score_rejected",
        },
    ),
    "pairs of single turns after ShareGPT": (
        [
            {
                "conversations": [{"from": "human", "value": Q}],
                "chosen": {"from": "gpt", "value": GOOD},
                "rejected": {"from": "gpt", "value": BAD},
            }
        ]
        * 3,
        "pairs",
        {"style": "messages", "prompt": "conversations", "chosen": "chosen", "rejected": "rejected"},
    ),
    "transcripts": (
        [{f"{side}": f"\n\nHuman: {Q}\n\nAssistant: {side}" for side in ("chosen", "rejected")}] * 3,
        "pairs",
        {"style": "transcript", "chosen": "chosen", "rejected": "rejected"},
    ),
    "words as a verdict": (
        both(
            {"prompt": Q, "model_a": "x", "model_b": "y", "response_a": GOOD, "response_b": BAD, "winner": "model_a"},
            {"prompt": Q, "model_a": "x", "model_b": "z", "response_a": BAD, "response_b": GOOD, "winner": "tie"},
        ),
        "verdict",
        {"prompt": "prompt", "answers": ["response_a", "response_b"], "verdict": "winner"},
    ),
    "words that end as the columns do": (
        both(
            {"prompt": Q, "model_1": "x", "response_1": GOOD, "model_2": "y", "response_2": BAD, "winner": "Model 1"},
            {"prompt": Q, "model_1": "x", "response_1": BAD, "model_2": "y", "response_2": GOOD, "winner": "Model 2"},
        ),
        "verdict",
        {
            "prompt": "prompt",
            "answers": ["response_1", "response_2"],
            "verdict": "winner",
            "first": ["model 1"],
            "second": ["model 2"],
        },
    ),
    "lists": (
        [{"prompt": Q, "chosen": [GOOD], "rejected": [BAD, "Hm."]}] * 3,
        "lists",
        {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"},
    ),
    "lists as JSON with scores": (
        [{"prompt": Q, "completions": json.dumps([GOOD, BAD]), "scores": "[3, 1]"}] * 3,
        "lists",
        {"prompt": "prompt", "answers": "completions", "scores": "scores"},
    ),
}


@pytest.mark.parametrize(("rows", "form", "settings"), FORMS.values(), ids=FORMS)
def test_a_form_is_proposed_by_names_and_values(rows: list[Row], form: str, settings: Row) -> None:
    proposal = propose(rows)
    assert (proposal.form, proposal.settings, proposal.choices) == (form, settings, ())
    assert form_of(proposal.form, proposal.settings)


@pytest.mark.parametrize(
    ("values", "choices"),
    [
        ((0, 1), ("0", "1")),
        ((1.0, 2.0), ("1", "2")),
        ((True, False), ("false", "true")),
        (("one", "other"), ("one", "other")),
        ((-3, 2), ("negative", "positive")),
    ],
)
def test_which_answer_a_number_prefers_is_a_question(values: tuple[Any, Any], choices: tuple[str, ...]) -> None:
    row = {"prompt": Q, "response_1": GOOD, "response_2": BAD}
    rows = both(*(row | {"label": value} for value in values))
    if choices[0] == "negative":
        rows.append(row | {"label": 0})
    proposal = propose(rows)
    assert (proposal.form, proposal.choices) == ("verdict", choices)
    for choice in choices:
        decided = proposal.decided(choice)
        assert decided.choices == ()
        first_wins = form_of("verdict", decided.settings).preference(values[0])  # type: ignore[union-attr]
        assert (first_wins > 0) is (choice == ("negative" if values[0] == -3 else str(values[0]).lower().split(".")[0]))
    with pytest.raises(ValueError, match="expected"):
        proposal.decided("maybe")


@pytest.mark.parametrize(
    "rows",
    [
        [{"text": GOOD}] * 3,
        [{"messages": turns(GOOD)}] * 3,
        [{"prompt": Q, "response_1": GOOD, "response_2": BAD}] * 3,
        [{"stars": 3}, {"stars": 4}],
        [{}],
    ],
    ids=str,
)
def test_what_says_nothing_of_better_and_worse_is_refused_with_its_columns(rows: list[Row]) -> None:
    with pytest.raises(ValueError, match="got columns") as caught:
        propose(rows)
    assert all(name in str(caught.value) for name in rows[0])


def test_messages_as_python_prints_them_are_named() -> None:
    with pytest.raises(ValueError, match=r"column messages .*JSON"):
        propose([{"messages": str(turns(answer)), "stars": stars} for answer, stars in ((GOOD, 5), (BAD, 1))])


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([0, 4, 2], {"lo": 0, "hi": 4}),
        ([2, 5], {"lo": 1, "hi": 5}),
        ([1, 9.5], {"lo": 1, "hi": 10}),
        ([0, 1, 1], {"lo": 0, "hi": 1, "rule": "boolean"}),
        (["True", "false"], {"lo": 0, "hi": 1, "rule": "boolean"}),
        ([0.25, 0.5], {"lo": 0, "hi": 1, "rule": "min_max"}),
        ([-3, 3], {"lo": -3, "hi": 3, "rule": "min_max"}),
        ([0, 90], {"lo": 0, "hi": 100}),
    ],
)
def test_a_scale_is_the_smallest_usual_one(values: list[Any], scale: Row) -> None:
    proposal = propose([{"prompt": Q, "response": GOOD, "x": value} for value in values])
    assert proposal.settings["objectives"] == {"x": {"column": "x", **scale}}


def test_columns_are_told_by_what_they_hold() -> None:
    rows = [{"a": "1", "b": turns(GOOD), "c": None, "d": "x", "e": n / 7} for n in range(20)]
    told = {name: column.told for name, column in columns_of(rows).items()}
    assert told["a"].startswith("number: 1 (20)")
    assert (told["b"], told["c"]) == ("messages", "none")
    assert told["e"].startswith("number 0..2.7")
