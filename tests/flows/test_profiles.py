"""Ready configurations: each is the template but for what it says, and finds its data and its backbone on the Hub."""

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from armorm.config import PAPERS_GATE
from armorm.features.ingest.hub import parse_uri
from armorm.features.sources import SOURCES
from armorm.features.store import Store
from armorm.flows.configuration.profiles import HUB, Profile, changes_of, configuration, template, with_changes
from armorm.flows.configuration.settings import Settings, check_trainable, load_settings
from tests.features import tiny
from tests.features.hub_server import Hub, Published, serving

ON_THE_HUB = (Profile.laptop, Profile.paper)


def loaded(folder: Path, profile: Profile) -> Settings:
    config = folder / "armorm.toml"
    config.write_text(configuration(profile))
    return load_settings(config)


@pytest.mark.parametrize("profile", Profile)
def test_a_profile_is_the_template_but_for_what_it_says(profile: Profile, tmp_path: Path) -> None:
    check_trainable(loaded(tmp_path, profile))
    expected: dict[str, Any] = tomllib.loads(template())
    for name, value in changes_of(profile).items():
        *tables, key = name.split(".")
        table = expected
        for part in tables:
            table = table[part]
        table.pop(key, None)
        if value is not None:
            table[key] = tomllib.loads(f"value = {value}")["value"]
    assert tomllib.loads(configuration(profile)) == expected
    comments = [line for line in template().splitlines() if line.startswith("# ") and " = " not in line]
    assert [line for line in configuration(profile).splitlines() if line in comments] == comments


def test_the_papers_gate_is_a_profile(tmp_path: Path) -> None:
    gate = loaded(tmp_path, Profile.paper).gate
    assert {name: getattr(gate, name) for name in PAPERS_GATE} == PAPERS_GATE


def test_without_a_profile_it_is_the_template() -> None:
    assert configuration() == template()


def test_every_dataset_has_its_place_on_the_hub() -> None:
    assert HUB.keys() == SOURCES.keys()
    mirrors = {name for name, source in SOURCES.items() if HUB[name].split("@")[0] != source.upstream}
    assert mirrors == {"prm-phase-2"}
    for place in HUB.values():
        revision = parse_uri(f"hf://datasets/{place}").revision
        assert revision == "main" or (len(revision) == 40 and int(revision, 16))


@pytest.mark.parametrize("profile", ON_THE_HUB)
def test_real_data_comes_from_the_hub(profile: Profile, tmp_path: Path) -> None:
    settings = loaded(tmp_path, profile)
    assert all(section.uri for section in settings.datasets.values())
    shares = {name: section.share for name, section in settings.datasets.items()}
    assert shares["rewardbench"] == 1
    assert shares["helpsteer"] == (0.03 if profile is Profile.laptop else 1)


def test_a_change_keeps_what_it_does_not_touch() -> None:
    text = '[a]\nx = "1 # no"  # why\n# y = 2    # off\n\n[b]  # all of b\nx = 3\n'
    changed = with_changes(text, {"a.x": "9", "a.y": "8", "b.new": "1", "b.newer": "2", "b.x": None})
    assert changed == "[a]\nx = 9  # why\ny = 8  # off\n\n[b]  # all of b\nnew = 1\nnewer = 2\n"
    assert with_changes(text, {"b.x": "4  # because"}).endswith("x = 4  # because\n")


@pytest.fixture(scope="module")
def hub(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A Hub that has all datasets in the sample's small size, and both backbones in tiny."""
    backbone = tiny.write_backbone(tmp_path_factory.mktemp("hub") / "backbone")
    repos = {}
    for profile in ON_THE_HUB:
        document = tomllib.loads(configuration(profile))
        repos[f"models/{document['backbone']['path']}"] = Published(backbone, document["backbone"]["revision"])
    for name, place in HUB.items():
        repo, revision = place.split("@")
        folder = tmp_path_factory.mktemp(name)
        for file in (sample / "data" / name).rglob("*.*"):
            target = folder / file.relative_to(sample / "data" / name)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(file)
        repos[f"datasets/{repo}"] = Published(folder, revision if revision != "main" else "c0ffee" * 6 + "cafe")
    with serving(**repos) as hub:
        yield hub


def armorm(home: Path, hub: Hub, *words: str, **more: str) -> Any:
    variables = {"HF_HOME": str(home / "hf"), "HF_ENDPOINT": hub.endpoint, "HF_HUB_DISABLE_XET": "1"}
    env = os.environ | variables | {"HF_HUB_OFFLINE": "0"} | more
    code = "import sys; sys.argv[0] = 'armorm'; from armorm.flows.cli.program import main; main()"
    program = [sys.executable, "-c", code, *words, "--format", "json"]
    result = subprocess.run(program, capture_output=True, text=True, cwd=home, env=env)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize("profile", [Profile.laptop, pytest.param(Profile.paper, marks=pytest.mark.slow)])
def test_a_profile_is_ingested_from_the_hub(
    profile: Profile, hub: Hub, tmp_path: Path, beside_server: dict[str, str]
) -> None:
    settings = loaded(tmp_path, profile)
    if profile is Profile.laptop:  # so that a share of the few rows is not nothing
        config = tmp_path / "armorm.toml"
        config.write_text(config.read_text().replace("share = 0.03", "share = 0.9"))
    hub.requests.clear()

    planned = armorm(tmp_path, hub, "plan")
    assert hub.contents == []
    assert not (tmp_path / "store").exists()
    assert {files["name"] for files in planned["files"]} == {*SOURCES, "backbone"}
    assert [files["problem"] for files in planned["files"]] == [None] * (len(SOURCES) + 1)
    assert all(files["missing_bytes"] == files["size_bytes"] > 0 for files in planned["files"])
    assert all(step["reason"] for step in planned["steps"][: len(SOURCES)])

    done = armorm(tmp_path, hub, "ingest", **beside_server)
    assert {step["name"] for step in done["steps"]} >= {f"ingest {name}" for name in SOURCES}
    assert len(hub.contents) == sum(files["n_files"] for files in planned["files"][:-1])
    for name, artifact in Store(tmp_path / "store").head().within("ingest").items():
        revision = next(files["revision"] for files in planned["files"] if files["name"] == name)
        assert artifact.summary["origin"] == {"uri": settings.datasets[name].uri, "revision": revision}

    hub.requests.clear()
    again = armorm(tmp_path, hub, "plan")
    assert hub.contents == []
    reasons = {step["name"]: step["reason"] for step in again["steps"]}
    assert {reasons[f"ingest {name}"] for name in SOURCES} == {None}
    assert reasons["quality"] is None
    assert "backbone" in reasons["embed"]
