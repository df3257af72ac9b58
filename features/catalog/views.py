"""The store in SQL: DuckDB views over Parquet tables and feature shards.

The catalogue is made anew from a snapshot at every connection and holds nothing of its own. What a view means is in
`sql/views/`, one file each; here the relations named `stored_*` that those files read are put under them: each when a
query first names a view over it, and after its files' checksums were compared. So a query pays for what it reads.
"""

import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self
from uuid import uuid4

import pyarrow as pa

from armorm.features.catalog.bounded import Limits
from armorm.features.catalog.inventory import INVENTORY, inventory_table
from armorm.features.catalog.object_files import PREFIX, ObjectFiles
from armorm.features.errors import FeatureStoreError
from armorm.features.store import Artifact, Snapshot, Store
from armorm.features.store.storage import scratch_path, sweep
from armorm.features.tables import SCHEMAS, SQL, check_parquet
from armorm.features.vectors.shards import INDEX, Vectors, built_indexes, index_paths, shards_of

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection, DuckDBPyRelation

VIEWS: Final = SQL / "views"

USED_FOR: Final = (SQL / "rules" / "used_for.sql").read_text()
"""The statement of the function that tells what a row may be used for."""

BEFORE: Final = "before"
"""The schema of an earlier snapshot's views."""

FEATURE_COLUMNS: Final = ("kind", "id", "n_tokens", "truncated", "norm")

FEATURES: Final = pa.schema([("backbone", pa.string()), *(INDEX.field(name) for name in FEATURE_COLUMNS)])

TAKE_NAMES: Final = frozenset({"query_table", "histogram", "histogram_values"})
"""Functions that take relations by their names, as texts."""


def empty_connection() -> "DuckDBPyConnection":
    """Return an in-memory DuckDB connection with nothing in it. Extensions are never downloaded."""
    import duckdb

    connection = duckdb.connect(config={"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"})
    connection.execute("SET http_proxy = ''")  # it would be HTTP_PROXY of the environment, which may hold a password
    connection.execute("SET enable_progress_bar = false")  # it would go to standard output, among the results
    return connection


INTERRUPTED: Final = "Query interrupted"
"""What DuckDB says when a signal has come while it was at work."""


