"""How far the data have moved from those that a model was trained on, and whether another one is due."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from armorm.features.catalog.views import Catalog, connect
from armorm.features.checks import contamination
from armorm.features.checks.quality import moved_ratings
from armorm.features.store import Artifact, Snapshot, Store

MODEL: Final = "model"
"""The slot of the newest model."""


@dataclass(frozen=True, slots=True)
class RetrainSettings:
    """The settings of `[retrain]`: how much change makes a new model due."""

    rows: float = 0.05
    """Share of the rows of training that were added, removed or edited."""
    drift: float = 0.1
    """Share of a dataset's ratings of one objective that lie in another tenth of the scale."""

    def __post_init__(self) -> None:
        if not self.rows >= 0:
            raise ValueError(f"rows: got {self.rows}; expected 0 or more")
        if not 0 <= self.drift <= 1:
            raise ValueError(f"drift: got {self.drift}; expected 0 to 1")


@dataclass(frozen=True, slots=True)
class MovedRatings:
    """The ratings of one objective in a dataset that both snapshots hold."""

    dataset: str
    objective: str
    n_before: int
    n_after: int
    distance: float
    """Total variation of both histograms, in tenths of the scale: 0 to 1."""


@dataclass(frozen=True, slots=True)
class Change:
    """What differs between two snapshots for training: ratings and preferences of its splits that are not contaminated.

    A rating is edited where the same text has another one, a preference where its sides have changed places; a row
    whose text was edited is one that was removed and one that was added.
    """

    before: int
    """Numbers of the snapshots."""
    after: int
    n_before: int = 0
    """Rows in the earlier one; not counted, so 0, where the manifests tell that nothing has changed."""
    added: int = 0
    removed: int = 0
    edited: int = 0
    moved: Sequence[MovedRatings] = ()
    """The objectives whose ratings have moved, in datasets whose content has changed; the farthest first."""

    @property
    def rows(self) -> float:
        """Changed rows as a share of those that there were."""
        return (self.added + self.removed + self.edited) / max(self.n_before, 1)

    @property
    def drift(self) -> float:
        """The largest distance; 0 where nothing has moved."""
        return self.moved[0].distance if self.moved else 0.0

    @property
    def line(self) -> str:
        """One line for people."""
        if not self.n_before:
            return f"snapshot {self.before} to {self.after}: no row of training has changed"
        rows = f"{self.added:,} added, {self.removed:,} removed, {self.edited:,} edited"
        of = f" ({self.moved[0].objective} of {self.moved[0].dataset})" if self.moved else ""
        return (
            f"snapshot {self.before} to {self.after}: {self.rows:.1%} of {self.n_before:,} rows of training changed "
            f"({rows}); ratings moved by at most {self.drift:.3f}{of}"
        )


def trained_in(store: Store, model: Artifact) -> Snapshot | None:
    """Return the oldest snapshot that holds a model: what it was trained on stands beside it. None if all are gone.

    Looked for from when the model was made on, which bisection finds, since a store may have thousands of snapshots.
    """
    numbers, read = store.manifests.numbers(), store.manifests.read
    made = datetime.fromisoformat(model.created_at)
    first = bisect_left(numbers, made, key=lambda number: datetime.fromisoformat(read(number).created_at))
    return next((snapshot for snapshot in map(read, numbers[first:]) if snapshot.artifacts.get(MODEL) == model), None)


def change_since_training(store: Store) -> Change | None:
    """Return what has changed since the newest model was trained; None without a model."""
    head = store.head()
    model = head.artifacts.get(MODEL)
    before = model and trained_in(store, model)
    return change_since(store, before, head) if before else None


