"""OpenLineage: what stages read and made stands in events, nothing else does, and no run waits or fails for them."""

import importlib
import json
import logging
import math
import pkgutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from openlineage.client import event_v2 as ol
from openlineage.client import generated
from openlineage.client.serde import Serde

from armorm.features.conversation import SplitFractions
from armorm.features.errors import DatasetError, InputError, NativeFileError
from armorm.features.ingest.dataset import INGEST, DatasetFiles, ingest_dataset
from armorm.features.lineage.openlineage import (
    LineageObserver,
    OpenLineageSettings,
    observe,
    observer,
    store_namespace,
)
from armorm.features.lineage.openlineage.events import SHARD_COLUMNS, kind_of
from armorm.features.sources import find_source
from armorm.features.store import Artifact, ObjectRef, Recipe, Run, Store, Writer
from armorm.features.tables import SCHEMAS
from armorm.features.vectors.shards import Feature, open_shard, write_shard
from armorm.stages.gate import GATE
from tests.features.lineage_server import serving
from tests.features.openlineage_spec import facets_of, official_spec

Json = dict[str, Any]

ROOT = Path(__file__).parent.parent.parent
RUN = Run("0123456789abcdef", "armorm run", "2026-01-02T03:04:05.678+00:00", "0.1.0")
BACKBONE = "b" * 32
STAGES = {"gate": GATE, "ingest": INGEST}
MARKER = "THE-WORDS-OF-A-CONVERSATION"
SECRET = "SECRET-OF-THE-STORE"
KEY = "SECRET-KEY"

INGEST = Recipe("ingest/own", "ingest", 2, {"dataset": "own", "share": 0.5}, {"file 1 a.jsonl": "1" * 64})
GATE = Recipe(
    "gate",
    "gate",
    1,
    {"settings": {}, "backbone": BACKBONE},
    {
        "ingest/own": "a" * 32,
        f"features/{BACKBONE}/s1": "c" * 32,
        f"features/{BACKBONE}/s2": "d" * 32,
        "contamination": "e" * 32,
    },
)
TABLES = {
    "conversations/000": ObjectRef("1" * 64, 10, "parquet"),
    "ratings/000": ObjectRef("2" * 64, 20, "parquet"),
    "ratings/001": ObjectRef("3" * 64, 30, "parquet"),
}
SUMMARY = {"conversations": 3, "ratings": 4, "preferences": 5, "origin": {"uri": "hf://datasets/owner/name@main"}}


def artifact(recipe: Recipe, objects: dict[str, ObjectRef] | None = None, **summary: Any) -> Artifact:
    found = {"record": ObjectRef("0" * 64, 7, "json")} if objects is None else objects
    return Artifact(recipe, found, RUN.run_id, RUN.started_at, summary)


def observing(folder: Path, **how: Any) -> LineageObserver:
    settings = OpenLineageSettings(**({"file": "lineage.jsonl"} | how))
    return observe(settings, root=folder, store=folder / "store", stages=STAGES, api_key=KEY)


def events_in(folder: Path) -> list[Json]:
    path = folder / "lineage.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def replay(store: Store, observer: LineageObserver) -> int:
    """Tells of every artifact that a store's history has brought, as its writer would have; returns how many."""
    told = set[tuple[str, str]]()
    for snapshot in reversed(list(store.history())):
        for slot, made in snapshot.artifacts.items():
            if snapshot.run and made.run_id == snapshot.run.run_id and (made.run_id, slot) not in told:
                told.add((made.run_id, slot))
                observer.started(snapshot.run, made.recipe)
                observer.completed(snapshot.run, made)
    return len(told)


def test_a_stage_starts_and_completes(tmp_path: Path) -> None:
    observer = observing(tmp_path)
    observer.started(RUN, INGEST)
    observer.completed(RUN, artifact(INGEST, TABLES, **SUMMARY))
    start, complete = events_in(tmp_path)
    assert [start["eventType"], complete["eventType"]] == ["START", "COMPLETE"]
    assert start["run"]["runId"] == complete["run"]["runId"]
    assert start["job"] == complete["job"]
    assert complete["job"]["name"] == "ingest/own"
    assert complete["job"]["namespace"] == "armorm"
    location = complete["job"]["facets"]["sourceCodeLocation"]
    assert (location["url"], location["version"]) == (
        "pkg:generic/armorm@0.1.0#armorm/features/ingest/dataset.py",
        "0.1.0",
    )
    assert complete["job"]["facets"]["tags"]["tags"][0] | {"source": ""} == {
        "key": "stage_version",
        "value": "2",
        "source": "",
    }
    assert complete["job"]["facets"]["jobType"]["processingType"] == "BATCH"
    assert complete["run"]["facets"]["nominalTime"]["nominalStartTime"] == RUN.started_at
    assert complete["run"]["facets"]["processing_engine"]["version"] == RUN.code_version
    assert {facet["_producer"] for _, facet in facets_of(complete)} == {"pkg:generic/armorm@0.1.0"}