class Catalog:
    """A DuckDB connection with a view for every canonical table of a snapshot.

    `before.ratings` and so on are the views of an earlier snapshot, where one is given.
    """

    def __init__(
        self,
        store: Store,
        snapshot: Snapshot | None = None,
        *,
        before: Snapshot | None = None,
        temporary: Path | None = None,
        spills: bool = True,
    ) -> None:
        """Open a connection of its own.

        Args:
            snapshot: the newest one by default.
            temporary: a folder for what does not fit into memory; by default one below the store.
            spills: whether there is such a folder. Whoever has the connection itself may write into it.
        """
        self.store = store
        self.snapshot = snapshot or store.head()
        self._snapshots = {"main": self.snapshot} | ({BEFORE: before} if before else {})
        self._mounted: set[tuple[str, str]] = set()
        self._error: FeatureStoreError | None = None
        """What stopped a function that DuckDB calls; DuckDB's own error only quotes it."""
        self.connection = empty_connection()
        self._files = ObjectFiles()
        self.connection.register_filesystem(self._files)
        # under a name of its own: a writer that begins sweeps what nobody at work owns
        folder = str(temporary or spill_path(store)) if spills else ""
        self.connection.execute("SET temp_directory = ?", [folder])
        for schema, of in self._snapshots.items():
            self._define(schema, of)

    def execute(self, sql: str, parameters: object = None) -> "DuckDBPyConnection":
        """Run a statement after what it names is mounted.

        Raises:
            CorruptObject: a file that it reads is not what was written.
            NotInStore: a file that it reads is gone.
        """
        self.mount(sql)
        with self.own_errors():
            return self.connection.execute(sql, parameters)

    def sql(self, sql: str, params: object = None) -> "DuckDBPyRelation":
        """Return a query as a relation, whose rows can be had as Arrow, polars or numpy."""
        self.mount(sql)
        return self.connection.sql(sql, params=params)

    def mount(self, sql: str) -> None:
        """Check the files under every view that a text names, and mount them."""
        for schema in self._snapshots:
            for relation in _relations_of(sql):
                if (schema, relation) not in self._mounted:
                    self._replace(schema, relation)
                    self._mounted.add((schema, relation))

    def mount_all(self) -> None:
        """Check every file and mount it; vectors are still checked when they are asked for."""
        self.mount(" ".join(_view_files()))

    def mount_alone(self, sql: str) -> None:
        """Mount what a text names and take the rest away, so that nobody finds a view empty that is not."""
        self.mount(sql)
        for schema, snapshot in self._snapshots.items():
            for name in _empty(snapshot):
                if (schema, f"stored_{name}") not in self._mounted:
                    self.connection.execute(f"DROP VIEW {schema}.stored_{name}; DROP TABLE main.empty_{schema}_{name}")

    def lock(self, limits: Limits | None = None) -> None:
        """Leave the connection the store's objects, to read, and nothing else; it stays so."""
        if limits:
            self.connection.execute("SET memory_limit = ?", [f"{limits.memory} bytes"])
            self.connection.execute("SET max_temp_directory_size = ?", [f"{limits.temporary_bytes} bytes"])
        self.connection.execute(f"SET allowed_directories = ['{PREFIX}']")
        self.connection.execute("SET enable_external_access = false")
        self.connection.execute("SET python_enable_replacements = false")
        self.connection.execute("SET lock_configuration = true")

    def parquet(self, paths: Sequence[str]) -> str:
        """Return SQL that reads files of a table, which this connection may read from now on."""
        return _parquet([self._files.add(Path(path)) for path in paths])

    def register(self, name: str, table: pa.Table) -> None:
        """Put a table under a name."""
        self.connection.register(name, table)

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def own_errors(self) -> Iterator[None]:
        """Raise what stopped one of our functions in place of DuckDB's error about it."""
        import duckdb

        try:
            yield
        except duckdb.Error as error:
            if self._error is None:
                raise
            own, self._error = self._error, None
            raise own from error
        except RuntimeError as error:
            if str(error) == INTERRUPTED:  # in place of what the signal's handler has raised, which is lost
                raise KeyboardInterrupt from error
            raise

    def _define(self, schema: str, snapshot: Snapshot) -> None:
        """Create every view, over relations of the right types that hold nothing yet."""
        if schema != "main":
            self.connection.execute(f"CREATE SCHEMA {schema}")
        self.connection.execute(f"SET schema = '{schema}'")
        for name, table_schema in _empty(snapshot).items():
            self._keep(f"empty_{schema}_{name}", table_schema.empty_table())
            self.connection.execute(f"CREATE VIEW stored_{name} AS FROM main.empty_{schema}_{name}")
        for sql in (USED_FOR, *_view_files().values()):
            self.connection.execute(sql)
        self.connection.execute("SET schema = 'main'")

    def _keep(self, name: str, table: pa.Table) -> None:
        """Make a table of DuckDB's own, which its other cursors find as well: what is registered one cursor knows."""
        self.connection.register("given", table)
        self.connection.execute(f"CREATE TABLE main.{name} AS FROM given")
        self.connection.unregister("given")

    def _replace(self, schema: str, relation: str) -> None:
        """Put what is stored under a relation."""
        name, snapshot = relation.removeprefix("stored_"), self._snapshots[schema]
        if name in SCHEMAS:
            paths = parquet_paths(self.store, snapshot.artifacts.values(), name)
            source = self.parquet(paths) if paths else None
        elif name == "features":
            source = self._features(schema, snapshot)
        else:
            table = inventory_table(self.store, snapshot, name)
            self._keep(f"records_{schema}_{name}", table)
            source = f"FROM main.records_{schema}_{name}"
        if source:
            self.connection.execute(f"CREATE OR REPLACE VIEW {schema}.{relation} AS {source}")

    def _features(self, schema: str, snapshot: Snapshot) -> str | None:
        """Return all indexes, with a function that fetches the vectors of just those rows whose vector is asked for.

        Vectors stay fixed-size arrays where all backbones agree on the size.
        """
        from duckdb.func import ARROW

        selects = []
        backbones = shards_of(snapshot)
        cast = "" if len({shards.width for shards in backbones}) == 1 else "::FLOAT[]"
        for number, shards in enumerate(backbones):
            function = f"vectors_{schema}_{number}"
            self.connection.create_function(
                function,
                partial(self._gather, Vectors(self.store, shards)),
                ["VARCHAR", "INTEGER"],
                f"FLOAT[{shards.width}]",
                type=ARROW,
            )
            paths = index_paths(self.store, shards)
            sources = [self.parquet(paths)] if paths else []
            for place, index in enumerate(built_indexes(self.store, shards)):
                self._keep(f"{function}_{place}", index)
                sources.append(f"FROM main.{function}_{place}")
            columns = f"{', '.join(FEATURE_COLUMNS)}, {function}(shard, row){cast} AS vector"
            rows = self._each_once(" UNION ALL BY NAME ".join(f"SELECT * {source}" for source in sources))
            selects.append(f"SELECT '{shards.backbone_id}' AS backbone, {columns} FROM ({rows})")
        return " UNION ALL ".join(selects) or None

    def _each_once(self, rows: str) -> str:
        """Return index rows, once each where two machines have embedded a text at the same time."""
        counted = self.connection.execute(f"SELECT count(*) = count(DISTINCT hash(kind, id)) FROM ({rows})")
        if counted.fetchall() == [(True,)]:
            return rows
        return f"FROM ({rows}) QUALIFY row_number() OVER (PARTITION BY kind, id ORDER BY shard) = 1"

    def _gather(self, vectors: Vectors, shard: Any, row: Any) -> pa.Array:
        """Return the vectors of some thousand rows; DuckDB calls this."""
        try:
            shards_N = shard.combine_chunks() if isinstance(shard, pa.ChunkedArray) else shard
            vectors_ND = vectors.gather(shards_N, row.to_numpy())
        except FeatureStoreError as error:
            self._error = error
            raise
        return pa.FixedSizeListArray.from_arrays(pa.array(vectors_ND.reshape(-1)), vectors.width)


