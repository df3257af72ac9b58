"""What differs between two snapshots: native rows, what they say of the same texts, and mean ratings."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from armorm.features.catalog.views import empty_connection, mount, parquet_paths
from armorm.features.store import Artifact, Snapshot, Store

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

CHANGES: Final = ("added", "removed", "edited", "relabelled")


@dataclass(frozen=True, slots=True)
class ChangedRow:
    """A native row that only one of the snapshots has, or two that stand for each other."""

    dataset: str
    change: str
    """`added`, `removed`, `relabelled` (the same texts with another rating or preference), or `edited` (anything else:
    gone from a place where another one stands now, or with the same texts and labels)."""
    file: str
    line: int
    """Its line in the later snapshot, or in the earlier one if it is gone."""
    before: str | None
    """The source row, in the earlier snapshot and in the later one."""
    after: str | None


@dataclass(frozen=True, slots=True)
class MovedMean:
    """The ratings of one objective in one dataset, where their number or mean has changed."""

    dataset: str
    objective: str
    n_before: int
    n_after: int
    mean_before: float | None
    """On the native scale; None without ratings."""
    mean_after: float | None

    @property
    def moved(self) -> float | None:
        """The difference of the means; None if either snapshot has none."""
        return None if self.mean_before is None or self.mean_after is None else self.mean_after - self.mean_before


@dataclass(frozen=True, slots=True)
class Diff:
    """All differences between two snapshots."""

    before: Snapshot
    after: Snapshot
    rows: Sequence[ChangedRow]
    """The changed rows, as many as were asked for."""
    datasets: Mapping[str, Mapping[str, int]]
    """The number of changed rows of each kind, by dataset."""
    means: Sequence[MovedMean]
    conversations_added: int
    """Distinct ones of all datasets: those that may need a vector."""
    conversations_removed: int

    @property
    def line(self) -> str:
        """One line for people."""
        changes = {change: sum(of[change] for of in self.datasets.values()) for change in CHANGES}
        listed = ", ".join(f"{changes[change]} rows {change}" for change in CHANGES)
        between = f"snapshot {self.before.number} to {self.after.number}"
        if not self.datasets:
            return f"{between}: the same rows"
        conversations = f"{self.conversations_added} conversations added, {self.conversations_removed} removed"
        return f"{between}: {listed}; {conversations}"

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {
            "before": self.before.snapshot_id,
            "after": self.after.snapshot_id,
            "datasets": {name: dict(of) for name, of in self.datasets.items()},
            "means": [asdict(mean) for mean in self.means],
            "rows": [asdict(row) for row in self.rows],
            "conversations_added": self.conversations_added,
            "conversations_removed": self.conversations_removed,
        }


def diff(store: Store, before: Snapshot, after: Snapshot, *, n_rows: int | None = None) -> Diff:
    """Compare the native rows of two snapshots by content, by what they say of which texts, and by their places.

    A row that only moved is no difference; neither is a repeated row.

    Args:
        n_rows: how many rows to list, the first ones by dataset, file and line; all by default. All are counted.
    """
    with empty_connection() as connection:
        _mount(connection, store, before, after)
        connection.execute(f"CREATE TEMP TABLE changed AS {_ROWS}")
        rows = [ChangedRow(*row) for row in connection.execute(_LISTED, [n_rows]).fetchall()]
        counts = {(dataset, change): n for dataset, change, n in connection.execute(_COUNTED).fetchall()}
        means = [MovedMean(*row) for row in connection.execute(_MEANS).fetchall()]
        added, removed = (
            connection.execute(
                f"SELECT count(DISTINCT conversation_id) FROM conversations_{here} "
                f"ANTI JOIN conversations_{there} USING (conversation_id)"
            ).fetchall()[0][0]
            for here, there in (("after", "before"), ("before", "after"))
        )
    names = sorted({dataset for dataset, _ in counts})
    datasets = {name: {change: counts.get((name, change), 0) for change in CHANGES} for name in names}
    return Diff(before, after, rows, datasets, means, added, removed)


def count_changes(store: Store, before: Snapshot, after: Snapshot) -> dict[str, dict[str, int]]:
    """Return `Diff.datasets` without reading rows, of which a new dataset has many. Kinds without rows are left out."""
    with empty_connection() as connection:
        _mount(connection, store, before, after)
        counts = f"SELECT dataset, change, count(*) FROM ({_ROWS}) GROUP BY ALL ORDER BY ALL"
        found = connection.execute(counts).fetchall()
    return {name: {change: n for dataset, change, n in found if dataset == name} for name, _, _ in found}


def _mount(connection: "DuckDBPyConnection", store: Store, before: Snapshot, after: Snapshot) -> None:
    """Mount the tables: conversations whole, as datasets share them, the others of the datasets that differ."""
    for when, snapshot, other in (("before", before, after), ("after", after, before)):
        whole = list(snapshot.artifacts.values())
        changed = [a for slot, a in snapshot.artifacts.items() if _identity(a) != _identity(other.artifacts.get(slot))]
        for name, artifacts in (
            ("conversations", whole),
            *((name, changed) for name in ("native_rows", "ratings", "preferences")),
        ):
            mount(connection, f"{name}_{when}", name, parquet_paths(store, artifacts, name))


def _identity(artifact: Artifact | None) -> object:
    return artifact and (artifact.objects, artifact.provenance)


_LABELS: Final = """
    rated_{when} AS (
        SELECT dataset, source_row,
            list(DISTINCT conversation_id ORDER BY conversation_id) AS texts,
            list((conversation_id, objective, raw) ORDER BY conversation_id, objective, raw)::VARCHAR AS labels
        FROM ratings_{when} SEMI JOIN {when} USING (dataset, source_row) GROUP BY ALL
    ),
    paired_{when} AS (  -- of rows that give pairs alone: others' pairs may be made of several rows
        SELECT dataset, source_row,
            list_sort(list_distinct(flatten(list([chosen_id, rejected_id])))) AS texts,
            list((chosen_id, rejected_id, margin) ORDER BY chosen_id, rejected_id)::VARCHAR AS labels
        FROM preferences_{when} SEMI JOIN {when} USING (dataset, source_row)
        ANTI JOIN rated_{when} USING (dataset, source_row) GROUP BY ALL
    ),
    said_{when} AS (
        SELECT *, row_number() OVER (PARTITION BY dataset, texts ORDER BY file, line) AS place
        FROM {when} JOIN (FROM rated_{when} UNION ALL FROM paired_{when}) USING (dataset, source_row)
    )
