"""The plan's invariants: every wanted feature exactly once, no budget exceeded, the same plan every time."""

from hypothesis import given
from hypothesis import strategies as st

from armorm.features.embedding.packs import Rendered, plan_batches, plan_sequences
from tests.strategies import rendered_lists

WIDE = 1_000


def plan(rendered: list[Rendered], conversations: set[str], prompts: set[str], max_tokens: int = WIDE):  # type: ignore[no-untyped-def]
    return plan_sequences(rendered, conversations=conversations, prompts=prompts, max_tokens=max_tokens)


@given(rendered_lists(), st.integers(2, 30), st.data())
def test_every_wanted_feature_exactly_once(rendered: list[Rendered], max_tokens: int, data: st.DataObject) -> None:
    all_conversations = [one.conversation_id for one in rendered]
    all_prompts = sorted({one.prompt_id for one in rendered})
    conversations = set(data.draw(st.lists(st.sampled_from(all_conversations))))
    prompts = set(data.draw(st.lists(st.sampled_from(all_prompts))))
    sequences = plan(rendered, conversations, prompts, max_tokens)
    wanted = [(of.kind, of.id) for sequence in sequences for of in sequence.wanted]
    expected = {("conversation", id) for id in conversations} | {("prompt", id) for id in prompts}
    assert sorted(wanted) == sorted(expected)
    assert all(sequence.wanted and len(sequence.token_ids) <= max_tokens for sequence in sequences)


@given(rendered_lists(), st.integers(2, 30))
def test_a_feature_is_taken_on_the_last_token_of_its_text(rendered: list[Rendered], max_tokens: int) -> None:
    texts = {("conversation", one.conversation_id): one.token_ids for one in rendered}
    texts |= {("prompt", one.prompt_id): one.token_ids[: one.n_prompt_tokens] for one in rendered}
    ids = {one.conversation_id for one in rendered}
    for sequence in plan(rendered, ids, {one.prompt_id for one in rendered}, max_tokens):
        for of in sequence.wanted:
            text = texts[of.kind, of.id]
            before = sequence.token_ids[: of.position + 1]
            assert before == text[len(text) - len(before) :]
            assert of.n_tokens == len(text)
            assert of.truncated == (len(before) < len(text))
            assert of.truncated == (len(text) > max_tokens)


def test_a_prompt_rides_with_its_first_conversation() -> None:
    rendered = [Rendered("a", "p", (1, 2, 3), 2), Rendered("b", "p", (1, 2, 4, 5), 2)]
    first, second = plan(rendered, {"a", "b"}, {"p"})
    assert [of.kind for of in first.wanted] == ["conversation", "prompt"]
    assert [of.kind for of in second.wanted] == ["conversation"]


def test_a_prompt_whose_end_would_be_lost_goes_alone() -> None:
    (prompt, conversation) = plan([Rendered("a", "p", (1, 2, 3, 4, 5), 2)], {"a"}, {"p"}, 3)
    assert (prompt.token_ids, prompt.wanted[0].truncated) == ((1, 2), False)
    assert (conversation.token_ids, conversation.wanted[0].truncated) == ((3, 4, 5), True)


@given(st.lists(st.integers(1, 50), max_size=60), st.integers(1, 200))
def test_batches_hold_every_index_once_within_the_budget(lengths: list[int], budget: int) -> None:
    batches = plan_batches(lengths, token_budget=budget)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) * max(lengths[index] for index in batch) <= budget or len(batch) == 1
    in_order = [lengths[index] for batch in batches for index in batch]
    assert in_order == sorted(in_order)
    assert batches == plan_batches(lengths, token_budget=budget)
