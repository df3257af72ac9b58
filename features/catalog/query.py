"""Answers to queries, each by a process of its own that ends at its limits."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from armorm.features.catalog import bounded
from armorm.features.catalog.bounded import Limits
from armorm.features.catalog.select_only import one_line, require_query
from armorm.features.catalog.views import connect, spilling
from armorm.features.errors import QueryError
from armorm.features.store import Snapshot, Store

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

LIMITS: Final = Limits()
"""The limits of a user's query, where none are given."""

VALUES: Final = 4096
"""Values of an answer that are fetched at once: each may be large."""


@dataclass(frozen=True, slots=True)
class QueryResult:
    """Rows of plain Python values under their columns' names."""

    columns: list[str]
    rows: list[tuple[Any, ...]]

    @classmethod
    def of_pieces(cls, pieces: Iterator[list[Any]]) -> Self:
        """Return what `fetched` has given."""
        columns = next(pieces)
        return cls(columns, [tuple(row) for rows in pieces for row in rows])

    @property
    def records(self) -> list[dict[str, Any]]:
        """The rows by name of column; the last one of columns that share a name."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


def query(
    store: Store,
    sql: str,
    parameters: object = None,
    *,
    snapshot: Snapshot | None = None,
    before: Snapshot | None = None,
    limits: Limits = LIMITS,
) -> QueryResult:
    """Answer one SELECT over the views, in a process that ends at its limits: nothing is written, nothing else is read.

    Args:
        store: whose views are asked.
        sql: the SELECT.
        parameters: a list for `?`, a mapping for `$name`.
        snapshot: the newest one by default.
        before: an earlier one, whose views are `before.ratings` and so on.
        limits: of time, memory, temporary space and rows.

    Raises:
        QueryError: it is no single query, DuckDB refuses it, or it takes too much; the message says why.
    """
    if sql != sql.encode(errors="replace").decode():
        raise QueryError("got a query with a lone surrogate, which is no character; expected Unicode text; correct it")
    arguments = {
        "sql": sql,
        "parameters": parameters,
        "number_before": before and before.number,
        "limits": asdict(limits),
    }
    return QueryResult.of_pieces(call_on(store, answer, arguments, limits, snapshot=snapshot))


def call_on(
    store: Store,
    function: Callable[..., Iterable[Any]],
    arguments: Mapping[str, Any],
    limits: Limits,
    *,
    snapshot: Snapshot | None = None,
) -> Iterator[Any]:
    """Yield what a function makes of a store's snapshot (the newest one) in a process that ends at its limits.

    Args:
        store: whose address, cache and snapshot it is given, as `place`, `cache` and `number`, and a folder,
            `temporary`, for what does not fit into memory.
        function: of a module; see `bounded.call`.
        arguments: its others.
        limits: of its time and memory.
        snapshot: the newest one by default.

    Raises:
        QueryError: it takes too long or too much.
    """
    with spilling(store) as temporary:
        of_store = {
            "place": store.address,
            "cache": store.cache and str(store.cache),
            "number": (snapshot or store.head()).number,
            "temporary": str(temporary),
        }
        yield from bounded.call(function, {**of_store, **arguments}, limits)


def opened(place: str, cache: str | None) -> Store:
    """Return the store that another process has named."""
    return Store(place, cache=Path(cache) if cache else None)


def answer(
    place: str,
    cache: str | None,
    number: int,
    temporary: str,
    sql: str,
    parameters: object,
    number_before: int | None,
    limits: Mapping[str, Any],
) -> Iterator[list[Any]]:
    """Yield columns and rows of a query, within the process that may be ended; see `query`.

    Raises:
        QueryError: it is no single query, or DuckDB refuses it.
    """
    import duckdb

    store, allowed = opened(place, cache), Limits(**limits)
    before = None if number_before is None else store.manifests.read(number_before)
    with connect(store, store.manifests.read(number), before=before, temporary=Path(temporary)) as catalog:
        catalog.lock(allowed)
        try:
            require_query(catalog.connection, sql)
            catalog.mount_alone(sql)
            yield from fetched(catalog.execute(sql, parameters), allowed)
        except (duckdb.OutOfMemoryException, MemoryError) as error:
            raise bounded.too_much(allowed, one_line(error).partition(" Possible solutions:")[0]) from error
        except (duckdb.Error, TypeError, ValueError, OverflowError) as error:  # the latter of what Python cannot hold
            raise QueryError(one_line(error)) from error


def fetched(cursor: "DuckDBPyConnection", limits: Limits) -> Iterator[list[Any]]:
    """Yield the columns of what was executed, then its rows, some at a time.

    Raises:
        QueryError: there are more rows than is allowed.
    """
    columns = [column[0] for column in cursor.description or []]
    yield columns
    n_rows = 0
    while some := cursor.fetchmany(1 + VALUES // max(1, len(columns))):
        n_rows += len(some)
        if n_rows > limits.rows:
            raise QueryError(
                f"got an answer of more than {limits.rows:,} rows; expected fewer; ask for less, or raise --max-rows"
            )
        yield [list(row) for row in some]