def change_since(store: Store, before: Snapshot, after: Snapshot) -> Change:
    """Compare two snapshots by what training would read of them, not in Python but in DuckDB, which spills to disk.

    Manifests tell which datasets are the same: of those, rows are only counted. Where all are, nothing is opened.
    """
    datasets = _changed(before, after)
    if not datasets:
        return Change(before.number, after.number)
    with connect(store, after, before=before) as catalog:
        n_before = _count(catalog)
        catalog.execute("CREATE TEMP TABLE changed AS SELECT unnest(?::VARCHAR[]) AS dataset", [datasets])
        ((added, removed, edited),) = catalog.execute(_ROWS).fetchall()
        moved = sorted(_moved(catalog), key=lambda of: -of.distance)
    return Change(before.number, after.number, n_before, added, removed, edited, moved)


def due(change: Change, settings: RetrainSettings) -> str | None:
    """Return why another model is due, in words; None while it is not."""
    reasons = []
    if change.rows > settings.rows:
        reasons.append(f"{change.rows:.1%} of the rows of training have changed, more than {settings.rows:.1%}")
    if change.drift > settings.drift:
        of = change.moved[0]
        reasons.append(
            f"the ratings {of.objective} of {of.dataset} moved by {of.distance:.3f}, more than {settings.drift:g}"
        )
    return "; ".join(reasons) or None


def _changed(before: Snapshot, after: Snapshot) -> list[str]:
    """Return datasets whose rows of training may differ: all of them where other prompts are contaminated."""
    one, other = (snapshot.ids_within("ingest") for snapshot in (before, after))
    contaminated = [snapshot.artifacts.get(contamination.STAGE) for snapshot in (before, after)]
    same = {of.artifact_id if of else None for of in contaminated}
    slots = sorted(slot for slot in {*one, *other} if len(same) > 1 or one.get(slot) != other.get(slot))
    return [slot.removeprefix("ingest/") for slot in slots]


def _count(catalog: Catalog) -> int:
    """Return rows of training in the earlier snapshot."""
    parts = "(SELECT count(*) FROM before.training_ratings) + (SELECT count(*) FROM before.training_pairs)"
    ((n_rows,),) = catalog.execute(f"SELECT {parts}").fetchall()
    return int(n_rows)


def _moved(catalog: Catalog) -> list[MovedRatings]:
    """Return how far ratings have moved, by the formula of the check `moved_ratings`, in datasets of both snapshots."""
    catalog.execute("CREATE SCHEMA compared")
    for name, schema, other in (("ratings", "main", "before"), ("earlier_ratings", "before", "main")):
        catalog.execute(
            f"CREATE VIEW compared.{name} AS SELECT dataset, objective, value FROM {schema}.training_ratings "
            f"SEMI JOIN changed USING (dataset) SEMI JOIN {other}.datasets USING (dataset)"
        )
    catalog.execute("SET search_path = 'compared,main'")
    return [MovedRatings(*row) for row in moved_ratings(catalog, by_more_than=0)]


def _said(schema: str, now: int) -> str:
    """Return what each row says: a rating of a text and an objective, or a preference of two texts."""
    return f"""
        SELECT dataset, conversation_id AS one, objective AS other, raw AS said, {now} AS now
        FROM {schema}.training_ratings SEMI JOIN changed USING (dataset)
        UNION ALL
        SELECT dataset, least(chosen_id, rejected_id), greatest(chosen_id, rejected_id),
            (chosen_id < rejected_id)::INTEGER, {now}
        FROM {schema}.training_pairs SEMI JOIN changed USING (dataset)
    """


_ROWS: Final = f"""
    WITH rows AS ({_said("main", 1)} UNION ALL {_said("before", -1)}),
    balance AS (SELECT dataset, one, other, said, sum(now) AS more FROM rows GROUP BY ALL),
    compared AS (
        SELECT sum(greatest(more, 0)) AS added, sum(greatest(-more, 0)) AS removed
        FROM balance GROUP BY dataset, one, other
    )
    SELECT
        coalesce(sum(added - least(added, removed)), 0)::BIGINT,
        coalesce(sum(removed - least(added, removed)), 0)::BIGINT,
        coalesce(sum(least(added, removed)), 0)::BIGINT
    FROM compared
"""
