"""What is seen of a run: progress with the time left, tables that fit, and nothing that nobody may see."""

import gzip
import json
import logging
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from armorm.features.checks.quality import CheckResult
from armorm.features.store import Store, Writer
from armorm.features.store.estimate import Planned
from armorm.flows import embed
from armorm.flows.configuration.settings import load_settings
from armorm.flows.runlog import prefect_artifacts as seen
from armorm.flows.runlog.events import CHANGED
from armorm.flows.runlog.progress import progress
from tests import prefect_server
from tests.features.canonical import Dataset
from tests.features.test_change import model, rated
from tests.flows.conftest import write_config

MARKERS = {"PROMPT": "zanzibar-prompt", "ANSWER": "zanzibar-answer", "BROKEN": "zanzibar-broken"}
"""Planted in native files."""

SECRETS = ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "OPENLINEAGE_API_KEY")


class Told:
    """What Prefect's server is told, at a time that the test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.id = 100.0, uuid4()
        self.created: list[dict[str, Any]] = []
        self.updates: list[tuple[float, str]] = []
        self.reachable = True
        monkeypatch.setattr("armorm.flows.runlog.progress.time.monotonic", lambda: self.now)
        monkeypatch.setattr("armorm.flows.runlog.progress.create_progress_artifact", self.create)
        monkeypatch.setattr("armorm.flows.runlog.progress.update_progress_artifact", self.update)
        monkeypatch.setattr("armorm.flows.runlog.progress.get_run_logger", lambda: logging.getLogger("test"))

    def create(self, percent: float, *, key: str, description: str) -> UUID:
        if not self.reachable:
            raise httpx.ConnectError("nobody there")
        self.created.append({"percent": percent, "key": key, "description": description})
        return self.id

    def update(self, id: UUID, percent: float, *, description: str) -> None:
        assert id == self.id
        self.updates.append((percent, description))


def test_long_work_is_told_with_the_time_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told(monkeypatch)
    with progress("reading my-own.set", of_bytes=True) as on_progress:
        for second in range(21):
            told.now = 100.0 + second
            on_progress(20_000 + 1000 * second, 40_000, f"{second} rows")  # 20 kB were there before
    (description,) = (one["description"] for one in told.created)
    assert told.created == [
        {
            "percent": 57.5,
            "key": "armorm-progress-reading-my-own-set",
            "description": description,
        }
    ]
    assert re.search(r"\breading my-own\.set\b.* 23 kB .*\b40 kB .*\b3 rows;.* 17 s\b", description)
    assert [percent for percent, _ in told.updates] == [65.0, 72.5, 80.0, 87.5, 95.0, 100.0]
    assert re.search(r"\breading my-own\.set\b.* 40 kB .*\b40 kB .*\b20 rows;(?!.*\d)", told.updates[-1][1])


def test_short_work_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told(monkeypatch)
    with progress("gate") as on_progress:
        on_progress(1, 2)
        told.now += 2
        on_progress(2, 2)
    assert (told.created, told.updates) == ([], [])


def own_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged by the logger of these tests: a thread of Prefect's may log meanwhile."""
    return [record.getMessage() for record in caplog.records if record.name == "test"]


def test_a_log_has_a_line_a_minute(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    told = Told(monkeypatch)
    with caplog.at_level(logging.INFO, logger="test"), progress("embedding") as on_progress:
        for _ in range(13):
            on_progress(round(told.now), 1000)
            told.now += 10
    facts = [re.findall(r"embedding|[\d,]+(?: min)?", line) for line in own_lines(caplog)]
    assert facts == [["embedding", "160", "1,000", "14 min"], ["embedding", "220", "1,000", "13 min"]]


def test_work_goes_on_where_nobody_can_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told(monkeypatch)
    told.reachable = False
    with progress("gate") as on_progress:
        told.now += 5
        on_progress(5, 10)
        told.reachable = True
        told.now += 5
        on_progress(5, 10)
    (description,) = (one["description"] for one in told.created)
    assert re.findall(r"gate|\d+", description) == ["gate", "5", "10"]


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[list[dict[str, Any]], str]]:
    """The table artifacts, by key, with their descriptions."""
    found: dict[str, tuple[list[dict[str, Any]], str]] = {}

    def create(table: list[dict[str, Any]], *, key: str, description: str) -> None:
        found[key] = table, description

    monkeypatch.setattr(seen, "create_table_artifact", create)
    monkeypatch.setattr(seen, "get_run_logger", lambda: logging.getLogger("test"))
    return found


