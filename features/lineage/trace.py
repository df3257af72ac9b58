"""`trace`: from an artifact to all that made it, down to the native file and line of each row."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from armorm.features.catalog.query import QueryResult
from armorm.features.documents import parse_object
from armorm.features.errors import NotInStore
from armorm.features.lineage.graph import Graph, Node, read_graph
from armorm.features.lineage.relations import EMBED, ITEM, OF_TEXTS, relations
from armorm.features.lineage.training_rows import RowSet, queried_row_set
from armorm.features.store import Artifact, Store
from armorm.features.store.json_records import read_json, read_summary
from armorm.features.store.stage import Stage
from armorm.features.store.summaries import IngestSummary

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

ORDER: Final = """
    trained_on DESC, place(stage), dataset, source_row, conversation_id, objective, pair_id, native_row, usage
"""
"""The order of the rows: what it was trained on first."""

LOOKUPS: Final = (
    "file, line FROM traced LEFT JOIN places USING (source, dataset, native_row, outcome)",
    """raw, value FROM traced LEFT JOIN (SELECT *, node AS source FROM stored_ratings) AS rated
        USING (source, dataset, source_row, conversation_id, objective)""",
)
"""What is told of each row."""

TEXT_LOOKUPS: Final = (
    """answer.messages FROM traced LEFT JOIN stored_conversations AS answer
        ON answer.node = source AND answer.conversation_id = traced.conversation_id""",
    """other.messages AS other_messages FROM traced LEFT JOIN stored_conversations AS other
        ON other.node = source AND other.conversation_id = other_id""",
)
"""What is told if messages are asked for."""

BLOCK_ROWS: Final = 4096
"""Rows that are in memory at once."""


@dataclass(frozen=True, slots=True)
class RowCheck:
    """A set of rows that training saw: as it is recorded, and as it comes out of the tables."""

    name: str
    recorded: RowSet | None
    """None where the artifact is older than these records."""
    found: RowSet

    @property
    def agrees(self) -> bool | None:
        """Whether both are the same; None where nothing is recorded."""
        return None if self.recorded is None else self.recorded == self.found


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows under their columns' names, each read when it is asked for, and once."""

    columns: Sequence[str]
    rows: Iterable[tuple[Any, ...]]

    @property
    def records(self) -> Iterator[dict[str, Any]]:
        """The rows by name of column."""
        return (dict(zip(self.columns, row, strict=True)) for row in self.rows)


