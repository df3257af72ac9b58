"""`armorm.connect`: relations, frames and arrays of one snapshot, read-only."""

from pathlib import Path

import duckdb
import numpy as np
import pytest

import armorm
from armorm.features.errors import CorruptObject, NotInStore, QueryError
from armorm.features.store import Store, leases, pointers
from tests.damage import overwrite
from tests.features.test_verify import put_built


@pytest.fixture
def built(store: Store, tmp_path: Path) -> Store:
    put_built(store, tmp_path)
    return store


def test_sql_frames_and_arrays(built: Store) -> None:
    with armorm.connect(built.place) as store:
        assert store.sql("SELECT count(*) FROM conversations").fetchall() == [(40,)]
        frame = store.polars("SELECT id, vector FROM features WHERE kind = 'prompt' ORDER BY id LIMIT 3")
        assert frame.columns == ["id", "vector"]
        assert np.array_equal(store.vectors(frame["id"].to_list(), "prompt"), np.stack(frame["vector"].to_list()))
        assert store.duckdb.execute("SELECT count(*) FROM ratings WHERE value > ?", [2]).fetchall() == [(0,)]
        for sql in ("CREATE TABLE x AS SELECT 1; COPY x TO 'x.csv'", "FROM read_text('/etc/passwd')"):
            with pytest.raises(duckdb.Error):
                store.duckdb.execute(sql)
        with pytest.raises(NotInStore, match="nothing"):
            store.vectors(["nothing"])


def test_another_cursor_finds_every_view(built: Store) -> None:
    with armorm.connect(built.place) as store:
        connection = store.duckdb
        names = [
            name for (name,) in connection.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()
        ]
        assert {"ratings", "runs", "snapshots", "lineage"} <= {*names}
        for name in names:
            count = f'SELECT count(*) FROM "{name}"'
            assert connection.cursor().execute(count).fetchall() == connection.execute(count).fetchall()


@pytest.mark.parametrize(
    "value",
    [
        "340282366920938463463374607431768211455::UHUGEINT",
        "'123'::BIGNUM",
        "'101'::BIT",
        "'12:00:00+01'::TIMETZ",
        "[1]::VARIANT",
        "INTERVAL 1 DAY",
        "['1'::BIT]",
        "{'a': '1'::BIGNUM}",
    ],
)
def test_what_polars_has_no_type_for_is_refused(built: Store, value: str) -> None:
    with armorm.connect(built.place) as store, pytest.raises(QueryError):
        store.polars(f"SELECT {value} AS x")


def test_damage_is_named(built: Store) -> None:
    for path in Path(built.place).glob("objects/*/*.arrow"):
        overwrite(path, path.read_bytes()[:-1] + b"x")
    with armorm.connect(built.place) as store, pytest.raises(CorruptObject):
        store.polars("SELECT vector FROM features")


def test_an_earlier_snapshot_stands_beside_a_later_one_and_is_kept(built: Store) -> None:
    with built.writing("test") as writer:
        pointers.tag(writer, "full", built.head())
        writer.commit_all([], remove=["ingest/helpsteer"])
    with armorm.connect(built.place, at="head", before="full") as store:
        counts = store.sql("SELECT (SELECT count(*) FROM ratings), (SELECT count(*) FROM before.ratings)").fetchall()
        assert counts == [(0, 200)]
        held = {lease.snapshot for lease in leases.active(built.storage)}
        assert held == {built.head().number, built.snapshot("full").number}
    assert leases.active(built.storage) == []


def test_names_of_models_and_backbones(built: Store) -> None:
    (backbone,) = built.head().within("backbone")
    with built.writing("test") as writer:
        for wrong in ("nothing", "ffff"):
            with pytest.raises(NotInStore, match=backbone):
                pointers.promote(writer, "backbone", wrong)
        with pytest.raises(NotInStore, match=r"\bbackbone;.*\bnone\b"):
            pointers.rollback(writer, "backbone")
        pointers.promote(writer, "backbone", backbone[:8])
        assert pointers.promoted(built, "backbone") == backbone
        with pytest.raises(NotInStore, match=rf"\bbackbone\b.*\b{backbone}\b"):
            pointers.rollback(writer, "backbone")
        first = built.head()
        pointers.tag(writer, "good", first)
        writer.commit_all([], remove=["ingest/helpsteer"])
        pointers.tag(writer, "good", built.head())
        assert pointers.rollback(writer, "good").id == first.snapshot_id
        pointers.untag(writer, "good")
        assert "good" not in built.head().pointers
