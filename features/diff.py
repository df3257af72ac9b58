"""What differs between two snapshots: native rows, and the conversations that they speak of."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from features.catalog import empty_connection, mount, parquet_paths
from features.store import Snapshot, Store


@dataclass(frozen=True, slots=True)
class ChangedRow:
    """A native row that only one of the snapshots has, or a place where another row stands now."""

    dataset: str
    change: str
    """`added`, `removed`, or `edited`: gone from a place where another one stands now."""
    file: str
    line: int
    before: str | None
    """The source row, in the earlier snapshot and in the later one."""
    after: str | None


@dataclass(frozen=True, slots=True)
class Diff:
    """All differences between two snapshots."""

    before: Snapshot
    after: Snapshot
    rows: Sequence[ChangedRow]
    conversations_added: int
    """Distinct ones of all datasets: those that may need a vector."""
    conversations_removed: int

    @property
    def line(self) -> str:
        """For a person."""
        changes = Counter(row.change for row in self.rows)
        listed = ", ".join(f"{changes[change]} rows {change}" for change in ("added", "edited", "removed"))
        return (
            f"snapshot {self.before.number} to {self.after.number}: {listed}; "
            f"{self.conversations_added} conversations added, {self.conversations_removed} removed"
        )

    def as_json(self) -> dict[str, Any]:
        """For a program."""
        return {
            "before": self.before.snapshot_id,
            "after": self.after.snapshot_id,
            "rows": [asdict(row) for row in self.rows],
            "conversations_added": self.conversations_added,
            "conversations_removed": self.conversations_removed,
        }


def diff(store: Store, before: Snapshot, after: Snapshot) -> Diff:
    """Compares the native rows of two snapshots by content, and their places.

    A row that only moved is no difference; neither is a repeated row.
    """
    with empty_connection() as connection:
        for name in ("native_rows", "conversations"):
            for when, snapshot in (("before", before), ("after", after)):
                paths = parquet_paths(store, snapshot.artifacts.values(), name)
                mount(connection, f"{name}_{when}", name, paths)
        rows = connection.execute(
            """
            WITH old AS (FROM native_rows_before ANTI JOIN native_rows_after USING (dataset, source_row)),
            new AS (FROM native_rows_after ANTI JOIN native_rows_before USING (dataset, source_row))
            SELECT dataset,
                CASE WHEN new.source_row IS NULL THEN 'removed'
                     WHEN old.source_row IS NULL THEN 'added' ELSE 'edited' END AS change,
                file, line, old.source_row, new.source_row
            FROM old FULL JOIN new USING (dataset, file, line)
            ORDER BY dataset, file, line
            """
        ).fetchall()
        added, removed = (
            connection.execute(
                f"SELECT count(DISTINCT conversation_id) FROM conversations_{here} "
                f"ANTI JOIN conversations_{there} USING (conversation_id)"
            ).fetchall()[0][0]
            for here, there in (("after", "before"), ("before", "after"))
        )
    return Diff(before, after, [ChangedRow(*row) for row in rows], added, removed)