def test_the_output_has_version_columns_and_statistics(tmp_path: Path) -> None:
    made = artifact(INGEST, TABLES, **SUMMARY)
    observing(tmp_path).completed(RUN, made)
    (output,) = events_in(tmp_path)[0]["outputs"]
    assert (output["namespace"], output["name"]) == ((tmp_path / "store").as_uri(), "ingest/own")
    assert output["facets"]["version"]["datasetVersion"] == made.artifact_id
    assert output["facets"]["dataSource"]["uri"] == (tmp_path / "store").as_uri()
    fields = {field["name"]: [column["name"] for column in field["fields"]] for field in _schema(output)}
    assert fields == {name: SCHEMAS[name].names for name in ("conversations", "ratings")}
    statistics = output["outputFacets"]["outputStatistics"]
    assert (statistics["rowCount"], statistics["size"], statistics["fileCount"]) == (3 + 4, 60, 3)


def test_one_table_is_its_columns_and_a_record_is_a_field(tmp_path: Path) -> None:
    observer = observing(tmp_path)
    table = {"contamination": ObjectRef("1" * 64, 10, "parquet")}
    observer.completed(RUN, artifact(Recipe("contamination", "contamination", 1, {}, {}), table))
    observer.completed(RUN, artifact(GATE))
    columns, records = (_schema(event["outputs"][0]) for event in events_in(tmp_path))
    assert [column["name"] for column in columns] == SCHEMAS["contamination"].names
    assert [(field["name"], field["type"]) for field in records] == [("record", "json")]
    assert "rowCount" not in events_in(tmp_path)[1]["outputs"][0]["outputFacets"]["outputStatistics"]


def _schema(dataset: Json) -> list[Json]:
    fields: list[Json] = dataset["facets"]["schema"]["fields"]
    return fields


def test_a_shard_is_a_part_of_its_backbones_features(store: Store, tmp_path: Path) -> None:
    objects = write_shard(store, BACKBONE, {}, [Feature("prompt", "1", 3, False, np.ones(4, dtype=np.float32))])
    ref = objects["shard"]
    recipe = Recipe(f"features/{BACKBONE}/s1", "embed", 1, {}, {"backbone": "f" * 32})
    observing(tmp_path).completed(RUN, artifact(recipe, objects, rows=1))
    (event,) = events_in(tmp_path)
    (output,) = event["outputs"]
    assert event["job"]["name"] == f"embed/{BACKBONE}"
    assert output["name"] == f"features/{BACKBONE}"
    condition = output["outputFacets"]["subset"]["outputCondition"]
    assert condition == {"type": "partition", "partitions": [{"identifier": "s1", "dimensions": {"shard": "s1"}}]}
    assert output["outputFacets"]["outputStatistics"]["rowCount"] == 1
    assert [field["name"] for field in _schema(output)] == open_shard(store, ref).schema.names == list(SHARD_COLUMNS)
    for field in open_shard(store, ref).schema:
        assert str(field.type).partition("[")[0] == SHARD_COLUMNS[field.name].partition("[")[0]


def test_native_files_are_an_input_with_the_share_that_is_kept(tmp_path: Path) -> None:
    observer = observing(tmp_path)
    observer.started(RUN, INGEST)
    observer.completed(RUN, artifact(INGEST, TABLES, **SUMMARY))
    for event in events_in(tmp_path):
        (native,) = event["inputs"]
        assert native["name"] == "native/own"
        assert native["facets"]["version"]["datasetVersion"] == "1" * 64
        condition = native["inputFacets"]["subset"]["inputCondition"]
        assert condition["operator"] == "AND"
        assert condition["left"]["partitions"][0]["dimensions"] == {"file": "file 1 a.jsonl", "version": "1" * 64}
        assert (condition["right"]["comparison"], condition["right"]["right"]["value"]) == ("LESS_THAN", "0.5")
    assert [event["inputs"][0]["facets"].get("dataSource", {}).get("uri") for event in events_in(tmp_path)] == [
        None,  # where the files are from is known when they have been read
        "hf://datasets/owner/name@main",
    ]


