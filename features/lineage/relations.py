"""The tables of some artifacts under the views of `sql/lineage/`: every row says whose it is."""

import json
from collections.abc import Collection, Iterable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.parquet as pq

from armorm.features.catalog.views import USED_FOR, empty_connection, parquet_paths, spilling
from armorm.features.lineage.graph import Node
from armorm.features.store import Artifact, Store
from armorm.features.store.json_records import read_json
from armorm.features.store.stage import Stage
from armorm.features.tables import SCHEMAS, SQL
from armorm.features.vectors.shards import open_shard

if TYPE_CHECKING:
    from collections.abc import Iterator

    from duckdb import DuckDBPyConnection

VIEWS: Final = SQL / "lineage"
ORDER: Final = ("places", "items", "rejected_texts", "used", "seen")
"""The order of the views: each reads those before it."""

ITEM: Final = "(dataset, source_row, outcome, conversation_id, objective, pair_id)"
"""What counts as one in `items`, whatever native rows it comes from."""

EMBED: Final = "embed"
REJECTED: Final = "rejected"
UNFINISHED: Final = "unfinished"
OF_TEXTS: Final = (EMBED, REJECTED, UNFINISHED)
"""Stages whose artifacts are of texts, whichever version of a dataset holds these."""

MEMORY: Final = "256MB"
"""What DuckDB may take, however many rows there are: what has no room is spilled."""

SETTINGS: Final = ("threads = 1", "disabled_optimizers = 'build_side_probe_side,common_subplan'")
"""Each thread has buffers of its own. How many rows a part of these views has, DuckDB can only guess: it would hold all
of them in the hash table of each join, where they pass by a small one as the views are written."""

NODE: Final = pa.field("node", pa.int64())


@contextmanager
def relations(store: Store, nodes: Collection[Node], *, stages: Sequence[Stage]) -> "Iterator[DuckDBPyConnection]":
    """Open a DuckDB connection with the views of `sql/lineage/`, and `stored_*` under them, of these artifacts.

    The stages of the pipeline say which rows theirs read.

    Every object that is read is checked against its checksum. What has no room in memory lies in a folder of its own
    until the block ends.
    """
    with spilling(store) as spilled, empty_connection() as connection:
        for setting in (f"memory_limit = '{MEMORY}'", *SETTINGS):
            connection.execute(f"SET {setting}")
        connection.execute("SET temp_directory = $folder", {"folder": str(spilled)})
        for table in SCHEMAS:
            _mount(connection, store, nodes, table)
        reading = [stage for stage in stages if stage.rows or stage.training_rows]
        connection.register("stored_stages", _stages(reading))
        connection.register("stored_nodes", _nodes(store, nodes, {stage.name for stage in reading}))
        connection.register("stored_edges", _edges(nodes))
        connection.register("stored_vectors", _vectors(store, nodes))
        connection.execute(USED_FOR)
        for name in ORDER:
            connection.execute((VIEWS / f"{name}.sql").read_text())
        yield connection


def _mount(connection: "DuckDBPyConnection", store: Store, nodes: Iterable[Node], table: str) -> None:
    """Mount the rows of a canonical table with their artifact; a file that several artifacts share is read once."""
    held = [(path, node.number) for node in nodes for path in parquet_paths(store, [node.artifact], table)]
    if not held:
        connection.register(f"stored_{table}", pa.schema([NODE, *SCHEMAS[table]]).empty_table())
        return
    paths, numbers = zip(*held, strict=True)
    connection.register(f"files_{table}", pa.table({"filename": paths, "node": pa.array(numbers, NODE.type)}))
    connection.read_parquet(sorted(set(paths)), filename=True).create_view(f"rows_{table}")
    connection.execute(
        f"CREATE VIEW stored_{table} AS "
        f"SELECT node, * EXCLUDE (node, filename) FROM rows_{table} JOIN files_{table} USING (filename)"
    )


def _stages(stages: Iterable[Stage]) -> pa.Table:
    """Return which ratings or pairs each stage reads, and which of these its weights depend on."""
    names = pa.list_(pa.string())
    columns = {"stage": pa.string(), "rows": pa.string(), "splits": names, "trains_on": names}
    rows = [{"stage": s.name, "rows": s.rows, "splits": s.splits, "trains_on": s.trains_on} for s in stages]
    return pa.Table.from_pylist(rows, pa.schema([*columns.items()]))


def _nodes(store: Store, nodes: Iterable[Node], reading: Collection[str]) -> pa.Table:
    """Return each artifact's kind, snapshots and settings, and the JSON record of those of some stages."""
    rows = [
        {
            "node": n.number,
            "stage": n.stage,
            "first": n.first,
            "last": n.last,
            "settings": json.dumps(n.artifact.recipe.parameters.get("settings", {})),
            "record": _record(store, n) if n.stage in reading else None,
        }
        for n in nodes
    ]
    columns = {
        "stage": pa.string(),
        "first": pa.int64(),
        "last": pa.int64(),
        "settings": pa.string(),
        "record": pa.string(),
    }
    return pa.Table.from_pylist(rows, pa.schema([NODE, *columns.items()]))


def _record(store: Store, node: Node) -> str | None:
    ref = node.artifact.objects.get("record")
    return json.dumps(read_json(store, ref)) if ref else None


def _edges(nodes: Iterable[Node]) -> pa.Table:
    """Return what each artifact was made from."""
    pairs = {(node.number, number) for node in nodes for number in node.inputs.values() if number is not None}
    rows = [{"node": node, "input_node": number} for node, number in sorted(pairs)]
    return pa.Table.from_pylist(rows, pa.schema([NODE, ("input_node", NODE.type)]))


def _vectors(store: Store, nodes: Iterable[Node]) -> pa.Table:
    """Return which texts each shard holds vectors of, finished or not."""
    schema = pa.schema([NODE, ("kind", pa.string()), ("id", pa.string())])
    tables = [schema.empty_table()]
    for node in nodes:
        if node.stage in (EMBED, UNFINISHED):
            ids = _index(store, node.artifact)
            tables.append(ids.add_column(0, NODE, pa.repeat(pa.scalar(node.number, NODE.type), len(ids))).cast(schema))
    return pa.concat_tables(tables)


def _index(store: Store, shard: Artifact) -> pa.Table:
    """Return the kind and id of a shard's vectors."""
    if "part" in shard.objects:  # of a shard that is not finished
        return open_shard(store, shard.objects["part"]).select(["kind", "id"])
    if "index" not in shard.objects:  # of a store of format 1
        return open_shard(store, shard.objects["shard"]).select(["kind", "id"])
    return pq.read_table(store.objects.path(shard.objects["index"]), columns=["kind", "id"])
