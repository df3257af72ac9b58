"""What the regression is solved from: statistics of the rows of each dataset, set of labelled objectives and split.

They are kept as an artifact with the rows that they count. When rows have come, gone or changed, just these are read:
the old ones are taken out of the sums, the new ones added. Rows that are fewer than the features are numbers are not
summed up beforehand, since they take less room, and hardly more time, than their Gram matrix.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow.parquet as pq

from armorm.features.catalog.inventory import rows_of, stored_objectives
from armorm.features.checks import contamination
from armorm.features.conversation import TRAINING
from armorm.features.embedding import embed
from armorm.features.errors import NotInStore
from armorm.features.store import Artifact, Made, ObjectRef, Recipe, Snapshot, Store, content_id
from armorm.features.store.json_records import Summary
from armorm.features.store.stage import Computed, OnProgress
from armorm.features.tables import check_parquet, write_parquet
from armorm.features.vectors.shards import FeatureReader
from armorm.maths.ridge import BLOCK_ROWS, Part, label_masks
from armorm.maths.statistics import RidgeStatistics
from armorm.stages.common import in_blas_threads, put_tensors, read_arrays, stage_artifact, stage_recipe
from armorm.stages.data import RatedRows, load_ratings

STAGE = "statistics"
STAGE_VERSION = 1

PLACE: Final = ("split", "shard", "row")
"""The first columns of a table of rows; the others are the objectives, with the values."""


@dataclass(frozen=True, slots=True)
class Group:
    """The rows of one dataset on which the same objectives are labelled."""

    name: str
    """Dataset, and 8 hex digits over the objectives."""
    rows: pl.DataFrame
    """The rated rows of the splits of `TRAINING`, in order."""

    @property
    def objectives(self) -> list[str]:
        """The objectives that are labelled."""
        return [name for name in self.rows.columns if name not in PLACE]

    def of(self, split: str) -> pl.DataFrame:
        """The rows of a split."""
        return self.rows.filter(pl.col("split") == split)


@dataclass(frozen=True, slots=True)
class Counted(Summary):
    """How many rows the statistics count."""

    rows: int
    groups: int = 0
    read: int = 0
    """How many were counted this time; the others were before."""


@in_blas_threads
def _make(store: Store, backbone_id: str, settings: None, on_progress: OnProgress) -> Made:
    """Add rows that are new to the kept statistics, and take those out that are no more."""
    reader = FeatureReader(store, backbone_id)
    rated = load_ratings(store, stored_objectives(store.head()), backbone_id=backbone_id)
    groups = groups_of(rated, reader)
    update = _Update(
        store,
        reader,
        _earlier(store.head(), STATISTICS.recipe(store.head(), None, backbone_id)),
        on_progress,
        sum(len(g.rows) for g in groups),
    )
    objects = {name: ref for group in groups for name, ref in update.of(group).items()}
    n_read = update.n_read
    return Made(objects, Counted(update.total, len(groups), n_read, measured={"rows": n_read} if n_read else {}))


STATISTICS: Final[Computed[None]] = Computed(
    name=STAGE,
    version=STAGE_VERSION,
    part="train",
    after=(embed.STAGE, contamination.STAGE),
    rows="ratings",
    splits=TRAINING,  # figures of `test` have standard errors and ranks, which take its rows one by one
    record=Counted,
    line_of=lambda of: f"{of.rows} rated rows in {of.groups} groups, {of.read} of them read",
    recipe_of=stage_recipe,
    work_of=rows_of("ratings"),  # at most: what has changed is not known before
    make=_make,
)
"""The sums that the regression is solved from; progress counts rows, of which those counted already are not read."""


def groups_of(rated: RatedRows, reader: FeatureReader) -> list[Group]:
    """The training and validation rows by dataset and by what is labelled, each with the place of its vector."""
    seen = np.flatnonzero(np.isin(rated.split_N.astype(str), TRAINING))
    places = reader.places("conversation", rated.conversation_ids[seen].tolist())
    rows = places.select(split=pl.Series(rated.split_N[seen], dtype=pl.String), shard="shard", row="row")
    datasets_N, Y_NK = rated.dataset_N[seen].astype(str), rated.Y_NK[seen]
    groups = []
    for dataset in np.unique(datasets_N):
        of_dataset = np.flatnonzero(datasets_N == dataset)
        for within, columns in label_masks(Y_NK[of_dataset]):
            at, names = of_dataset[within], [rated.objectives[k] for k in columns]
            values = [pl.Series(name, Y_NK[at, k]) for name, k in zip(names, columns, strict=True)]
            group = rows[at].with_columns(values).sort([*PLACE, *names])
            groups.append(Group(f"{dataset}/{content_id(names)[:8]}", group))
    return groups


def read_parts(store: Store, backbone_id: str) -> list[Part]:
    """Return the kept statistics as what is fitted; those of few rows are counted here.

    Raises:
        NotInStore: there are none, or they are of other tables than the newest snapshot's.
    """
    head = store.head()
    artifact = stage_artifact(head, STAGE)
    if reason := STATISTICS.reason(head, None, backbone_id):
        raise NotInStore(f"got statistics that are out of date ({reason}); expected new ones; run `armorm train`")
    reader = FeatureReader(store, backbone_id)
    # in order: an artifact that was just made has its objects in another one, and sums would end in other bits
    names = sorted(name.removeprefix("rows/") for name in artifact.objects if name.startswith("rows/"))
    groups = [Group(name, _read_rows(store, artifact.objects[f"rows/{name}"])) for name in names]
    return [Part(tuple(group.objectives), partial(_statistics, store, artifact, reader, group)) for group in groups]


def changes(before: pl.DataFrame, after: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows that only the first table has, and those that only the second has, as often as it has them more."""
    signed = pl.concat([before.with_columns(times=pl.lit(-1)), after.with_columns(times=pl.lit(1))])
    sums = signed.group_by(after.columns).agg(pl.col("times").sum()).sort(after.columns)
    gone, new = (
        sums.filter(pl.col("times") * sign > 0)
        .select(pl.exclude("times").repeat_by(pl.col("times").abs()))
        .explode(after.columns)
        for sign in (-1, 1)
    )
    return gone, new


