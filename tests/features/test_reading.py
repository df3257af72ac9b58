"""Conversations as rows have them: every mixture of answer, prompt and system text, and what is refused."""

from typing import Any

import numpy as np
import pytest

from armorm.features.conversation import MalformedConversation, check_conversation
from armorm.features.sources.reading import is_absent, read_conversation, read_turns

ASKED = [{"role": "user", "content": "Where do swifts sleep?"}]
SAID = [{"role": "assistant", "content": "In the air."}]
RULES = [{"role": "system", "content": "Answer in a whisper."}]
U, A, S = (("user", "Where do swifts sleep?"), ("assistant", "In the air."), ("system", "Answer in a whisper."))
QUESTION, ANSWER, RULE = U[1], A[1], S[1]
NAN = float("nan")


@pytest.mark.parametrize(
    ("answer", "prompt", "system", "expected"),
    [
        (ANSWER, QUESTION, None, (U, A)),
        (ANSWER, QUESTION, "", (U, A)),
        (ANSWER, QUESTION, " \n", (U, A)),
        (ANSWER, QUESTION, NAN, (U, A)),
        (ANSWER, QUESTION, RULE, (S, U, A)),
        (ANSWER, ASKED, None, (U, A)),
        (ANSWER, ASKED, RULE, (S, U, A)),
        (ANSWER, RULES + ASKED, None, (S, U, A)),
        (ANSWER, RULES + ASKED, RULE, (S, U, A)),
        (SAID, QUESTION, None, (U, A)),
        (SAID, QUESTION, RULE, (S, U, A)),
        (SAID, ASKED, None, (U, A)),
        (SAID, RULES + ASKED, RULE, (S, U, A)),
        (ASKED + SAID, None, None, (U, A)),
        (ASKED + SAID, NAN, RULE, (S, U, A)),
        (ASKED + SAID, RULES, None, (S, U, A)),
        (ASKED + SAID, RULES, RULE, (S, U, A)),
        (ASKED + SAID, [], None, (U, A)),
        (ASKED + SAID, QUESTION, None, (U, A)),
        (ASKED + SAID, QUESTION, RULE, (S, U, A)),
        (ASKED + SAID, ASKED, None, (U, A)),
        (RULES + ASKED + SAID, None, None, (S, U, A)),
        (RULES + ASKED + SAID, None, RULE, (S, U, A)),
        (RULES + ASKED + SAID, RULES, None, (S, U, A)),
        (RULES + ASKED + SAID, QUESTION, RULE, (S, U, A)),
        (RULES + ASKED + SAID, RULES + ASKED, None, (S, U, A)),
        (ASKED + SAID, ASKED + SAID, None, (U, A)),
        (ASKED + SAID, [{"role": "user", "content": "Hm?"}, *SAID], None, (("user", "Hm?"), A, U, A)),
        (ANSWER, {"role": None, "content": None}, None, None),
        (ANSWER, None, None, None),
        (ANSWER, None, RULE, None),
    ],
)
def test_what_comes_before_an_answer_is_put_before_it_once(
    answer: Any, prompt: Any, system: Any, expected: Any
) -> None:
    if expected is None:
        with pytest.raises(MalformedConversation, match="no_prompt"):
            read_conversation(answer, prompt, system)
    else:
        assert read_conversation(answer, prompt, system) == expected
        check_conversation(expected)


@pytest.mark.parametrize(
    "turns",
    [
        ASKED + SAID,
        (tuple(ASKED[0].values()), A),
        np.array(ASKED + SAID),
        [{"from": "human", "value": QUESTION}, {"from": "gpt", "value": ANSWER}],
        [{"role": "human", "content": QUESTION}, {"role": "gpt", "content": ANSWER}],
        [{"role": "system", "content": ""}, *ASKED, *SAID],
        [{"role": "system", "content": None}, *ASKED, *SAID],
        [{"role": "developer", "content": " "}, *ASKED, *SAID],
        [
            ASKED[0] | {"tool_calls": None, "name": None},
            SAID[0] | {"tool_calls": {"id": None, "function": {"n": None}}},
        ],
        [ASKED[0] | {"from": None, "value": None}, SAID[0] | {"tool_calls": []}],
        [{"role": None, "content": None, "from": "human", "value": QUESTION}, *SAID],
        [
            {
                "role": "user",
                "content": [{"type": "text", "text": "Where do "}, {"type": "text", "text": "swifts sleep?"}],
            },
            {"role": "assistant", "content": [{"type": "text", "text": ANSWER, "image_url": None}]},
        ],
    ],
    ids=str,
)
def test_messages_are_the_same_turns_in_every_form(turns: Any) -> None:
    assert read_turns(turns) == (U, A)