def test_shards_are_one_input_and_tables_say_which_splits_are_read(tmp_path: Path) -> None:
    observing(tmp_path).started(RUN, GATE)
    inputs = {dataset["name"]: dataset for dataset in events_in(tmp_path)[0]["inputs"]}
    assert list(inputs) == ["ingest/own", f"features/{BACKBONE}", "contamination"]
    shards = inputs[f"features/{BACKBONE}"]["inputFacets"]["subset"]["inputCondition"]["partitions"]
    assert [shard["dimensions"]["version"] for shard in shards] == ["c" * 32, "d" * 32]
    splits = inputs["ingest/own"]["inputFacets"]["subset"]["inputCondition"]
    assert splits["operator"] == "OR"
    assert [splits[side]["right"]["value"] for side in ("left", "right")] == ["train", "validation"]
    assert inputs["ingest/own"]["facets"]["version"]["datasetVersion"] == "a" * 32
    assert "inputFacets" not in inputs["contamination"] or inputs["contamination"]["inputFacets"] == {}


def test_what_one_stage_makes_the_next_one_reads_under_the_same_name_and_version(tmp_path: Path) -> None:
    observer = observing(tmp_path)
    made = artifact(Recipe(f"backbone/{BACKBONE}", "backbone", 1, {}, {}))
    observer.completed(RUN, made)
    observer.started(RUN, Recipe("model", "model", 1, {}, {"backbone": made.artifact_id}))
    made_event, read_event = events_in(tmp_path)
    written, read = made_event["outputs"][0], read_event["inputs"][0]
    assert (written["namespace"], written["name"]) == (read["namespace"], read["name"])
    assert written["facets"]["version"] == read["facets"]["version"]


def test_run_ids_are_uuids_that_follow_from_the_stores(tmp_path: Path) -> None:
    observer = observing(tmp_path)
    for recipe in (INGEST, GATE, INGEST):
        observer.started(RUN, recipe)
    events = events_in(tmp_path)
    first, second, again = (UUID(event["run"]["runId"]) for event in events)
    assert first == again != second
    parents = {event["run"]["facets"]["parent"]["run"]["runId"] for event in events}
    assert len(parents) == 1
    assert UUID(parents.pop()) not in (first, second)
    assert events[0]["run"]["facets"]["parent"]["job"]["name"] == "armorm run"


def test_neither_text_nor_secrets_are_in_an_event(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = OpenLineageSettings(file="lineage.jsonl")
    address = f"s3://user:{SECRET}@bucket/prefix?secret_key={SECRET}#{SECRET}"
    observer = observe(settings, root=tmp_path, store=address, stages=STAGES, api_key=KEY)
    given = {"definition": {"strip": MARKER}, "options": {"token": SECRET}}
    recipe = Recipe("ingest/own", "ingest", 1, given, {"file 1": "1" * 64})
    summary = {"line": MARKER, "origin": {"uri": f"hf://user:{SECRET}@datasets/a/b?token={SECRET}", "note": SECRET}}
    error = NativeFileError(Path(MARKER), f"got {MARKER}; expected JSON; see {address}")
    error.__cause__ = ValueError(MARKER)
    error.add_note(MARKER)
    observer.started(RUN, recipe)
    observer.completed(RUN, artifact(recipe, **summary))
    observer.failed(RUN, recipe, error)
    observer.failed(RUN, recipe, KeyError(MARKER))
    written = (tmp_path / "lineage.jsonl").read_text()
    for hidden in (MARKER, SECRET, KEY):
        assert hidden not in written + caplog.text
    events = events_in(tmp_path)
    assert [event["eventType"] for event in events] == ["START", "COMPLETE", "FAIL", "FAIL"]
    assert events[0]["outputs"][0]["namespace"] == "s3://bucket/prefix"
    assert events[1]["inputs"][0]["facets"]["dataSource"]["uri"] == "hf://datasets/a/b"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (DatasetError("own", MARKER), f"armorm.features.errors.DatasetError: {DatasetError.__doc__}"),
        (OSError(28, MARKER), f"OSError: {OSError.__doc__}"),
        (KeyboardInterrupt(), f"KeyboardInterrupt: {KeyboardInterrupt.__doc__}"),
        (type("Undocumented", (Exception,), {"__module__": "m"})(MARKER), "m.Undocumented"),
    ],
)
def test_of_an_error_its_kind_is_said(error: BaseException, said: str, tmp_path: Path) -> None:
    assert kind_of(error) == said
    observing(tmp_path).failed(RUN, GATE, error)
    message = events_in(tmp_path)[0]["run"]["facets"]["errorMessage"]
    assert (message["message"], message["programmingLanguage"], message.get("stackTrace")) == (said, "Python", None)


