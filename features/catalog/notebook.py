"""A store for notebooks: SQL as DuckDB relations, frames and arrays, read-only.

store = armorm.connect("store", at="prod")
store.sql("SELECT dataset, avg(value) FROM ratings GROUP BY ALL")
"""

import re
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Self
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import polars as pl

from armorm.features.catalog.select_only import require_query
from armorm.features.catalog.views import Catalog
from armorm.features.errors import QueryError, StoreError
from armorm.features.store import Snapshot, Store, leases
from armorm.features.store.pointers import backbone_of
from armorm.features.vectors.shards import FeatureReader, Kind

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection, DuckDBPyRelation


NOT_OF_POLARS: Final = re.compile(r"\b(UHUGEINT|BIGNUM|BIT|VARIANT|TIME WITH TIME ZONE|INTERVAL|UNION)\b")
"""Types that would come out as something else without a word, or fail."""


class Connection:
    """One snapshot of a store. `gc` leaves it alone until the connection is closed."""

    def __init__(self, store: Store, snapshot: Snapshot, before: Snapshot | None) -> None:
        self.snapshot = snapshot
        self._store = store
        self._readers: dict[str, FeatureReader] = {}
        self._held = ExitStack()
        try:
            for held in [snapshot, *([before] if before else [])]:
                lease = leases.holding(
                    store.storage, uuid4().hex[:16], "read", "a notebook", held.number, leases.NO_LOCK
                )
                self._held.enter_context(lease)
        except (OSError, StoreError):
            self._held.close()  # a store that may only be read is read without: `gc` cannot run there either
        self._before = before
        self._lock = threading.Lock()

    @property
    def duckdb(self) -> "DuckDBPyConnection":
        """A DuckDB connection with every view checked and in place, for tools that take one.

        It reads the store's objects and reaches no other file, neither to read nor to write, so that all that it does
        has to fit into memory; what is made in it, such as views of one's own, it alone sees.
        """
        catalog = self._opened()
        catalog.mount_all()
        return catalog.connection

    def sql(self, query: str, parameters: object = None) -> "DuckDBPyRelation":
        """Return a SELECT over the views as a relation, which a cell shows; `.df()`, `.arrow()`, `.pl()` read it.

        Its methods know the views that the query names, and what they do has to fit into memory.

        Raises:
            QueryError: it is something else.
        """
        catalog = self._opened()
        require_query(catalog.connection, query)
        catalog.mount_alone(query)
        return catalog.sql(query, parameters)

    def polars(self, query: str, parameters: object = None) -> pl.DataFrame:
        """Return the rows of a SELECT as a frame.

        Raises:
            QueryError: it is something else.
        """
        with Catalog(self._store, self.snapshot, before=self._before) as catalog:
            catalog.lock()
            require_query(catalog.connection, query)
            catalog.mount_alone(query)
            with catalog.own_errors():
                relation = catalog.sql(query, parameters)
                for name, kind in zip(relation.columns, map(str, relation.types), strict=True):
                    if found := NOT_OF_POLARS.search(kind):
                        raise QueryError(
                            f"got column {name} of type {found[0]}, which polars does not have; expected another; "
                            "cast it with ::VARCHAR, or use `sql`"
                        )
                frame: pl.DataFrame = relation.pl()
                return frame

    def _opened(self) -> Catalog:
        """Open a catalogue for one relation: its methods run any statement, which must change no other's."""
        catalog = self._held.enter_context(Catalog(self._store, self.snapshot, before=self._before, spills=False))
        catalog.lock()
        return catalog

    def vectors(
        self, ids: Sequence[str], kind: Kind = "conversation", *, backbone: str | None = None
    ) -> npt.NDArray[np.float32]:
        """Return `[N, D]` vectors of conversations or prompts in the order of `ids`.

        Args:
            backbone: its id; by default the promoted one, else the one embedded with last.

        Raises:
            NotInStore: an id has no vector of that backbone.
        """
        backbone = backbone or backbone_of(self._store, self.snapshot)
        with self._lock:
            if backbone not in self._readers:
                self._readers[backbone] = FeatureReader(self._store, backbone, self.snapshot)
        return self._readers[backbone].gather(kind, list(ids))

    def close(self) -> None:
        """Close the snapshot."""
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> Literal[False]:
        self.close()
        return False


def connect(place: Path | str = "store", *, at: str = "head", before: str | None = None) -> Connection:
    """Open a store to look into.

    Args:
        place: its folder or address.
        at: the snapshot: `head`, `previous`, a tag, a number, the beginning of an id, or a date.
        before: an earlier one, whose views are then `before.ratings` and so on.

    Raises:
        NotInStore: nothing was ever written there, or there is no such snapshot.
    """
    store = Store(place)
    return Connection(store, store.snapshot(at), store.snapshot(before) if before else None)
