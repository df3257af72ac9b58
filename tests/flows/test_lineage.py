"""OpenLineage of a whole run: each stage that makes something starts and completes; one that stands is silent."""

import json
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest

from armorm.features.catalog.query import query
from armorm.features.errors import InputError
from armorm.features.lineage.openlineage import OpenLineageSettings
from armorm.features.store import Store
from armorm.flows.configuration.profiles import template
from armorm.flows.configuration.settings import ConfigError, Settings, load_settings
from armorm.flows.pipeline import pipeline
from armorm.flows.runlog.observers import observers
from armorm.stages.pipeline import STAGES
from tests.features.openlineage_spec import official_spec
from tests.features.test_openlineage import Json, replay
from tests.flows.conftest import EVENTS, Pristine


def with_events(config: Path, line: str = f'file = "{EVENTS}"') -> Settings:
    """The settings, with events switched on."""
    config.write_text(config.read_text().replace("\n[openlineage]", f"\n[openlineage]\n{line}\n#"))
    return load_settings(config)


def events_in(path: Path) -> list[Json]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture(scope="module")
def finished(pristine: Pristine, tmp_path_factory: pytest.TempPathFactory, server: None) -> Path:
    """A configuration with events that has been run once."""
    folder = tmp_path_factory.mktemp("lineage") / "ran"
    shutil.copytree(pristine.folder, folder)
    with_events(folder / "armorm.toml")
    return folder / "armorm.toml"


@pytest.fixture(scope="module")
def told(finished: Path) -> list[Json]:
    """Events of all that the run has made, as its writer would have told it."""
    settings = load_settings(finished)
    (observer,) = observers(settings.model_copy(update={"openlineage": OpenLineageSettings(file="replayed.jsonl")}))
    replay(Store(settings.open_store().place), observer)
    return events_in(finished.parent / "replayed.jsonl")


def test_every_stage_starts_and_completes_once(finished: Path, told: list[Json]) -> None:
    def listed(events: list[Json]) -> Counter[tuple[str, str]]:
        return Counter((event["run"]["runId"], event["eventType"]) for event in events)

    path = finished.parent / EVENTS
    assert listed(events_in(path)) == listed(told)
    before = path.read_text()
    pipeline(finished)
    assert path.read_text() == before


def test_a_whole_run_is_valid_by_the_official_schemas(told: list[Json]) -> None:
    spec = official_spec()
    assert {error for event in told for error in spec.errors(event)} == set()


def test_every_stage_is_told_with_its_code(told: list[Json]) -> None:
    seldom = {"rejected", "unfinished", "forgotten", "judge"}  # a text without a usable vector, a comparison
    assert {event["job"]["name"].partition("/")[0] for event in told} - seldom == STAGES.keys() - seldom
    root = Path(__file__).parent.parent.parent
    for event in told:
        assert (root / event["job"]["facets"]["sourceCodeLocation"]["path"]).is_file()


def test_what_is_read_was_written_under_that_name_and_version(told: list[Json]) -> None:
    completed = [event for event in told if event["eventType"] == "COMPLETE"]
    written = {(d["name"], d["facets"]["version"]["datasetVersion"]) for event in completed for d in event["outputs"]}
    for dataset in (dataset for event in completed for dataset in event["inputs"]):
        condition = dataset["inputFacets"].get("subset", {}).get("inputCondition", {})
        parts = {part["dimensions"]["version"] for part in condition.get("partitions", [])}
        versions = parts or {dataset["facets"]["version"]["datasetVersion"]}
        assert dataset["name"].startswith("native/") or {(dataset["name"], version) for version in versions} <= written


@pytest.mark.usefixtures("in_process")
def test_no_text_of_the_data_is_in_an_event(told: list[Json], finished: Path) -> None:
    rows = query(Store(finished.parent / "store"), "SELECT unnest(messages).content FROM conversations").rows
    texts = {str(content) for (content,) in rows if len(str(content)) > 12}
    assert len(texts) > 1000
    said = json.dumps(told)
    assert not [text for text in texts if json.dumps(text)[1:-1] in said]


def test_nobody_is_told_by_default(tmp_path: Path) -> None:
    config = tmp_path / "armorm.toml"
    config.write_text(template())
    assert observers(load_settings(config)) == []


def test_the_environment_switches_events_on(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARMORM_OPENLINEAGE__FILE", "elsewhere.jsonl")
    settings = load_settings(config)
    assert settings.openlineage == OpenLineageSettings(file="elsewhere.jsonl")
    assert len(observers(settings)) == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('file = "a"\nurl = "http://b"', "openlineage: got file and url; expected one of them"),
        ('url = "http://user:hidden@host"', "openlineage: url: got credentials; expected none in it"),
        ('api_key = "hidden"', "openlineage: got api_key; expected only file, url, endpoint, namespace"),
    ],
)
def test_a_wrong_setting_is_one_line_without_secrets(config: Path, line: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        with_events(config, line)
    assert message in str(error.value)
    assert "hidden" not in str(error.value)
    assert "\n" not in str(error.value)


def test_without_the_client_a_run_does_not_begin(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openlineage.client.transport.file", None)
    with pytest.raises(InputError, match="pip install"):
        observers(with_events(config))