@pytest.mark.parametrize(
    ("store", "namespace"),
    [
        ("s3://bucket/a/", "s3://bucket/a"),
        ("s3://key:secret@bucket/a?endpoint=x", "s3://bucket/a"),
        ("https://token@host:9000/bucket", "https://host:9000/bucket"),
        ("abfss://container@account.dfs.core.windows.net/a", "abfss://container@account.dfs.core.windows.net/a"),
        ("abfss://user:secret@account.dfs.core.windows.net/a", "abfss://account.dfs.core.windows.net/a"),
        (Path("/a b/store"), "file:///a%20b/store"),
    ],
)
def test_the_namespace_is_the_stores_address(store: str | Path, namespace: str) -> None:
    assert store_namespace(store) == namespace


def test_a_server_gets_the_events_in_order(tmp_path: Path) -> None:
    with serving() as server:
        observer = observing(tmp_path, file=None, url=server.url)
        for _ in range(10):
            observer.started(RUN, INGEST)
            observer.completed(RUN, artifact(INGEST, TABLES, **SUMMARY))
        observer.close()
    assert [event["eventType"] for event in server.events] == ["START", "COMPLETE"] * 10
    assert set(server.paths) == {"/api/v1/lineage"}
    assert set(server.keys) == {f"Bearer {KEY}"}
    assert KEY not in "".join(server.bodies)


def test_the_endpoint_is_a_setting(tmp_path: Path) -> None:
    with serving() as server:
        observer = observing(tmp_path, file=None, url=server.url, endpoint="other/place")
        observer.started(RUN, INGEST)
        observer.close()
    assert server.paths == ["/other/place"]


def test_a_dead_server_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with serving() as server:
        pass
    observer = observing(tmp_path, file=None, url=server.url)
    for _ in range(20):
        observer.started(RUN, INGEST)
    observer.close()
    (record,) = [record for record in caplog.records if record.name.startswith("armorm")]
    assert record.levelno == logging.WARNING
    assert f"{server.url};" in record.getMessage()
    assert KEY not in caplog.text