def test_a_plan_begins_with_what_runs_and_fits(
    store: Store, tables: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    why = "input contamination changed; of the 23 inputs features: 1 new; input ingest/helpsteer changed"
    steps = [
        Planned("quality", None),
        Planned("embed", why, rows=12_345, tokens=500, seconds=20.0, basis="at 25 tokens/s"),
        Planned("gate", "after embed", rows=None, seconds=None, basis="no speed measured yet"),
    ]
    with caplog.at_level("INFO", logger="test"):
        assert seen.show_plan(store, steps) == store.head()
    rows, line = tables["armorm-plan"]
    assert re.search(r"\bsnapshot 0: 2 of 3\b(?!.*\d)", line)
    assert [row["stage"] for row in rows] == ["embed", "gate", "quality"]
    assert [row["time"] for row in rows] == ["20 s", "?", ""]
    assert " ".join(rows[0]["why it would run"].split("\n")) == why
    assert max(map(len, rows[0]["why it would run"].split("\n"))) <= 28
    assert own_lines(caplog)[:2] == [
        f"plan: embed: {why}; 20 s at 25 tokens/s",
        "plan: gate: after embed",
    ]


def test_checks_that_found_rows_come_first_and_those_that_stop_before(tables: dict[str, Any]) -> None:
    found = [("a", "warn", 0), ("b", "warn", 2), ("c", "stop", 0), ("d", "stop", 1)]
    seen.show_quality([CheckResult(name, severity, "rows", n) for name, severity, n in found])  # type: ignore[arg-type]
    rows, line = tables["armorm-quality"]
    assert [(row["check"], row["rows"]) for row in rows] == [("d", 1), ("b", 2), ("a", 0), ("c", 0)]
    assert line.startswith("2 of 4 ")


def test_a_first_run_and_one_that_changed_nothing_have_no_difference(store: Store, writer: Writer) -> None:
    before = store.head()
    Dataset("mine").commit(writer)
    assert seen.difference(store, before, store.head()) is None
    assert seen.difference(store, store.head(), store.head()) is None


def test_data_that_moved_far_enough_since_training_are_told_once_they_are_embedded(
    config: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[tuple[str, str, dict[str, Any]]] = []
    monkeypatch.setattr(embed, "emit", lambda event, store, payload: told.append((event, store.place, payload)))
    monkeypatch.setattr(embed, "get_run_logger", lambda: logging.getLogger("test"))
    settings = load_settings(config)
    store = settings.open_store()

    def tell() -> list[str]:
        caplog.clear()
        with caplog.at_level("INFO", logger="test"):
            embed.tell_change(store, settings)
        return own_lines(caplog)

    with store.writing("test") as writer:
        rated(dict.fromkeys(range(50), 0.0)).commit(writer)
        assert len(tell()) == 1
        assert told.pop()[2]["model"] is None
        trained = model(writer)
        rated(dict.fromkeys(range(52), 0.0)).commit(writer)
        (line,) = tell()
        assert re.search(r" 4\.0% of 50 rows\b", line)
        assert told == []
        rated(dict.fromkeys(range(54), 0.0)).commit(writer)
        line, reason = tell()
        assert re.search(r" 8\.0% of 50 rows\b", line)
        assert re.search(r" 8\.0% .* 5\.0%", reason)
    ((event, place, payload),) = told
    assert (event, place) == (CHANGED, store.place)
    assert reason.endswith(payload.pop("why"))
    assert payload == {
        "model": trained.artifact_id,
        "before": 2,
        "after": 4,
        "rows": 0.08,
        "drift": 0.0,
    }


def plant(file: Path) -> None:
    """A row of the dataset with markers in its texts, and a line that is broken."""
    lines = gzip.decompress(file.read_bytes()).splitlines(keepends=True)
    row = json.loads(lines[0]) | {"prompt": f"Who knows {MARKERS['PROMPT']}?", "response": f"{MARKERS['ANSWER']} does."}
    planted = [json.dumps(row).encode() + b"\n", f'{{"prompt": "{MARKERS["BROKEN"]}\n'.encode()]
    file.write_bytes(gzip.compress(b"".join([*lines, *planted])))


@pytest.mark.slow
def test_no_text_and_no_secret_is_in_prefects_database_nor_in_the_log(sample: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sample"
    shutil.copytree(sample, folder)
    file = folder / "data" / "helpsteer" / "train.jsonl.gz"
    plant(file)
    config = write_config(tmp_path, folder)
    secrets = {name: f"zanzibar-{name.lower()}" for name in SECRETS}
    with prefect_server.serve(tmp_path / "prefect") as server:

        def armorm(*arguments: str) -> subprocess.CompletedProcess[bytes]:
            command = [str(Path(sys.executable).with_name("armorm")), *arguments, "--config", str(config)]
            return subprocess.run(command, env=server.environment | secrets, capture_output=True, check=False)

        ran = [armorm("run", "--promote"), armorm("embed")]
        assert [one.returncode for one in ran] == [0, 0], ran[0].stderr.decode()
        texts = "SELECT count(*) FROM texts WHERE messages::VARCHAR LIKE '%zanzibar-answer%'"
        assert b"1" in armorm("sql", texts, "--format", "csv").stdout.split()
        file.write_bytes(gzip.compress(f'{{"prompt": "{MARKERS["BROKEN"]}'.encode()))
        ran.append(armorm("run"))
        assert ran[-1].returncode == 1
    (folder,) = (config.parent / "models").iterdir()
    held = b"".join(path.read_bytes() for path in (tmp_path / "prefect").rglob("*") if path.is_file())
    assert folder.name.encode() in held, "the search finds what is there"
    assert b"armorm-promotion" in held
    said = b"".join(one.stdout + one.stderr for one in ran)
    for marker in (*MARKERS.values(), *secrets.values()):
        assert marker.encode() not in held
        assert marker.encode() not in said