def connect(
    store: Store, snapshot: Snapshot | None = None, *, before: Snapshot | None = None, temporary: Path | None = None
) -> Catalog:
    """Open a catalogue with the views of a snapshot, by default the newest one."""
    return Catalog(store, snapshot, before=before, temporary=temporary)


def spill_path(store: Store) -> Path:
    """Return the folder for what does not fit into memory; on a read-only store nothing can be put there.

    What queries that were killed have left there goes first: it may be large, and the next writer be far.
    """
    if store.storage.scratch.parent.is_dir():  # a store that was never written to is not begun by looking at it
        with suppress(OSError):
            sweep(store.storage)
            return scratch_path(store.storage)
    return store.storage.scratch / uuid4().hex


@contextmanager
def spilling(store: Store) -> Iterator[Path]:
    """Name a folder for what does not fit into memory, which is gone after the block; see `spill_path`."""
    temporary = spill_path(store)
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def parquet_paths(store: Store, artifacts: Iterable[Artifact], table: str) -> list[str]:
    """Return the checked files of one table."""
    paths = [
        store.objects.path(ref).resolve()
        for artifact in artifacts
        for named, ref in {**artifact.objects, **artifact.provenance}.items()
        if named.split("/")[0] == table
    ]
    for path in paths:
        check_parquet(path)
    return [str(path) for path in paths]


def mount(connection: "DuckDBPyConnection | Catalog", relation: str, table: str, paths: list[str]) -> None:
    """Put Parquet files of a canonical table under a relation, which is empty when there are none."""
    if not paths:
        connection.register(relation, SCHEMAS[table].empty_table())
        return
    source = connection.parquet(paths) if isinstance(connection, Catalog) else _parquet(paths)
    connection.execute(f"CREATE VIEW {relation} AS {source}")


def _parquet(paths: Sequence[str]) -> str:
    return f"FROM read_parquet({_listed(paths)})"


def _listed(paths: Sequence[str]) -> str:
    return "[" + ", ".join("'" + path.replace("'", "''") + "'" for path in paths) + "]"


@cache
def _view_files() -> Mapping[str, str]:
    """Return the statement of every view, those first that others read."""
    texts = {path.stem: re.sub(r"(?m)^--.*\n", "", path.read_text()) for path in sorted(VIEWS.glob("*.sql"))}
    ordered: dict[str, str] = {}
    while len(ordered) < len(texts):
        for name, text in texts.items():
            if name not in ordered and (_words(text) & texts.keys()) - {name} <= ordered.keys():
                ordered[name] = text
    return ordered


@cache
def _stored_under() -> Mapping[str, frozenset[str]]:
    """Return the stored relations that each view reads, itself or through other views."""
    under: dict[str, frozenset[str]] = {}
    for name, text in _view_files().items():
        words = _words(text)
        direct = {word for word in words if word.startswith("stored_")}
        under[name] = frozenset(direct.union(*(under[word] for word in words - {name} if word in under)))
    return under


def _relations_of(sql: str) -> list[str]:
    """Return the stored relations that a statement may read: a name that occurs in whatever role counts."""
    words = _words(sql)
    under = _stored_under()
    if words & TAKE_NAMES:  # which may be put together
        words |= under.keys()
    stored = frozenset().union(*under.values())
    return sorted((words & stored).union(*(under[word] for word in words if word in under)))


def _words(sql: str) -> set[str]:
    return set(re.findall(r"\w+", sql.lower()))


def _empty(snapshot: Snapshot) -> dict[str, pa.Schema]:
    """Return the columns and types of every stored relation."""
    widths = {shards.width for shards in shards_of(snapshot)}
    vector = pa.list_(pa.float32(), widths.pop()) if len(widths) == 1 else pa.list_(pa.float32())
    return {**SCHEMAS, **INVENTORY, "features": FEATURES.append(pa.field("vector", vector))}
