"""Verdicts of judges on two answers, kept by the judge and the answers, so that nobody is asked twice.

A slot holds all verdicts of one judge. A judge is told by what decides its verdicts: weights, template, prompt, model.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Final

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from armorm.features.store import Made, Recipe, Snapshot, Store, content_id
from armorm.features.store.json_records import Summary
from armorm.features.store.stage import Stage
from armorm.features.tables import SCHEMAS, check_parquet, make_table, write_parquet

STAGE: Final = "judge"
STAGE_VERSION: Final = 1

WAIT_S: Final = 600.0
"""The time that verdicts wait for another writer of the store: they may have cost money."""

KEY: Final = ("first_id", "second_id")


@dataclass(frozen=True, slots=True)
class JudgeSummary(Summary):
    """What the manifest says of a judge's verdicts."""

    name: str = ""
    n_verdicts: int = 0
    n_without: int = 0
    """Pairs of answers that it was given and has no verdict on."""


JUDGE: Final = Stage(
    name=STAGE,
    version=STAGE_VERSION,
    record=JudgeSummary,
    line_of=lambda of: f"judge {of.name}: {of.n_verdicts:,} verdicts, {of.n_without:,} pairs without one",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a judge says of two answers; see the view `verdicts`."""

    first_id: str
    second_id: str
    score_first: float | None = None
    score_second: float | None = None
    shown_first: float | None = None
    shown_second: float | None = None
    preference: float | None = None
    """Above 0 for the first answer, 0 for a tie; None without a verdict."""
    why_not: str | None = None
    """Why there is none."""
    kept: bool = True
    """False where the judge was not heard, and may be asked again."""


def judge_id(identity: Mapping[str, Any]) -> str:
    """Return 32 hex digits over all that decides a judge's verdicts."""
    return content_id(dict(identity))


def read_verdicts(store: Store, judge: str, snapshot: Snapshot | None = None) -> pl.DataFrame:
    """Return the verdicts of a judge by its id, those of the newest snapshot by default."""
    artifact = (snapshot or store.head()).artifacts.get(f"{STAGE}/{judge}")
    if artifact is None:
        return pl.DataFrame(SCHEMAS["verdicts"].empty_table())
    path = store.objects.path(artifact.objects["verdicts"])
    check_parquet(path)
    return pl.DataFrame(pq.read_table(path))


def keep_verdicts(store: Store, name: str, identity: Mapping[str, Any], verdicts: Iterable[Verdict]) -> None:
    """Add verdicts to those that are kept of a judge; one that is there stays.

    Raises:
        StoreBusy: another process has been writing for minutes.
    """
    judge = judge_id(identity)
    rows = [{**asdict(verdict), "judge": judge} for verdict in verdicts if verdict.kept]
    if not rows:
        return
    added = pl.DataFrame(pa.Table.from_pylist(rows, schema=SCHEMAS["verdicts"]))
    with store.writing(f"compare {name}", wait_s=WAIT_S) as writer:
        whole = pl.concat([read_verdicts(store, judge), added]).unique(KEY, keep="first", maintain_order=True)
        table = make_table("verdicts", whole.to_dicts())
        of_pairs = content_id(sorted(zip(*(table[name].to_pylist() for name in KEY), strict=True)))
        recipe = Recipe(f"{STAGE}/{judge}", STAGE, STAGE_VERSION, dict(identity), {"pairs": of_pairs})
        n_without = table["preference"].null_count
        summary = JudgeSummary(name, len(table) - n_without, n_without)
        objects = {"verdicts": store.objects.put("parquet", partial(write_parquet, table=table))}
        writer.commit(recipe, Made(objects, summary))
