"""Argilla-Math-Preference: two solutions of a mathematical task, each with a rating by GPT-4.

Card: argilla/distilabel-math-preference-dpo, Apache-2.0, 2,418 rows, single-turn text. The ratings are 1..10, though
they are of UltraFeedback's objective instruction_following, which is 1..5 there. The paper counts one rating a row and
as many pairs as rows, so ties were kept and perhaps only the chosen solutions' ratings used: both are options.
"""

from collections.abc import Iterator

from armorm.features.objectives import Scale
from armorm.features.sources import argilla
from armorm.features.sources.base import Options, Record, Rows, Source
from armorm.features.sources.forms import single_turns

OBJECTIVE = "ultrafeedback-instruction_following"
SCALE = Scale(1, 10)


def parse(rows: Rows, options: Options) -> Iterator[Record]:
    """Return one pair a row, and its ratings."""
    prompts = rows.text("instruction")
    chosen, rejected = (single_turns(prompts, rows.text(f"{side}_response")) for side in ("chosen", "rejected"))
    return argilla.rated_pairs(rows, chosen, rejected, objective=OBJECTIVE, scale=SCALE, options=options)


SOURCE = Source(
    name="argilla-math",
    upstream="argilla/distilabel-math-preference-dpo",
    licence="Apache-2.0",
    parse=parse,
    scales={OBJECTIVE: SCALE},
    pairs=True,
    options={"rated": argilla.RATED, "ties": argilla.TIES},
)