def test_one_turn_may_stand_alone() -> None:
    assert read_conversation(SAID[0], ASKED[0]) == (U, A)
    assert read_conversation({"from": "gpt", "value": ANSWER}, [{"from": "human", "value": QUESTION}]) == (U, A)


def test_instructions_of_a_developer_are_kept_under_that_role() -> None:
    turns = read_turns([{"role": "developer", "content": RULE}, *ASKED, *SAID])
    assert turns == (("developer", RULE), U, A)
    check_conversation(turns)


@pytest.mark.parametrize(
    ("turns", "said"),
    [
        ("text", "got 'text'"),
        ({"user": "x"}, "expected a list"),
        ({"role": ["user", "assistant"], "content": ["x"]}, "expected a list"),
        (7, "got 7"),
        (["text"], "turn 1: got 'text'"),
        ([*ASKED, None], "turn 2: got None"),
        ([{"content": "x"}], "turn 1: .*role"),
        ([*ASKED, {"role": 3, "content": "x"}], "turn 2: .*role"),
        ([*ASKED, {"role": "assistant"}], r"turn 2 \(assistant\): got None; expected text"),
        ([{"role": "user", "content": 5}], r"turn 1 \(user\): got 5; expected text"),
        ([*ASKED, {"role": "assistant", "content": [{"type": "image", "image": "y.png"}]}], "turn 2 .*of type image;"),
        ([{"role": "user", "content": [{"type": "input_audio"}]}, *SAID], "turn 1 .*of type input_audio"),
        ([*ASKED, SAID[0] | {"tool_calls": [{"type": "function"}]}], r"turn 2 \(assistant\): got tool_calls"),
    ],
    ids=str,
)
def test_what_is_no_messages_is_refused_by_turn_and_type(turns: Any, said: str) -> None:
    with pytest.raises(MalformedConversation, match=f"not_messages: .*{said}"):
        read_turns(turns)


@pytest.mark.parametrize(
    ("turns", "said"),
    [
        ([*ASKED, *ASKED, *SAID], "turn 2: got user; expected assistant"),
        ([*SAID, *ASKED, *SAID], "turn 1: got assistant; expected user"),
        ([*ASKED, *SAID, *ASKED], "turn 3: got user .*expected assistant"),
        ([*RULES, *SAID], "turn 2: got assistant; expected user"),
        ([*RULES, *RULES, *ASKED, *SAID], "turn 2: got system; expected user"),
        ([*ASKED, *RULES, *SAID], "turn 2: got system; expected assistant"),
        (
            [
                *ASKED,
                {"role": "assistant", "content": None, "tool_calls": [{}, {"x": 1}]},
                {"role": "tool", "content": "4"},
            ],
            "turn 3: got tool; expected user",
        ),
        ([*RULES], "turn 1: got system .*expected assistant"),
        ([], "got no turns"),
    ],
    ids=str,
)
def test_roles_out_of_order_are_refused_by_turn(turns: Any, said: str) -> None:
    with pytest.raises(MalformedConversation, match=f"roles_out_of_order: {said}"):
        check_conversation(read_turns(turns))


@pytest.mark.parametrize("system", [7, ["Be brief."], True])
def test_a_system_text_that_is_none_is_refused(system: Any) -> None:
    with pytest.raises(MalformedConversation, match="not_messages: system: got"):
        read_conversation(ANSWER, QUESTION, system)


@pytest.mark.parametrize("value", [None, NAN, {}, {"a": None, "b": {"c": NAN}}])
def test_null_nan_and_objects_of_nulls_are_absent(value: Any) -> None:
    assert is_absent(value)


@pytest.mark.parametrize("value", ["", 0, False, [], {"a": None, "b": 0}])
def test_what_is_empty_is_not_absent(value: Any) -> None:
    assert not is_absent(value)