@pytest.mark.parametrize("status", [401, 500])
def test_a_server_that_refuses_is_said_once(status: int, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with serving(status=status) as server:
        observer = observing(tmp_path, file=None, url=server.url)
        for _ in range(3):
            observer.started(RUN, INGEST)
        observer.close()
    (record,) = [record for record in caplog.records if record.name.startswith("armorm")]
    assert ("status 401" if status == 401 else "RetryError") in record.getMessage()


def test_nobody_waits_for_a_slow_server(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observer, "LAST_WAIT_S", 0.3)
    monkeypatch.setattr(observer, "MAX_WAITING", 50)
    with serving(delay_s=math.inf) as server:
        slow = observing(tmp_path, file=None, url=server.url)
        for _ in range(100):
            slow.started(RUN, INGEST)
        slow.close()
        assert server.bodies == [], "all that was before its first answer"
        (record,) = [record for record in caplog.records if record.name.startswith("armorm")]
        assert "TimeoutError" in record.getMessage()
        slow._outbox._waiting.clear()  # type: ignore[union-attr]
        server.released.set()
        slow.close()


LEAVING = """
from pathlib import Path
from tests.features.test_openlineage import INGEST, RUN, observing
observer = observing(Path(), file=None, url={url!r})
for _ in range(5):
    observer.started(RUN, INGEST)
"""


@pytest.mark.parametrize(("delay_s", "sent"), [(0.0, 5), (math.inf, 0)])
def test_at_the_end_of_the_process_a_moment_is_left(delay_s: float, sent: int) -> None:
    with serving(delay_s=delay_s) as server:
        code = LEAVING.format(url=server.url)
        ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        assert len(server.bodies) == sent
    assert (server.url in ended.stderr) == (sent == 0)


def test_a_file_that_cannot_be_written_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    observer = observing(tmp_path, file="missing/lineage.jsonl")
    observer.started(RUN, INGEST)
    observer.started(RUN, INGEST)
    (record,) = [record for record in caplog.records if record.name.startswith("armorm")]
    assert "missing/lineage.jsonl" in record.getMessage()


def test_an_event_that_cannot_be_made_ends_no_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    observing(tmp_path).started(Run("1", "armorm run", "yesterday", "0.1.0"), INGEST)
    assert events_in(tmp_path) == []
    assert "ValueError" in caplog.text


def test_without_the_client_it_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openlineage.client.transport.file", None)
    with pytest.raises(InputError, match=r"`pip install 'armorm\[openlineage\]'`") as error:
        observing(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"file": "a", "url": "http://a"}, r"\bfile\b.*\burl\b"),
        ({"url": f"http://user:{SECRET}@host"}, r"\bcredentials\b"),
        ({"url": f"http://host?key={SECRET}"}, r"\bcredentials\b"),
        ({"url": f"user:{SECRET}@host"}, r"\bcredentials\b"),
        ({"url": "localhost:5000"}, r"\blocalhost:5000;.*\bhttp://host\b"),
        ({"namespace": ""}, r"\bnamespace: "),
    ],
)
def test_settings_are_checked_and_show_no_secret(given: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        OpenLineageSettings(**given)
    assert SECRET not in str(error.value)


@pytest.fixture
def many(store: Store, writer: Writer, tmp_path: Path) -> list[Json]:
    """Events of a real ingest, and of all that the others of these tests tell of."""
    rows = [{"prompt": f"p{n}", "response": f"{MARKER} {n}", "is_safe": n % 2 == 0} for n in range(20)]
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    files = DatasetFiles(find_source("beavertails-30k"), tmp_path / "rows.jsonl", {}, share=0.9)
    ingest_dataset(writer, files, splits=SplitFractions())
    observer = observing(tmp_path)
    assert replay(store, observer) == 1
    for recipe in (INGEST, GATE, Recipe(f"features/{BACKBONE}/s1", "embed", 1, {}, {"backbone": "f" * 32})):
        observer.started(RUN, recipe)
        observer.completed(RUN, artifact(recipe, rows=3))
        observer.failed(RUN, recipe, ValueError(MARKER))
    events = events_in(tmp_path)
    assert len(events) == 2 + 9
    assert MARKER not in json.dumps(events)
    return events


def test_events_come_back_from_the_clients_own_classes(many: list[Json]) -> None:
    modules = [
        importlib.import_module(f"{generated.__name__}.{m.name}") for m in pkgutil.iter_modules(generated.__path__)
    ]
    classes = {c._get_schema(): c for m in modules for c in vars(m).values() if hasattr(c, "_get_schema")}

    def built(facet: Json) -> Any:
        given = {name: value for name, value in facet.items() if not name.startswith("_")}
        return classes[facet["_schemaURL"]](**given, producer=facet["_producer"])

    def rebuilt(kind: type, value: Json) -> Any:
        groups = {"facets", "inputFacets", "outputFacets"} & value.keys()
        return kind(**value | {group: {name: built(facet) for name, facet in value[group].items()} for group in groups})

    for event in many:
        parts = {"run": rebuilt(ol.Run, event["run"]), "job": rebuilt(ol.Job, event["job"])}
        datasets = {
            "inputs": [rebuilt(ol.InputDataset, dataset) for dataset in event["inputs"]],
            "outputs": [rebuilt(ol.OutputDataset, dataset) for dataset in event["outputs"]],
        }
        fields = {name: event[name] for name in ("eventTime", "producer")}
        again = ol.RunEvent(**fields, **parts, **datasets, eventType=ol.RunState(event["eventType"]))
        assert Serde.to_dict(again) == event


def test_events_are_valid_by_the_official_schemas(many: list[Json]) -> None:
    spec = official_spec()
    for event in many:
        assert spec.errors(event) == []


def test_the_official_schemas_find_what_is_wrong(many: list[Json]) -> None:
    spec = official_spec()
    wrong: list[Json] = [json.loads(json.dumps(many[1])) for _ in range(5)]
    wrong[0]["run"]["runId"] = "1"
    del wrong[1]["job"]["name"]
    wrong[2]["outputs"][0]["outputFacets"]["outputStatistics"]["size"] = "large"
    del wrong[3]["inputs"][0]["inputFacets"]["subset"]["inputCondition"]["type"]
    wrong[4]["run"]["facets"]["engine"] = wrong[4]["run"]["facets"].pop("processing_engine")
    assert all(spec.errors(event) for event in wrong)
