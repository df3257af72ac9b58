"""Argilla-Capybara: two answers that end a dialogue of several turns, each with an overall rating by GPT-4.

Card: argilla/Capybara-Preferences-Filtered, Apache-2.0, 14,811 rows. `chosen` and `rejected` are whole dialogues as
messages, the ratings integers 1..5. The paper counts one rating a row and as many pairs as rows, so ties were kept and
perhaps only the chosen answers' ratings used: both are options.
"""

from collections.abc import Iterator

from armorm.features.objectives import Scale
from armorm.features.sources import argilla
from armorm.features.sources.base import Options, Record, Rows, Source

OBJECTIVE = "argilla-overall_quality"
SCALE = Scale(1, 5)


def parse(rows: Rows, options: Options) -> Iterator[Record]:
    """Return one pair a row, and its ratings."""
    chosen, rejected = rows.messages("chosen"), rows.messages("rejected")
    return argilla.rated_pairs(rows, chosen, rejected, objective=OBJECTIVE, scale=SCALE, options=options)


SOURCE = Source(
    name="argilla-capybara",
    upstream="argilla/Capybara-Preferences-Filtered",
    licence="Apache-2.0",
    parse=parse,
    scales={OBJECTIVE: SCALE},
    pairs=True,
    options={"rated": argilla.RATED, "ties": argilla.TIES},
)
