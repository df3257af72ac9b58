"""SHP: two comments under a Reddit post, the one with more votes preferred.

Card: stanfordnlp/SHP, 385,563 rows in 18 folders, one a subreddit, no licence but Reddit's API terms. `labels` is 1
where comment A is preferred and 0 where B is; a label against the votes is rejected. A comment is in many pairs, and a
few posts have most of the pairs: only pairs with a `score_ratio` above 2 are kept, and at most 5 of a post (RLHFlow,
March 2024). Which 5 is not published, and the paper's count differs from theirs, so all three are options. Text is kept
as it is, HTML entities included.
"""

from collections.abc import Iterator

from armorm.features.sources.base import Option, Options, Pairs, Rows, Source
from armorm.features.sources.forms import better_first, margins, single_turns

HIGHEST_RATIO = "highest_ratio"


def parse(rows: Rows, options: Options) -> Iterator[Pairs]:
    """Yield one pair a row; the margin is the difference of the votes."""
    posts = rows.text("history")
    comments = [single_turns(posts, rows.text(f"human_ref_{side}")) for side in "AB"]
    votes = [rows.number(f"score_{side}") for side in "AB"]
    ratios = rows.number("score_ratio")
    a_is_better = [label == 1 for label in rows.zero_or_one("labels")]
    differences = margins(rows, *better_first(votes, a_is_better))
    rows.drop_where((a == b for a, b in zip(*comments, strict=True)), "identical_pair")
    least = float(options["min_score_ratio"])
    rows.drop_where((ratio <= least for ratio in ratios), "score_ratio_too_low")
    rank = ratios if options["choose"] == HIGHEST_RATIO else None
    yield Pairs(rows, *better_first(comments, a_is_better), differences, rank=rank)


def pairs_per_prompt(options: Options) -> int:
    """Return how many pairs of one post are kept."""
    return int(float(options["pairs_per_prompt"]))


SOURCE = Source(
    name="shp",
    upstream="stanfordnlp/SHP",
    licence="none stated (Reddit API terms)",
    parse=parse,
    pairs=True,
    pairs_per_prompt=pairs_per_prompt,
    options={
        "min_score_ratio": Option("Pairs up to this ratio of votes are dropped.", number=2),
        "pairs_per_prompt": Option("How many pairs of one post are kept.", number=5, whole=True),
        "choose": Option("Which pairs of a post are kept; upstream does not say.", (HIGHEST_RATIO, "random")),
    },
    files=("*/train.json", "*/validation.json", "*/test.json"),
)
