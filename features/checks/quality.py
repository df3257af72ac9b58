"""Quality gates: each file of `sql/checks/` is one SELECT of rows that should not be there.

A check says at its head how much it matters: `stop` ends a run before anything is embedded, `warn` is said and
counted. Both can be overridden by name.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import Field

from armorm.features.catalog.bounded import Limits
from armorm.features.catalog.inventory import rows_of
from armorm.features.catalog.query import QueryResult, call_on, fetched, opened
from armorm.features.catalog.views import Catalog, connect, mount, parquet_paths
from armorm.features.errors import InputError, QualityError
from armorm.features.store import Artifact, Made, Recipe, Snapshot, Store
from armorm.features.store.json_records import put_record
from armorm.features.store.stage import Computed, OnProgress, Stage, recipe_on_data
from armorm.features.tables import SQL

STAGE: Final = "quality"
STAGE_VERSION: Final = 1

CHECKS: Final = SQL / "checks"

EXAMPLES: Final = 3
"""Offending rows that a result carries with it."""

LIMITS: Final = Limits(time_s=3600)
"""The limits of all checks together, which read every row."""

Severity = Literal["stop", "warn", "off"]


@dataclass(frozen=True, slots=True)
class Check:
    """One file of `sql/checks/`."""

    name: str
    what: str
    """The rows that it finds, in words."""
    severity: Severity
    sql: str


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What a check has found."""

    name: str
    severity: Severity
    what: str
    n_rows: int
    examples: Annotated[Sequence[Mapping[str, Any]], Field(exclude=True)] = ()
    """The first rows, by column; only counts are kept."""

    @property
    def stops(self) -> bool:
        """Whether nothing may go on from here."""
        return self.severity == "stop" and self.n_rows > 0


def read_checks(severities: Mapping[str, Severity]) -> list[Check]:
    """Return every check, with the given severities in place of its own.

    Raises:
        InputError: a severity is given for a check that does not exist.
    """
    checks = {path.stem: _read(path) for path in sorted(CHECKS.glob("*.sql"))}
    if unknown := sorted(severities.keys() - checks.keys()):
        raise _unknown(unknown, checks)
    return [Check(name, check.what, severities.get(name, check.severity), check.sql) for name, check in checks.items()]


def run_checks(store: Store, severities: Mapping[str, Severity], *, limits: Limits = LIMITS) -> list[CheckResult]:
    """Return what every check that is not `off` finds in the newest snapshot, in a process that ends at its limits.

    Raises:
        InputError: a severity is given for a check that does not exist.
        QueryError: the checks take too long, or too much memory.
    """
    read_checks(severities)
    found = call_on(store, found_by_checks, {"severities": dict(severities), "limits": asdict(limits)}, limits)
    return [CheckResult(**result) for result in found]


def found_by_checks(
    place: str, cache: str | None, number: int, temporary: str, severities: Mapping[str, Severity], limits: Any
) -> Iterator[dict[str, Any]]:
    """Yield what `run_checks` gives, within the process that may be ended."""
    with _connected(opened(place, cache), number, Path(temporary), Limits(**limits)) as connection:
        for check in read_checks(severities):
            if check.severity != "off":
                yield asdict(_run(connection, check))


def offending_rows(store: Store, name: str, *, limits: Limits = LIMITS) -> QueryResult:
    """Return all rows that one check finds in the newest snapshot, in a process that ends at its limits.

    Raises:
        InputError: there is no such check.
        QueryError: the check takes too long or too much memory, or finds too many rows.
    """
    checks = {check.name: check for check in read_checks({})}
    if name not in checks:
        raise _unknown([name], checks)
    return QueryResult.of_pieces(call_on(store, found_by_check, {"name": name, "limits": asdict(limits)}, limits))


def found_by_check(
    place: str, cache: str | None, number: int, temporary: str, name: str, limits: Any
) -> Iterator[list[Any]]:
    """Yield what `offending_rows` gives, within the process that may be ended."""
    allowed = Limits(**limits)
    with _connected(opened(place, cache), number, Path(temporary), allowed) as connection:
        yield from fetched(connection.execute(_read(CHECKS / f"{name}.sql").sql), allowed)


