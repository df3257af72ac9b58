"""What a dataset's usable rows give, by the rule of its card: worked out here, apart from whatever reads the files."""

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from armorm.features.conversation import Conversation, conversation_id, single_turn
from armorm.features.sample.native.base import PairIds, Row, Truth

Rated = tuple[Conversation, Mapping[str, float]]
"""A conversation with its raw ratings by objective."""

Pair = tuple[Conversation, Conversation]
"""The preferred conversation, and the other."""

Rule = Callable[[Sequence[Row]], Truth]


def from_ratings(
    rated: Callable[[Row], Iterable[Rated]],
    *,
    ranked_by: Collection[str] = (),
    together: Callable[[Row], Hashable] = id,
) -> Rule:
    """Return the rule for rated rows.

    Args:
        rated: what one row rates.
        ranked_by: objectives whose mean ranks conversations into pairs; without any there are no pairs.
        together: rows of the same key are ranked together; by default each one is by itself.
    """

    def truth(rows: Sequence[Row]) -> Truth:
        counts = Counter[str]()
        scores: defaultdict[Hashable, defaultdict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for row in rows:
            for conversation, ratings in rated(row):
                counts.update(ratings.keys())
                of_rank = [rating for objective, rating in ratings.items() if objective in ranked_by]
                scores[together(row)][conversation_id(conversation)] += of_rank
        return Truth(counts, sorted({pair for group in scores.values() for pair in _ranked(group)}))

    return truth


def from_pairs(pair: Callable[[Row], Pair], *, rated_on: str = "", benchmark: bool = False) -> Rule:
    """Return the rule for rows that are a pair each and may rate both sides; only benchmarks keep repeated pairs."""

    def truth(rows: Sequence[Row]) -> Truth:
        pairs = [pair_ids(pair(row)) for row in rows]
        if not benchmark:
            pairs = list(dict.fromkeys(pairs))
        ratings = Counter({rated_on: 2 * len(rows)} if rated_on else {})
        return Truth(ratings, sorted(pairs), Counter(duplicate_pair=len(rows) - len(pairs)))

    return truth


def text_pair(row: Row, prompt: str, chosen: str, rejected: str) -> Pair:
    """Return two answers to a prompt, by the columns of the texts."""
    return single_turn(row[prompt], row[chosen]), single_turn(row[prompt], row[rejected])


def pair_ids(pair: Pair) -> PairIds:
    """Return the ids of both conversations."""
    chosen, rejected = pair
    return conversation_id(chosen), conversation_id(rejected)


def is_whole(rating: Any, lo: int, hi: int) -> bool:
    """Return whether a rating is a whole number of the scale, or its digits."""
    return str(rating) in map(str, range(lo, hi + 1))


def _ranked(scores: Mapping[str, Sequence[float]]) -> list[PairIds]:
    """Return all pairs whose mean scores differ, the better first."""
    means = {id: fmean(of) for id, of in scores.items() if of}
    return [(a, b) for a, b in itertools.permutations(means, 2) if means[a] > means[b]]