@dataclass(slots=True)
class _Update:
    store: Store
    reader: FeatureReader
    earlier: Artifact | None
    on_progress: Callable[[int, int], None]
    total: int
    n_read: int = 0

    def of(self, group: Group) -> dict[str, ObjectRef]:
        """Return the objects of a group: its rows, and the statistics of each split that has enough of them."""
        known = self.earlier.objects if self.earlier else {}
        before = (
            Group(group.name, _read_rows(self.store, known[name])) if (name := f"rows/{group.name}") in known else None
        )
        objects = {name: _put_rows(self.store, group.rows)}
        for split in TRAINING:
            rows, kept = group.of(split), known.get(f"{split}/{group.name}")
            if len(rows) >= self.reader.width:
                old = (kept, before.of(split)) if kept and before else None
                objects[f"{split}/{group.name}"] = self._of_split(rows, group.objectives, old)
        return objects

    def _of_split(
        self, rows: pl.DataFrame, objectives: Sequence[str], old: tuple[ObjectRef, pl.DataFrame] | None
    ) -> ObjectRef:
        if old:
            kept, counted = old
            gone, new = changes(counted, rows)
            if not len(gone) + len(new):
                return kept
            if len(gone) + len(new) < len(rows) and self.reader.shards.issuperset(gone["shard"].unique()):
                statistics = RidgeStatistics.of_arrays(read_arrays(self.store, kept))
                self._count(statistics, new, objectives, 1)
                self._count(statistics, gone, objectives, -1)
                if not statistics.is_expired:
                    return put_tensors(self.store, statistics.arrays())
        statistics = RidgeStatistics.zeros(self.reader.width, len(objectives))
        self._count(statistics, rows, objectives, 1)
        return put_tensors(self.store, statistics.arrays())

    def _count(
        self, statistics: RidgeStatistics, rows: pl.DataFrame, objectives: Sequence[str], sign: Literal[1, -1]
    ) -> None:
        for block in rows.iter_slices(BLOCK_ROWS):
            statistics.add(*_block(self.reader, block, objectives), sign=sign)
            self.n_read += len(block)
            self.on_progress(min(self.n_read, self.total), self.total)


def _earlier(snapshot: Snapshot, recipe: Recipe) -> Artifact | None:
    """Return the kept statistics, if they are of the same kind and backbone."""
    found = snapshot.artifacts.get(STAGE)
    same = found and (found.recipe.version, found.recipe.parameters) == (recipe.version, recipe.parameters)
    return found if same else None


def _statistics(store: Store, artifact: Artifact, reader: FeatureReader, group: Group, split: str) -> RidgeStatistics:
    if ref := artifact.objects.get(f"{split}/{group.name}"):
        return RidgeStatistics.of_arrays(read_arrays(store, ref))
    statistics = RidgeStatistics.zeros(reader.width, len(group.objectives))
    statistics.add(*_block(reader, group.of(split), group.objectives))
    return statistics


def _block(
    reader: FeatureReader, rows: pl.DataFrame, objectives: Sequence[str]
) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.floating]]:
    """Features `[N, D]` and labels `[N, G]`."""
    return reader.read(rows), rows.select(objectives).to_numpy()


def _put_rows(store: Store, rows: pl.DataFrame) -> ObjectRef:
    return store.objects.put("parquet", partial(write_parquet, table=rows.to_arrow()))


def _read_rows(store: Store, ref: ObjectRef) -> pl.DataFrame:
    path = store.objects.path(ref)
    check_parquet(path)
    return pl.DataFrame(pq.read_table(path))