"""
"""What each changed row says of which texts, with its number among the rows of its dataset that say it of the same."""

_ROWS: Final = f"""
    WITH before AS (FROM native_rows_before ANTI JOIN native_rows_after USING (dataset, source_row)),
    after AS (FROM native_rows_after ANTI JOIN native_rows_before USING (dataset, source_row)),
    {_LABELS.format(when="before")}, {_LABELS.format(when="after")},
    same_texts AS (
        SELECT dataset, if(old.labels = new.labels, 'edited', 'relabelled') AS change,
            old.file AS old_file, old.line AS old_line, new.file, new.line,
            old.source_row AS old_row, new.source_row AS new_row
        FROM said_before AS old JOIN said_after AS new USING (dataset, texts, place)
    ),
    old AS (
        FROM before ANTI JOIN same_texts
        ON before.dataset = same_texts.dataset AND before.file = old_file AND before.line = old_line
    ),
    new AS (FROM after ANTI JOIN same_texts USING (dataset, file, line)),
    same_place AS (
        SELECT dataset,
            CASE WHEN new.source_row IS NULL THEN 'removed'
                 WHEN old.source_row IS NULL THEN 'added' ELSE 'edited' END AS change,
            file, line, old.source_row AS old_row, new.source_row AS new_row
        FROM old FULL JOIN new USING (dataset, file, line)
    )
    SELECT dataset, change, file, line, old_row, new_row FROM same_texts
    UNION ALL FROM same_place
"""

_LISTED: Final = "FROM changed ORDER BY dataset, file, line LIMIT ?"

_COUNTED: Final = "SELECT dataset, change, count(*) FROM changed GROUP BY ALL"

_MEANS: Final = """
    WITH old AS (SELECT dataset, objective, count(*) AS n, avg(raw) AS mean FROM ratings_before GROUP BY ALL),
    new AS (SELECT dataset, objective, count(*) AS n, avg(raw) AS mean FROM ratings_after GROUP BY ALL)
    SELECT dataset, objective, coalesce(old.n, 0), coalesce(new.n, 0), old.mean, new.mean
    FROM old FULL JOIN new USING (dataset, objective)
    -- the order in which threads add up moves a mean by less than this
    WHERE old.n IS DISTINCT FROM new.n OR abs(old.mean - new.mean) > 1e-12
    ORDER BY ALL
"""
