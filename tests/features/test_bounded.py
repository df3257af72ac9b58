"""A process that is ended at its limits: of time, memory and rows; what it gives and raises is what comes back."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from armorm.features.catalog import bounded
from armorm.features.catalog.bounded import Limits, call
from armorm.features.catalog.query import query
from armorm.features.checks.quality import offending_rows
from armorm.features.errors import CorruptObject, QueryError
from armorm.features.store import Store
from tests.damage import overwrite
from tests.decoys import put_decoys
from tests.features.at_work import counting, failing, printing, signalled, spinning
from tests.features.test_verify import put_built

SMALL = 400 * 10**6


@pytest.fixture
def built(store: Store, tmp_path: Path) -> Store:
    put_built(store, tmp_path)
    return store


@pytest.mark.parametrize(
    "sql",
    [
        "WITH RECURSIVE t AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM t) SELECT max(x) FROM t",
        "SELECT count(*) FROM range(1000000000) AS a, range(1000000000) AS b WHERE a.range + b.range = 7",
    ],
)
def test_what_takes_too_long_is_ended(store: Store, sql: str) -> None:
    with pytest.raises(QueryError):
        query(store, sql, limits=Limits(time_s=0.5))


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT list_sum(range(1, 2000000000))",
        "SELECT length(repeat('x', 4000000000))",
        "SELECT count(*) FROM (SELECT DISTINCT random() FROM range(1000000000))",
    ],
)
def test_what_takes_too_much_memory_or_space_is_ended(store: Store, sql: str) -> None:
    with pytest.raises(QueryError):
        query(store, sql, limits=Limits(memory_bytes=SMALL, temporary_bytes=10**6))
    assert not store.storage.scratch.exists() or list(store.storage.scratch.iterdir()) == []


def test_an_answer_has_so_many_rows_and_no_more(store: Store) -> None:
    assert len(query(store, "FROM range(3000)", limits=Limits(rows=3000)).rows) == 3000
    with pytest.raises(QueryError):
        query(store, "FROM range(3001)", limits=Limits(rows=3000))
    with pytest.raises(QueryError):
        query(store, "SELECT repeat('x', 1000) FROM range(100)", limits=Limits(answer_bytes=10_000))


@pytest.mark.parametrize(
    "sql",
    ["SELECT range(1000)", "SELECT list_transform(range(500), x -> [])", f"SELECT {', '.join(map(str, range(1000)))}"],
)
def test_an_answer_of_many_small_values_counts_what_they_take(store: Store, sql: str) -> None:
    with pytest.raises(QueryError):
        query(store, sql, limits=Limits(answer_bytes=20_000))


def test_a_text_that_is_taken_apart_is_bounded_as_well(store: Store) -> None:
    began = time.monotonic()
    with suppress(QueryError):
        ((said,),) = query(
            store,
            "SELECT json_serialize_sql('SELECT ' || repeat('(', 100000))",
            limits=Limits(time_s=2, memory_bytes=SMALL),
        ).rows
        assert said.startswith('{"error":true')
    assert time.monotonic() - began < 30


def test_a_value_that_duckdb_breaks_down_on_costs_the_query_alone(store: Store) -> None:
    deep = "(repeat('[', 100000) || repeat(']', 100000))::JSON::VARIANT"
    with pytest.raises(QueryError):
        query(store, f"SELECT variant_typeof({deep})")
    assert query(store, "SELECT 1").rows == [(1,)]


def test_the_time_to_read_an_answer_counts(store: Store) -> None:
    pieces = call(counting, {"n": 100_000}, Limits(time_s=1))
    next(pieces)
    time.sleep(1.5)  # stands for the work of reading it
    with pytest.raises(QueryError, match="time-limit"):
        list(pieces)


def test_a_process_that_is_asked_again_answers_again() -> None:
    worker = bounded.Worker(SMALL)
    assert [list(worker.ask(counting, {"n": n})) for n in (3, 0, 2)] == [[0, 1, 2], [], [0, 1]]
    with pytest.raises(bounded.Ended):
        list(worker.ask(spinning, {}, work_s=0.2))
    assert worker.has_ended


def test_values_come_back_as_they_are(store: Store) -> None:
    sql = """
        SELECT 170141183460469231731687303715884105727::HUGEINT, 1.50::DECIMAL(5, 2), 'infinity'::DOUBLE,
            'a\u2028"'::VARCHAR, DATE '2024-02-29', TIME '01:02:03', TIMESTAMP '2024-02-29 01:02:03.000004',
            TIMESTAMPTZ '2024-02-29 01:02:03+00',
            INTERVAL 3 DAY, '\\x00\\xff'::BLOB, '00000000-0000-0000-0000-000000000001'::UUID, [1, NULL], {'$': 1},
            MAP {1: 'a'}, [1, 2]::INT[2], NULL, true
    """
    ((*values,),) = query(store, sql).rows
    assert values[:7] == [
        2**127 - 1,
        Decimal("1.50"),
        float("inf"),
        'a\u2028"',
        date(2024, 2, 29),
        clock(1, 2, 3),
        datetime(2024, 2, 29, 1, 2, 3, 4),
    ]
    assert values[7] == datetime(2024, 2, 29, 1, 2, 3, tzinfo=UTC)
    assert values[8:] == [
        timedelta(days=3),
        b"\x00\xff",
        UUID(int=1),
        [1, None],
        {"$": 1},
        {1: "a"},
        (1, 2),
        None,
        True,
    ]


PLAIN = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.decimals(allow_nan=False)
)
VALUES = st.recursive(
    PLAIN | st.dates() | st.datetimes() | st.timedeltas() | st.uuids(),
    lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=8,
)


@given(VALUES)
def test_encoding_is_undone_by_decoding(value: object) -> None:
    assert bounded.decode(bounded.encode(value)) == value


@pytest.mark.parametrize("value", [np.int64(3), np.float32(0.5), np.float64(0.25), np.uint8(7)])
def test_a_number_of_numpy_is_a_number(built: Store, value: Any) -> None:
    assert query(built, "SELECT ? + 1", [value]).rows == [(value + 1,)]


@pytest.mark.parametrize("value", [{1, 2}, np.array([1, 2]), np.bool_(True), object(), 1j])
def test_what_would_come_out_as_text_is_refused(built: Store, value: object) -> None:
    with pytest.raises(QueryError, match=type(value).__name__):
        query(built, "SELECT ?", [value])


def test_values_that_nest_too_deep_are_refused(built: Store) -> None:
    deep = "[" * 499 + "1" + "]" * 499
    with pytest.raises(QueryError, match="deep"):
        query(built, f"SELECT {deep}")


@pytest.mark.parametrize("value", [10**5000, [[]]], ids=["digits", "itself"])
def test_a_parameter_that_cannot_be_sent_is_refused(built: Store, value: Any) -> None:
    if isinstance(value, list):
        value[0].append(value)
    with pytest.raises(QueryError):
        query(built, "SELECT ?", [value])


def test_what_is_printed_before_it_begins_changes_nothing(
    built: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text("print('hello')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert query(built, "SELECT 1").rows == [(1,)]
    with pytest.raises(QueryError, match="time-limit"):
        query(built, "SELECT sleep_ms(60000)", limits=Limits(time_s=0.5))


def test_a_limit_that_the_system_sets_already_stays(built: Store, tmp_path: Path) -> None:
    program = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_DATA, (3 * 10**9, 3 * 10**9)); "
        "from armorm.features.catalog.query import query; from armorm.features.store import Store; "
        "from armorm.features.catalog.bounded import Limits; "
        "print(query(Store(sys.argv[1]), 'SELECT 1', limits=Limits(memory_bytes=10**10)).rows)"
    )
    place = str(Path(built.place).resolve())
    ended = subprocess.run([sys.executable, "-c", program, place], capture_output=True, text=True, cwd=tmp_path)
    assert ended.stdout == "[(1,)]\n", ended.stderr


def test_a_failure_that_is_not_of_memory_does_not_say_so() -> None:
    with pytest.raises(QueryError, match="ZeroDivisionError"):
        list(call(failing, {}, Limits()))


def test_the_next_query_sweeps_what_a_killed_one_has_left(built: Store) -> None:
    program = (
        "import os, sys; from armorm.features.catalog.views import spill_path; "
        "from armorm.features.store import Store; from tests.features.at_work import leaving; "
        "leaving(str(spill_path(Store(sys.argv[1])))); os.kill(os.getpid(), 9)"
    )
    root = Path(__file__).parent.parent.parent
    subprocess.run([sys.executable, "-c", program, built.place], env=os.environ | {"PYTHONPATH": str(root)}, cwd=root)
    assert list(Path(built.place).glob("tmp/*/spilled"))
    assert query(built, "SELECT 1").rows == [(1,)]
    assert not list(Path(built.place).glob("tmp/*/spilled"))


def test_errors_come_back_by_their_type(built: Store) -> None:
    for path in Path(built.place).glob("objects/*/*.parquet"):
        overwrite(path, path.read_bytes()[:-1] + b"x")
    with pytest.raises(CorruptObject) as error:
        query(built, "FROM ratings")
    assert str(error.value.path).endswith(".parquet")
    with pytest.raises(CorruptObject):
        offending_rows(built, "duplicate_pairs")


def test_a_folder_called_like_ours_is_not_imported(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_decoys(tmp_path)
    place = str(Path(store.place).resolve())
    monkeypatch.chdir(tmp_path)
    assert query(Store(place), "SELECT 1").rows == [(1,)]


def test_the_process_ends_with_the_one_that_asked(tmp_path: Path) -> None:
    program = (
        "from armorm.features.catalog.bounded import Limits, call; from tests.features.at_work import sleeping; "
        "list(call(sleeping, {'seconds': 600}, Limits()))"
    )
    root = Path(__file__).parent.parent.parent
    environment = os.environ | {"PYTHONPATH": str(root)}
    asking = subprocess.Popen([sys.executable, "-c", program], env=environment, cwd=tmp_path)

    def children() -> list[int]:
        return [int(pid) for pid in Path(f"/proc/{asking.pid}/task/{asking.pid}/children").read_text().split()]

    deadline = time.monotonic() + 120
    while not (found := children()) and time.monotonic() < deadline:
        time.sleep(0.05)
    (child,) = found
    asking.send_signal(signal.SIGKILL)
    asking.wait()
    while Path(f"/proc/{child}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{child}").exists()


def test_what_is_printed_is_no_answer(capfd: pytest.CaptureFixture[str]) -> None:
    assert list(call(printing, {}, Limits())) == [1]


def test_a_signal_to_the_group_leaves_its_end_to_the_parent() -> None:
    assert list(call(signalled, {}, Limits())) == [1]
