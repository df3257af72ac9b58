"""Contamination: prompts of the training data that stand in an evaluation dataset, word for word or nearly so.

Two prompts are compared by the Jaccard similarity of their sets of shingles: the runs of `ngram` words of the user's
turns. The evaluation side is small, so its shingles are indexed, and the other prompts are read past it once.
"""

import math
import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Final

import pyarrow as pa

from armorm.features.catalog.inventory import rows_of
from armorm.features.catalog.views import Catalog, connect
from armorm.features.errors import InputError
from armorm.features.store import Made, Recipe, Snapshot, Store
from armorm.features.store.json_records import Summary
from armorm.features.store.stage import Computed, OnProgress, Stage, recipe_on_data
from armorm.features.tables import make_table, write_parquet

STAGE: Final = "contamination"
STAGE_VERSION: Final = 1

FETCH_ROWS: Final = 4096
"""Prompts that are in memory at once, beside the evaluation datasets'."""

_WORD: Final = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True)
class ContaminationSettings:
    """`[contamination]`: what counts as the same prompt as one that is evaluated on."""

    ngram: int = 1
    """Words of a shingle."""
    threshold: float = 0.75
    """Jaccard similarity from which on a prompt is left out of training."""
    against: tuple[str, ...] = ()
    """Evaluation datasets to compare with; none named means all of them."""

    def __post_init__(self) -> None:
        if self.ngram < 1:
            raise ValueError(f"ngram: got {self.ngram}; expected 1 or more")
        if not 0 < self.threshold <= 1:
            raise ValueError(f"threshold: got {self.threshold}; expected a number above 0, at most 1")


@dataclass(frozen=True, slots=True)
class Counts:
    """How many of the training data stand in an evaluation dataset."""

    exact: int = 0
    near: int = 0


@dataclass(frozen=True, slots=True)
class LeftOut(Summary):
    """What is left out of training."""

    prompts: Counts = Counts()
    ratings: Counts = Counts()
    pairs: Counts = Counts()


def _line(of: LeftOut) -> str:
    named = (("prompts", of.prompts), ("ratings", of.ratings), ("pairs", of.pairs))
    listed = ", ".join(f"{n.exact} + {n.near} {what}" for what, n in named)
    return f"left out as they stand in an evaluation dataset, exactly + nearly: {listed}"


def shingles(text: str, ngram: int) -> frozenset[str]:
    """Return the runs of `ngram` words (letters and digits, in lower case); a text with fewer words is one shingle."""
    words = _WORD.findall(text.lower())
    if len(words) <= ngram:
        return frozenset([" ".join(words) or text])  # what has no words, such as "?!", is only like itself
    return frozenset(" ".join(run) for run in zip(*(words[start:] for start in range(ngram)), strict=False))


class PromptIndex:
    """An index that finds, among its texts, those that are similar to another one.

    No match is lost by the index. Two sets whose similarity is at least `threshold` share at least
    `need(size) = ceil(threshold * size)` shingles of either. So their sizes are not far apart; and, whatever the order
    of shingles, the first one that they share is among the first `size - need(size) + 1` of each. With the rarest
    first, few sets share one of those.
    """

    def __init__(self, texts: Sequence[str], *, ngram: int, threshold: float) -> None:
        self._ngram = ngram
        self._threshold = threshold
        sets = [shingles(text, ngram) for text in texts]
        counts = Counter(shingle for set_ in sets for shingle in set_)
        self._rank = {shingle: rank for rank, shingle in enumerate(sorted(counts, key=lambda s: (counts[s], s)))}
        self._numbers = sorted(range(len(sets)), key=lambda number: len(sets[number]))
        self._sets = [frozenset(self._rank[shingle] for shingle in sets[number]) for number in self._numbers]
        self._sizes = [len(ranks) for ranks in self._sets]
        self._holders: dict[int, list[int]] = {}
        """Rank of a shingle to the places of the sets, by size, that it is one of the first of."""
        for place, ranks in enumerate(self._sets):
            for rank in sorted(ranks)[: len(ranks) - self._need(len(ranks)) + 1]:
                self._holders.setdefault(rank, []).append(place)

    def similar_to(self, text: str) -> Iterator[tuple[int, float]]:
        """Yield the numbers of the texts of at least the threshold, each with its similarity."""
        own = shingles(text, self._ngram)
        known = {self._rank[shingle] for shingle in own if shingle in self._rank}
        need = self._need(len(own))
        if len(known) < need:
            return
        smallest = bisect_left(self._sizes, need)
        largest = bisect_right(self._sizes, len(own) / self._threshold + 1e-9)
        candidates: set[int] = set()
        # Shingles that no text holds come before all others: what is left of the first ones is this.
        for rank in sorted(known)[: len(known) - need + 1]:
            holders = self._holders.get(rank, [])
            candidates.update(holders[bisect_left(holders, smallest) : bisect_left(holders, largest)])
        for place in candidates:
            shared = len(known & self._sets[place])
            similarity = shared / (len(own) + self._sizes[place] - shared)
            if similarity >= self._threshold:
                yield self._numbers[place], similarity

    def _need(self, size: int) -> int:
        return math.ceil(self._threshold * size - 1e-9)  # 0.07 * 100 is a little more than 7


