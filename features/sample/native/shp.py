"""SHP: pairs of comments under one post, the one with more votes preferred; a post has as many pairs as it can."""

import itertools
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from numpy.random import Generator

from armorm.features.sample.native.base import ABSENT, Dataset, Defect, Files, PairIds, Row, Truth, exchanged
from armorm.features.sample.native.rewardbench import leaks
from armorm.features.sample.native.truth import pair_ids, text_pair
from armorm.features.sample.world.text import Answer
from armorm.features.sample.world.words import Kind
from armorm.features.sample.world.world import DOUBT, Group, World

SUBREDDITS: Mapping[str, Kind] = {"askculinary": "chat", "askengineers": "code", "askscience": "maths"}

SPLITS = ("train",) * 6 + ("validation", "test")
"""Posts take them in turn."""

COMMENTS = (2, 2, 5, 3, 2, 5, 2)
"""The numbers of comments of posts, in turn: few have many, and those have most of the pairs."""

LEAST_RATIO = 2.0
PAIRS_PER_POST = 5


def files(world: World) -> Files:
    """Return one row a pair of comments, one folder a subreddit, one file a split."""
    rows: defaultdict[str, list[Row]] = defaultdict(list)
    for subreddit, kind in SUBREDDITS.items():
        rng = world.rng(f"shp {subreddit} votes")
        for n, group in enumerate(world.groups(f"shp {subreddit}", 45, max(COMMENTS), mix={kind: 1.0})):
            split, n_comments = SPLITS[n % len(SPLITS)], COMMENTS[n % len(COMMENTS)]
            rows[f"shp/{subreddit}/{split}.json"] += _post(rng, f"{subreddit}_{split}", group, n_comments)
    return rows


def _post(rng: Generator, domain: str, group: Group, n_comments: int) -> list[Row]:
    answers = group.answers[:n_comments]
    comments = [_comment(rng, *voted) for voted in zip(answers, _votes(rng, group, answers), strict=True)]
    post = {
        "post_id": f"{rng.integers(36**5):07x}",
        "domain": domain,
        "upvote_ratio": round(0.8 + 0.2 * rng.random(), 2),
        "history": group.question,
    }
    pairs = [pair if rng.random() < 0.5 else pair[::-1] for pair in itertools.combinations(comments, 2)]
    return [post | _compared(a, b) for a, b in pairs]


def _votes(rng: Generator, group: Group, comments: Sequence[Answer]) -> list[int]:
    """Return votes that grow exponentially with a comment's merit; no two pairs of a post have the same ratio."""
    while True:
        votes = [round(60 * 5 ** (group.merit(comment) + DOUBT * rng.standard_normal())) for comment in comments]
        ratios = [_ratio(*pair) for pair in itertools.combinations(votes, 2)]
        if len(set(ratios)) == len(ratios) and 1 not in ratios:
            return votes


def _ratio(a: int, b: int) -> float:
    return max(a, b) / min(a, b)


def _comment(rng: Generator, answer: Answer, votes: int) -> Row:
    return {
        "c_root_id": f"g{rng.integers(36**5):07x}",
        "created_at_utc": 1_600_000_000 + int(rng.integers(86_400)),
        "score": votes,
        "human_ref": answer.text,
    }


def _compared(a: Row, b: Row) -> Row:
    return {
        **{f"{name}_A": value for name, value in a.items()},
        **{f"{name}_B": value for name, value in b.items()},
        "labels": int(a["score"] > b["score"]),
        "seconds_difference": float(abs(a["created_at_utc"] - b["created_at_utc"])),
        "score_ratio": _ratio(a["score"], b["score"]),
    }


def _truth(rows: Sequence[Row]) -> Truth:
    """Return the pairs that are kept: of each post's distinct ones those with the highest ratios."""
    ratios = {_ids(row): (row["history"], row["score_ratio"]) for row in rows}
    posts: defaultdict[str, list[tuple[float, PairIds]]] = defaultdict(list)
    for ids, (history, ratio) in ratios.items():
        posts[history].append((ratio, ids))
    pairs = [ids for post in posts.values() for _, ids in sorted(post, reverse=True)[:PAIRS_PER_POST]]
    dropped = {"duplicate_pair": len(rows) - len(ratios), "beyond_pairs_per_prompt": len(ratios) - len(pairs)}
    return Truth(pairs=sorted(pairs), dropped=Counter(dropped))


def _ids(row: Row) -> PairIds:
    chosen, other = _sides(row)
    return pair_ids(text_pair(row, "history", f"human_ref_{chosen}", f"human_ref_{other}"))


def _sides(row: Row) -> tuple[str, str]:
    """Return the letter of the preferred comment, then the other."""
    return ("A", "B") if row["labels"] == 1 else ("B", "A")


def _left_out(file: str, row: Row) -> str:
    return "" if row["score_ratio"] > LEAST_RATIO else "score_ratio_too_low"


def _leaks(world: World) -> tuple[Defect, ...]:
    return leaks(world, lambda row: SUBREDDITS[row["domain"].split("_")[0]], lambda row, prompt: {"history": prompt})


def _other_label(row: Row) -> Row:
    return {"labels": 1 - row["labels"]}


def _mirrored(row: Row) -> Row:
    columns = ("c_root_id", "created_at_utc", "score", "human_ref")
    return exchanged(row, *((f"{name}_A", f"{name}_B") for name in columns)) | _other_label(row)


def _twice_the_votes(row: Row) -> Row:
    chosen, other = _sides(row)
    return {f"score_{chosen}": 2 * row[f"score_{other}"], "score_ratio": LEAST_RATIO}


DEFECTS = (
    Defect("sides_swapped", 0.006, _mirrored, beside=True),
    Defect("missing_column", 0.004, {"human_ref_A": ABSENT}, "rejected"),
    Defect("unknown_label", 0.004, {"labels": 2}, "rejected", "label_not_0_or_1"),
    Defect("label_contradicts_votes", 0.004, _other_label, "rejected", "preference_contradicts_scores"),
    Defect("identical_pair", 0.004, lambda row: {"human_ref_B": row["human_ref_A"]}, "dropped"),
    Defect("twice_the_votes", 0.01, _twice_the_votes, "dropped", "score_ratio_too_low"),
    Defect("empty_comment", 0.004, {"human_ref_B": ""}, "rejected", "empty_turn"),
    Defect("very_long_post", 0.003, lambda row: {"history": " ".join([row["history"]] * 150)}),
    Defect("html_entities", 0.02, lambda row: {"human_ref_A": f"&gt; Q &amp; A\n\n{row['human_ref_A']}"}),
    Defect("escaped_slashes", 0.01, lambda row: {"history": f"{row['history']} [See](https:\\/\\/example.org\\/faq)."}),
)
DATASET = Dataset("shp", "lines", files, _truth, DEFECTS, leaks=_leaks, left_out=_left_out)
