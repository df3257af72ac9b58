"""Ids, splits and the form of conversations."""

import hashlib
import json

import pytest
from hypothesis import given

from armorm.features.conversation import (
    Conversation,
    MalformedConversation,
    SplitFractions,
    canonical_bytes,
    check_conversation,
    conversation_id,
    prompt_id,
    single_turn,
)
from tests.strategies import conversations


def test_the_id_is_the_hash_of_the_canonical_bytes() -> None:
    messages = single_turn("Où ?", "北\n")
    assert canonical_bytes(messages) == '[["user","Où ?"],["assistant","北\\n"]]'.encode()
    assert conversation_id(messages) == hashlib.sha256(canonical_bytes(messages)).hexdigest()[:32]
    assert prompt_id(messages) == conversation_id((("user", "Où ?"),))


@given(conversations())
def test_canonical_bytes_lose_nothing(messages: Conversation) -> None:
    check_conversation(messages)
    assert [tuple(turn) for turn in json.loads(canonical_bytes(messages))] == list(messages)


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ((), "roles_out_of_order"),
        ((("user", "a"),), "roles_out_of_order"),
        ((("assistant", "a"), ("user", "b")), "roles_out_of_order"),
        ((("user", "a"), ("user", "b")), "roles_out_of_order"),
        ((("user", "a"), ("assistant", "b"), ("user", "c")), "roles_out_of_order"),
        ((("user", "a"), ("system", "b")), "roles_out_of_order"),
        ((("system", "a"),), "roles_out_of_order"),
        ((("user", "a"), ("assistant", "")), "empty_turn"),
        ((("user", " \n"), ("assistant", "b")), "empty_turn"),
        ((("user", "a"), ("assistant", "\ud800")), "invalid_unicode"),
    ],
)
def test_what_no_template_renders_is_refused(messages: Conversation, reason: str) -> None:
    with pytest.raises(MalformedConversation) as refused:
        check_conversation(messages)
    assert refused.value.reason == reason


def test_the_split_is_a_function_of_the_prompt_with_the_stated_shares() -> None:
    fractions = SplitFractions(validation=0.1, test=0.2)
    splits = [fractions.of(f"prompt {number}") for number in range(20_000)]
    assert splits == [fractions.of(f"prompt {number}") for number in range(20_000)]
    for split, share in (("train", 0.7), ("validation", 0.1), ("test", 0.2)):
        assert splits.count(split) / len(splits) == pytest.approx(share, abs=0.01)  # 5 sigma is 0.016 at most


def test_holding_out_more_moves_nothing_back_into_training() -> None:
    few, many = SplitFractions(0.1, 0.1), SplitFractions(0.1, 0.2)
    for number in range(1000):
        if few.of(str(number)) == "test":
            assert many.of(str(number)) == "test"