def _recipe(stage: Stage, snapshot: Snapshot, backbone_id: str, settings: ContaminationSettings) -> Recipe:
    return recipe_on_data(stage, snapshot, asdict(settings) | {"against": list(settings.against)})


def _make(store: Store, backbone_id: str, settings: ContaminationSettings, on_progress: OnProgress) -> Made:
    """Compare every prompt with those of the evaluation datasets.

    Raises:
        InputError: the settings name a dataset that is no evaluation dataset of the store.
    """
    with connect(store) as connection:
        table = make_table(STAGE, _matches(connection, settings, on_progress))
        counts = _left_out(connection, table)
    objects = {STAGE: store.objects.put("parquet", partial(write_parquet, table=table))}
    return Made(objects, counts)


CONTAMINATION: Final[Computed[ContaminationSettings]] = Computed(
    name=STAGE,
    version=STAGE_VERSION,
    part="check",
    after=("ingest",),
    table="contamination",
    record=LeftOut,
    line_of=_line,
    recipe_of=_recipe,
    work_of=rows_of("conversations"),
    make=_make,
)
"""Prompts that are left out of training; progress counts prompts."""


def _matches(connection: Catalog, settings: ContaminationSettings, on_progress: OnProgress) -> list[dict[str, Any]]:
    """Return the rows of the table."""
    held = _held(connection, settings.against)
    benchmark = {id: text for id, text in _prompts(connection, "split = 'evaluation'") if id in held}
    ids = list(benchmark)
    index = PromptIndex(list(benchmark.values()), ngram=settings.ngram, threshold=settings.threshold)
    others = _PROMPTS.format(condition="split <> 'evaluation'")
    ((total,),) = connection.execute(f"SELECT count(*) {others}").fetchall()
    found: dict[tuple[str, str], float] = {}
    for done, (prompt_id, text) in enumerate(_prompts(connection, "split <> 'evaluation'"), start=1):
        found |= {(prompt_id, ids[number]): similarity for number, similarity in index.similar_to(text)}
        if done % FETCH_ROWS == 0:
            on_progress(done, total)
    return [
        {
            "prompt_id": prompt_id,
            "evaluation_prompt_id": evaluation_prompt_id,
            "evaluation_dataset": dataset,
            "similarity": similarity,
        }
        for (prompt_id, evaluation_prompt_id), similarity in found.items()
        for dataset in held[evaluation_prompt_id]
    ]


def _held(connection: Catalog, against: Sequence[str]) -> dict[str, list[str]]:
    """Return each prompt to compare with, and the evaluation datasets that hold it."""
    rows = connection.execute(
        "SELECT DISTINCT prompt_id, dataset FROM occurrences WHERE split = 'evaluation' ORDER BY ALL"
    ).fetchall()
    known = sorted({dataset for _, dataset in rows})
    if unknown := sorted(set(against) - set(known)):
        raise InputError(
            f"contamination.against: got {', '.join(unknown)}; expected evaluation datasets of the store: "
            f"{', '.join(known) or 'there is none'}; correct the names, or leave them out"
        )
    held: dict[str, list[str]] = {}
    for prompt_id, dataset in rows:
        if dataset in (against or known):
            held.setdefault(prompt_id, []).append(dataset)
    return held


_PROMPTS: Final = """
    FROM stored_conversations SEMI JOIN (
        SELECT min(conversation_id) AS conversation_id FROM occurrences WHERE {condition} GROUP BY prompt_id
    ) USING (conversation_id)
"""
"""One conversation of each prompt. Not the view: it groups by content, and this is to stream."""


def _prompts(connection: Catalog, condition: str) -> Iterator[tuple[str, str]]:
    """Yield prompt ids with the text of the user's turns; a conversation that datasets share may come several times."""
    text = "array_to_string([turn.content FOR turn IN messages IF turn.role = 'user'], ' ')"
    cursor = connection.execute(f"SELECT prompt_id, {text} {_PROMPTS.format(condition=condition)}")
    while rows := cursor.fetchmany(FETCH_ROWS):
        yield from rows


def _left_out(connection: Catalog, table: pa.Table) -> LeftOut:
    connection.register("found", table)
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE left_out AS "
        "SELECT prompt_id, bool_or(prompt_id = evaluation_prompt_id) AS exact FROM found GROUP BY prompt_id"
    )
    of_training = "JOIN left_out USING (prompt_id) WHERE split <> 'evaluation'"

    def counted(rows: str) -> Counts:
        sql = f"SELECT count(*) FILTER (exact), count(*) FILTER (NOT exact) FROM {rows}"
        return Counts(*connection.execute(sql).fetchall()[0])

    return LeftOut(counted("left_out"), counted(f"ratings {of_training}"), counted(f"preferences {of_training}"))