@dataclass(frozen=True, slots=True)
class Trace:
    """The origin of an artifact."""

    node: Node
    made_from: Sequence[Node]
    """The artifact and its ancestors, in the order in which they were made."""
    checks: Sequence[RowCheck]
    datasets: QueryResult
    """A row for each dataset, stage and use: how many rows, of which files, under which licence."""
    rows: Rows
    """What it saw, what it was trained on first, each with its native file and line."""

    @property
    def gone(self) -> list[str]:
        """What it was made from, and no snapshot holds any more: rows of it cannot be told."""
        return sorted({name for node in self.made_from if node.stage not in OF_TEXTS for name in node.gone})

    @property
    def agrees(self) -> bool:
        """Whether no set of rows differs from what is recorded."""
        return all(check.agrees is not False for check in self.checks)

    @property
    def backbones(self) -> list[Mapping[str, Any]]:
        """The records of the backbones among the ancestors."""
        return [node.artifact.summary for node in self.made_from if node.stage == "backbone"]

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON can hold it, without its rows, which may be many."""
        return {
            "artifact": self.node.as_json(),
            "agrees": self.agrees,
            "gone": self.gone,
            "training_rows": [asdict(check) | {"agrees": check.agrees} for check in self.checks],
            "backbones": [dict(record) for record in self.backbones],
            "made_from": [node.as_json() for node in self.made_from],
            "datasets": self.datasets.records,
        }


@contextmanager
def trace(
    store: Store,
    id_prefix: str,
    *,
    stages: Sequence[Stage],
    objective: str | None = None,
    n_rows: int | None = None,
    texts: bool = False,
) -> Iterator[Trace]:
    """Give everything that an artifact was made from; its rows can be read until the block ends.

    Args:
        store: whose snapshots are searched, all of them.
        id_prefix: the beginning of the artifact's id.
        objective: list only the ratings that the weights of this objective were fitted to and chosen by.
        n_rows: how many rows to list; all by default.
        texts: list the messages of each row with it.

    Raises:
        NotInStore: no such artifact, or it was not trained on such an objective.
    """
    graph = read_graph(store)
    node = graph.find(id_prefix)
    with relations(store, needed(graph, node), stages=stages) as connection:
        connection.execute("CREATE TEMP TABLE item_rows AS FROM items")  # which many parts of `seen` read
        connection.execute("CREATE OR REPLACE VIEW items AS FROM item_rows")
        connection.execute("CREATE TEMP TABLE traced AS FROM seen WHERE node = ?", [node.number])
        connection.execute(f"CREATE MACRO place(stage) AS list_position({[stage.name for stage in stages]}, stage)")
        checks = list(_checks(store, node, stages, connection))
        if objective is not None:
            _keep_objective(connection, objective)
        datasets, rows = _datasets(connection, graph), _rows(connection, n_rows, texts=texts)
        yield Trace(node, graph.ancestors(node.number), checks, datasets, rows)


def needed(graph: Graph, node: Node) -> list[Node]:
    """The artifacts whose tables say what this one saw. Vectors count for a shard alone, whose texts may stand in any
    version of a dataset, as may those that were rejected; these count for all that was trained without them, too."""
    if node.stage in OF_TEXTS:
        return [node, *(other for other in graph.nodes.values() if other.stage == "ingest")]
    return graph.ancestors(node.number, without=(EMBED,))


def recorded_rows(store: Store, node: Node, stages: Sequence[Stage]) -> dict[str, RowSet]:
    """Return the sets of rows that a model or a training stage says it has seen; none for an older one."""
    objects = node.artifact.objects
    if node.stage == "model":
        described = parse_object(store.objects.read_bytes(objects["description"])).get("training_rows") or {}
    else:
        described = {
            stage.training_rows: read_json(store, objects["record"]).get("training_rows")
            for stage in stages
            if stage.training_rows and stage.name == node.stage
        }
    return {name: RowSet(**given) for name, given in described.items() if given}


def _checks(store: Store, node: Node, stages: Sequence[Stage], connection: "DuckDBPyConnection") -> Iterator[RowCheck]:
    recorded = recorded_rows(store, node, stages)
    for name, stage in ((of.training_rows, of.name) for of in stages if of.training_rows):
        if node.stage in ("model", stage):
            rows = f"(SELECT *, usage AS split FROM traced WHERE trained_on AND stage = '{stage}')"
            yield RowCheck(name, recorded.get(name), queried_row_set(name, connection, rows))


def _keep_objective(connection: "DuckDBPyConnection", objective: str) -> None:
    known = connection.execute(
        "SELECT DISTINCT objective FROM traced WHERE trained_on AND objective IS NOT NULL"
    ).fetchall()
    if objective not in (names := sorted(name for (name,) in known)):
        listed = ", ".join(names) or "none, as it is no regression or model"
        raise NotInStore(
            f"got objective {objective}; expected one that the artifact was trained on: {listed}; correct it"
        )
    connection.execute("DELETE FROM traced WHERE NOT trained_on OR objective IS DISTINCT FROM ?", [objective])


def _datasets(connection: "DuckDBPyConnection", graph: Graph) -> QueryResult:
    rows = connection.execute(
        f"""
        SELECT
            source, dataset, stage, usage, count(DISTINCT {ITEM}), count(DISTINCT native_row),
            list_sort(list(DISTINCT file) FILTER (file IS NOT NULL))
        FROM traced LEFT JOIN places USING (source, dataset, native_row, outcome)
        GROUP BY source, dataset, stage, usage ORDER BY place(stage), dataset, usage, source
        """
    ).fetchall()
    columns = ["dataset", "stage", "usage", "rows", "native_rows", "files", "upstream", "revision", "licence"]
    return QueryResult(columns, [(*row[1:], *_origin(graph.nodes[row[0]].artifact)) for row in rows])


def _origin(artifact: Artifact) -> tuple[Any, ...]:
    of = read_summary(artifact, IngestSummary)
    return of.upstream, of.origin.revision, of.licence


def _rows(connection: "DuckDBPyConnection", n_rows: int | None, *, texts: bool) -> Rows:
    """Look up what belongs to the rows, one table after the other: one join at a time has the memory."""
    connection.execute("RESET disabled_optimizers")  # how many rows these tables have is known
    if n_rows is not None:
        connection.execute(f"CREATE OR REPLACE TEMP TABLE traced AS FROM traced ORDER BY {ORDER} LIMIT {n_rows:d}")
    for lookup in (*LOOKUPS, *(TEXT_LOOKUPS if texts else ())):
        connection.execute(f"CREATE OR REPLACE TEMP TABLE traced AS SELECT traced.*, {lookup}")
    columns = ", messages, other_messages" if texts else ""
    cursor = connection.execute(
        f"""
        SELECT
            stage, usage, trained_on, dataset, source_row, native_row, file, line, conversation_id, other_id, pair_id,
            objective, raw, value {columns}
        FROM traced ORDER BY {ORDER}
        """
    )
    blocks = iter(partial(cursor.fetchmany, BLOCK_ROWS), [])
    return Rows([column[0] for column in cursor.description or []], chain.from_iterable(blocks))
