"""What Argilla's preference datasets have in common: two answers to a prompt, each rated, the first one preferred."""

from collections.abc import Iterator, Sequence

from armorm.features.conversation import Conversation
from armorm.features.objectives import Scale
from armorm.features.sources.base import Numbers, Option, Options, Pairs, Rated, Record, Rows
from armorm.features.sources.forms import margins

RATED = Option("Whose ratings are used; the paper's count is that of the chosen answers alone.", ("both", "chosen"))
TIES = Option("What becomes of answers that are rated alike; upstream's pairs hold them.", ("keep", "drop"))


def rated_pairs(
    rows: Rows,
    chosen: Sequence[Conversation],
    rejected: Sequence[Conversation],
    *,
    objective: str,
    scale: Scale,
    options: Options,
) -> Iterator[Record]:
    """Yield one pair a row, and the ratings of both or of the chosen side; a pair against its ratings is rejected."""
    ratings = [rows.rating(f"{side}_rating") for side in ("chosen", "rejected")]
    differences = margins(
        rows, *(_on_scale(scale, of_side) for of_side in ratings), ties="drop" if options["ties"] == "drop" else "keep"
    )
    yield Rated(rows, chosen, {objective: ratings[0]})
    if options["rated"] == "both":
        yield Rated(rows, rejected, {objective: ratings[1]})
    yield Pairs(rows, chosen, rejected, differences)


def _on_scale(scale: Scale, ratings: Numbers) -> Numbers:
    """Return the ratings that are on the scale, else None: others are refused later and say nothing about the pair."""
    return [rating if rating is not None and rating in scale else None for rating in ratings]
