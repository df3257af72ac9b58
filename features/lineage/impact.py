"""`impact`: from a row, a prompt, a conversation or a pair to every artifact that was made with it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from armorm.features.catalog.query import QueryResult
from armorm.features.errors import InputError, NotInStore
from armorm.features.lineage.graph import Graph, Node, read_graph
from armorm.features.lineage.relations import ITEM, relations
from armorm.features.store import Store
from armorm.features.store.stage import Stage

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    "row": ("native_row",),
    "conversation": ("conversation_id", "other_id"),
    "prompt": ("prompt_id",),
    "pair": ("pair_id",),
}
"""Kinds of keys, and the columns of `seen` that hold a key of each kind."""

MIN_DIGITS: Final = 8


@dataclass(frozen=True, slots=True)
class Key:
    """The id of a row, a conversation, a prompt or a pair."""

    kind: str
    """One of `KINDS`."""
    id: str
    """32 hex digits."""


@dataclass(frozen=True, slots=True)
class Affected:
    """An artifact that was made with the key, and how."""

    node: Node
    ways: Mapping[str, int]
    """Stage and use, e.g. `regress train`, to the number of its ratings, pairs and native rows."""
    trained_on: bool
    """Whether its weights depend on the key."""


@dataclass(frozen=True, slots=True)
class Impact:
    """Everything that was made with a key."""

    key: Key
    places: QueryResult
    """Native files and lines where it stands or stood, with the first and the last snapshot that says so."""
    affected: Sequence[Affected]
    """The affected artifacts, in the order in which they were made."""

    @property
    def retrain(self) -> list[Node]:
        """The models whose weights depend on the key."""
        return [one.node for one in self.affected if one.node.stage == "model" and one.trained_on]

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {
            "kind": self.key.kind,
            "id": self.key.id,
            "places": self.places.records,
            "artifacts": [
                of.node.as_json() | {"ways": dict(of.ways), "trained_on": of.trained_on} for of in self.affected
            ],
            "retrain": [node.artifact_id for node in self.retrain],
        }


def impact(store: Store, key: str, *, stages: Sequence[Stage]) -> Impact:
    """Return every artifact of any snapshot that was made with a native row, a conversation, a prompt or a pair.

    Args:
        store: whose snapshots are searched, all of them.
        key: the beginning of its id, 8 hex digits or more.

    Raises:
        InputError: the key is not such a beginning.
        NotInStore: no id begins so, or several do.
    """
    if not re.fullmatch(f"[0-9a-f]{{{MIN_DIGITS},32}}", key):
        raise InputError(
            f"got key {key}; expected {MIN_DIGITS} to 32 hex digits of a source_row, conversation_id, prompt_id or "
            "pair_id; see the views `native_rows`, `ratings` and `preferences`"
        )
    graph = read_graph(store)
    with relations(store, graph.nodes.values(), stages=stages) as connection:
        found = find_key(connection, key)
        return impact_of(connection, graph, found)


def find_key(connection: "DuckDBPyConnection", prefix: str) -> Key:
    """Return the one key whose id begins with a prefix.

    Raises:
        NotInStore: no id begins so, or several do.
    """
    columns = [(kind, column) for kind, columns in KINDS.items() for column in columns]
    ids = " UNION ".join(f"SELECT '{kind}' AS kind, {column} AS id FROM items" for kind, column in columns)
    rows = connection.execute(
        f"""
        SELECT kind, id FROM ({ids} UNION SELECT kind, id FROM stored_vectors UNION
            SELECT 'row', source_row FROM stored_native_rows)
        WHERE starts_with(id, ?) ORDER BY ALL
        """,
        [prefix],
    ).fetchall()
    if len(rows) != 1:
        listed = ", ".join(f"{kind} {id}" for kind, id in rows[:5])
        raise NotInStore(
            f"got key {prefix}, of which the store has {len(rows)}"
            + (
                f" ({listed}{', ..' if len(rows) > 5 else ''}); expected one; give more digits"
                if rows
                else "; expected the beginning of one id; see the views `native_rows`, `ratings` and `preferences`"
            )
        )
    return Key(*rows[0])


def impact_of(connection: "DuckDBPyConnection", graph: Graph, key: Key) -> Impact:
    """Return the impact of one key, over relations of all artifacts."""
    held = " OR ".join(f"{column} = $id" for column in KINDS[key.kind])
    rows = connection.execute(
        f"""
        SELECT node, stage || ' ' || usage, count(DISTINCT {ITEM}), bool_or(trained_on) FROM seen WHERE {held}
        GROUP BY ALL ORDER BY ALL
        """,
        {"id": key.id},
    ).fetchall()
    ways: dict[int, dict[str, int]] = {}
    for node, way, n_items, _ in rows:
        ways.setdefault(node, {})[way] = n_items
    trained = {node for node, _, _, trained_on in rows if trained_on}
    affected = [Affected(graph.nodes[node], ways[node], node in trained) for node in sorted(ways)]
    return Impact(key, _places(connection, held, key), affected)


def _places(connection: "DuckDBPyConnection", held: str, key: Key) -> QueryResult:
    cursor = connection.execute(
        f"""
        SELECT
            dataset, source_row, file, line, outcome, reason,
            min(first) AS first_snapshot, max(last) AS last_snapshot
        FROM stored_native_rows JOIN stored_nodes USING (node)
        SEMI JOIN (SELECT dataset, native_row AS source_row FROM items WHERE {held}) AS item USING (dataset, source_row)
        GROUP BY ALL ORDER BY ALL
        """,
        {"id": key.id},
    )
    return QueryResult([column[0] for column in cursor.description or []], cursor.fetchall())