def moved_ratings(connection: Catalog, *, by_more_than: float) -> list[tuple[str, str, int, int, float]]:
    """Return how far each dataset's objectives have moved from `earlier_ratings` to `ratings`, as the check does.

    Args:
        by_more_than: distances up to it are left out.

    Returns:
        Dataset, objective, ratings earlier, ratings now, and the distance, 0 to 1.
    """
    connection.execute("SET VARIABLE moved_by_more_than = ?::DOUBLE", [by_more_than])
    return connection.execute(_read(CHECKS / "moved_ratings.sql").sql).fetchall()


def _recipe(stage: Stage, snapshot: Snapshot, backbone_id: str, severities: Mapping[str, Severity]) -> Recipe:
    """Return the inputs of the checks. The earlier snapshot is none: as long as the data stand, it stays the same."""
    stated = {
        check.name: f"{check.severity} {hashlib.sha256(check.sql.encode()).hexdigest()[:16]}"
        for check in read_checks(severities)
    }
    return recipe_on_data(stage, snapshot, stated)


def _make(store: Store, backbone_id: str, severities: Mapping[str, Severity], on_progress: OnProgress) -> Made:
    return Made({"record": put_record(store, run_checks(store, severities))})


def _line(results: Sequence[CheckResult]) -> str:
    found = [result for result in results if result.n_rows]
    listed = ", ".join(f"{result.name} {result.n_rows} ({result.severity})" for result in found)
    return f"{len(results)} checks, {len(found)} of them found rows" + (f": {listed}" if listed else "")


QUALITY: Final[Computed[Mapping[str, Severity]]] = Computed(
    name=STAGE,
    version=STAGE_VERSION,
    part="check",
    after=("ingest",),
    table="checks",
    record=list[CheckResult],
    line_of=_line,
    recipe_of=_recipe,
    work_of=rows_of("conversations"),
    make=_make,
)
"""The counts of every check that is not `off`."""


def require_passed(results: Sequence[CheckResult]) -> None:
    """Let nothing through that a check stops.

    Raises:
        QualityError: with the number of rows of each check that stops.
    """
    if found := {result.name: result.n_rows for result in results if result.stops}:
        raise QualityError(found)


def _read(path: Path) -> Check:
    text = path.read_text()
    comments = [line.removeprefix("-- ") for line in text.splitlines() if line.startswith("-- ")]
    (severity,) = re.findall(r"^-- severity: (\w+)$", text, re.MULTILINE)
    assert severity in get_args(Severity), path
    return Check(path.stem, comments[0].removeprefix(f"{path.stem}: ").removesuffix("."), severity, text)


def _run(connection: Catalog, check: Check) -> CheckResult:
    connection.execute(f"CREATE OR REPLACE TEMP TABLE found AS {check.sql}")
    ((n_rows,),) = connection.execute("SELECT count(*) FROM found").fetchall()
    cursor = connection.execute("FROM found LIMIT ?", [EXAMPLES])
    examples = QueryResult([column[0] for column in cursor.description or []], cursor.fetchall())
    return CheckResult(check.name, check.severity, check.what, n_rows, examples.records)


def _connected(store: Store, number: int, temporary: Path, limits: Limits) -> Catalog:
    """Return the views of a snapshot, and `earlier_ratings` beside them."""
    connection = connect(store, store.manifests.read(number), temporary=temporary)
    connection.lock(limits)
    mount(connection, "earlier_ratings", "ratings", parquet_paths(store, _earlier(store), "ratings"))
    return connection


def _earlier(store: Store) -> Iterator[Artifact]:
    """Yield what each dataset of the newest snapshot was before its content last changed, if it existed."""
    open_slots = store.head().ids_within("ingest")
    for snapshot in store.history():
        for slot in [slot for slot in open_slots if slot in snapshot.artifacts]:
            artifact = snapshot.artifacts[slot]
            if artifact.artifact_id != open_slots[slot]:
                del open_slots[slot]
                yield artifact
        if not open_slots:
            return


def _unknown(names: Sequence[str], checks: Mapping[str, Check]) -> InputError:
    return InputError(f"got check {', '.join(names)}; expected one of {', '.join(checks)}; correct the name")
