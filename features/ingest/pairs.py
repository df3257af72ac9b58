"""Preferences that follow from ratings: every unordered pair in a group whose mean ratings differ.

HelpSteer and UltraFeedback make their pairs so (dataset cards of RLHFlow's `-preference-standard` sets).
"""

from dataclasses import dataclass

import polars as pl

from armorm.features.ingest.normalise import RAW
from armorm.features.sources.base import PairRule


@dataclass(frozen=True, slots=True)
class RatedPairs:
    """Pairs with the rows that they were made of, and how many candidates were left out, by reason."""

    pairs: pl.DataFrame
    """prompt_id, source_row, chosen_id, rejected_id, margin, split; one row a distinct pair."""
    dropped: dict[str, int]


def pairs_from_ratings(rated: pl.DataFrame, rule: PairRule) -> RatedPairs:
    """Rank the conversations of each group by the mean raw rating over the rule's objectives.

    Args:
        rated: rows of `rated_schema`, of one dataset, in an order of their own: sums of fractions depend on it.
        rule: what makes a group, and which objectives count; absent ratings do not enter the mean.

    Returns:
        The pairs. `margin` is the difference of the means, in native units. Ties are dropped, and so is a
        pair that an earlier group (in order of source rows) gave already.
    """
    raws = [pl.col(f"{RAW}{objective}") for objective in rule.objectives]
    means = (
        rated.with_columns(total=pl.sum_horizontal(raws), n=pl.sum_horizontal(raw.is_not_null() for raw in raws))
        .filter(pl.col("n") > 0)
        .group_by(pl.col(rule.group_by).alias("group"), "conversation_id", "prompt_id", "split", maintain_order=True)
        .agg(
            # Rounded, since 0.1 + 0.2 and 0.3 + 0.0 are the same mean.
            score=(pl.col("total").sum() / pl.col("n").sum()).round(9),
            row=pl.col("source_row").min(),
        )
    )
    candidates = means.join(means, on="group", suffix="_other").filter(
        pl.col("conversation_id") < pl.col("conversation_id_other")
    )
    decided = candidates.filter(pl.col("score") != pl.col("score_other"))
    first_wins = pl.col("score") > pl.col("score_other")

    def pick(column: str, *, winner: bool) -> pl.Expr:
        mine, other = pl.col(column), pl.col(f"{column}_other")
        return pl.when(first_wins if winner else ~first_wins).then(mine).otherwise(other)

    chosen_row, rejected_row = pick("row", winner=True), pick("row", winner=False)
    pairs = decided.select(
        "prompt_id",
        "split",
        source_row=pl.when(chosen_row == rejected_row)
        .then(chosen_row)
        .otherwise(pl.concat_str(chosen_row, rejected_row, separator="+")),
        chosen_id=pick("conversation_id", winner=True),
        rejected_id=pick("conversation_id", winner=False),
        margin=(pl.col("score") - pl.col("score_other")).abs().round(9),
    )
    distinct = pairs.sort("source_row", "chosen_id", "rejected_id").unique(
        ["chosen_id", "rejected_id"], keep="first", maintain_order=True
    )
    return RatedPairs(distinct, {"tie": len(candidates) - len(decided), "duplicate_pair": len(pairs) - len(distinct)})
