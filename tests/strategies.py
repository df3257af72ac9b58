"""Hypothesis strategies: conversations, plans, ratings."""

from hypothesis import strategies as st

from armorm.features.conversation import Conversation
from armorm.features.embedding.packs import Rendered

texts = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=30).filter(str.strip)


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    """Well-formed ones: an optional system turn, then user and assistant in turn."""
    n_exchanges = draw(st.integers(1, 3))
    turns = [(role, draw(texts)) for _ in range(n_exchanges) for role in ("user", "assistant")]
    return tuple([("system", draw(texts)), *turns] if draw(st.booleans()) else turns)


@st.composite
def rendered_lists(draw: st.DrawFn) -> list[Rendered]:
    """Conversations over a few prompts, those of one prompt beginning with its tokens."""
    prompts = draw(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=12), min_size=1, max_size=4))
    answers = st.lists(st.integers(0, 9), min_size=1, max_size=12)
    return [
        Rendered(f"c{p}-{a}", f"p{p}", (*prompt, *draw(answers)), len(prompt))
        for p, prompt in enumerate(prompts)
        for a in range(draw(st.integers(1, 3)))
    ]
