"""Argilla-OpenOrca: two generations a prompt, each rated by GPT-4 in the manner of JudgeLM.

Card: argilla/distilabel-intel-orca-dpo-pairs, Apache-2.0, 12,859 rows. `rating[i]`, 1..10, belongs to `generations[i]`;
it is null or empty where the judge's answer could not be read, and such rows are dropped. `system` may be empty.
`chosen` and `rejected` were swapped where the judge disagreed with the original order, and ties stay (`status`), so the
paper takes no pairs from here. Rows that are in GSM8K's training set are marked; keeping them is an option.
"""

from collections.abc import Iterator

from armorm.features.objectives import Scale
from armorm.features.sources.argilla import RATED
from armorm.features.sources.base import Option, Options, Rated, Rows, Source
from armorm.features.sources.forms import single_turns, with_system


def parse(rows: Rows, options: Options) -> Iterator[Rated]:
    """Yield one rated conversation a generation; a broken one is refused and the other is kept."""
    systems, inputs = rows.text("system", default=""), rows.text("input")
    generations, ratings = rows.array("generations"), rows.array("rating", default=[])
    rows.drop_where((not of_row for of_row in ratings), "not_rated")
    rows.reject_where(
        (len(texts) != len(of_row) for texts, of_row in zip(generations, ratings, strict=True)),
        "ratings_do_not_match",
        lambda row: f"got {len(ratings[row])} ratings of {len(generations[row])} generations",
    )
    if options["gsm8k"] == "drop":
        rows.drop_where(rows.boolean("in_gsm8k_train"), "in_gsm8k_train")
    of_rows = [
        [{"generation": text, "rating": rating} for text, rating in zip(texts, of_row, strict=False)]
        for texts, of_row in zip(generations, ratings, strict=True)
    ]
    if options["rated"] == "chosen":
        chosen = rows.text("chosen")
        of_rows = [[one for one in of_row if one["generation"] == chosen[row]] for row, of_row in enumerate(of_rows)]
    parts = rows.parts(of_rows, "generation")
    conversations = single_turns(parts.of_whole(inputs), parts.text("generation"))
    yield Rated(
        parts, with_system(parts.of_whole(systems), conversations), {"argilla-judge_lm": parts.rating("rating")}
    )


GSM8K = Option("Whether rows that are in GSM8K's training set are used; the paper does not say.", ("keep", "drop"))
SOURCE = Source(
    "argilla-openorca",
    "argilla/distilabel-intel-orca-dpo-pairs",
    "Apache-2.0",
    parse,
    scales={"argilla-judge_lm": Scale(1, 10)},
    options={"rated": RATED, "gsm8k": GSM8K},
)
