"""Argilla-Math-Preference and Argilla-Capybara: two answers to a prompt, each rated by GPT-4, the first one preferred.

Cards, both Apache-2.0: argilla/distilabel-math-preference-dpo, 2,418 rows, two solutions of a mathematical task as
single-turn text, the ratings 1..10, though they are of UltraFeedback's objective instruction_following, which is 1..5
there; argilla/Capybara-Preferences-Filtered, 14,811 rows, `chosen` and `rejected` whole dialogues of several turns as
messages, the ratings integers 1..5. The paper counts one rating a row and as many pairs as rows, so ties were kept and
perhaps only the chosen answers' ratings used: both are options.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

from armorm.features.conversation import Conversation
from armorm.features.objectives import Scale
from armorm.features.sources.base import Numbers, Option, Options, Pairs, Rated, Record, Rows, Source
from armorm.features.sources.forms import margins, single_turns

RATED = Option("Whose ratings are used; the paper's count is that of the chosen answers alone.", ("both", "chosen"))
TIES = Option("What becomes of answers that are rated alike; upstream's pairs hold them.", ("keep", "drop"))

FOLLOWING = {"ultrafeedback-instruction_following": Scale(1, 10)}
QUALITY = {"argilla-overall_quality": Scale(1, 5)}


def parse_math(rows: Rows, options: Options) -> Iterator[Record]:
    """Return one pair a row, and its ratings."""
    prompts = rows.text("instruction")
    chosen, rejected = (single_turns(prompts, rows.text(f"{side}_response")) for side in ("chosen", "rejected"))
    return _rated_pairs(rows, chosen, rejected, FOLLOWING, options)


def parse_capybara(rows: Rows, options: Options) -> Iterator[Record]:
    """Return one pair a row, and its ratings."""
    return _rated_pairs(rows, rows.messages("chosen"), rows.messages("rejected"), QUALITY, options)


def _rated_pairs(
    rows: Rows,
    chosen: Sequence[Conversation],
    rejected: Sequence[Conversation],
    scales: Mapping[str, Scale],
    options: Options,
) -> Iterator[Record]:
    """Yield one pair a row, and the ratings of both or of the chosen side; a pair against its ratings is rejected."""
    ((objective, scale),) = scales.items()
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


def _source(
    name: str, upstream: str, parse: Callable[[Rows, Options], Iterator[Record]], scales: Mapping[str, Scale]
) -> Source:
    return Source(name, upstream, "Apache-2.0", parse, scales, pairs=True, options={"rated": RATED, "ties": TIES})


MATH = _source("argilla-math", "argilla/distilabel-math-preference-dpo", parse_math, FOLLOWING)
CAPYBARA = _source("argilla-capybara", "argilla/Capybara-Preferences-Filtered", parse_capybara, QUALITY)
