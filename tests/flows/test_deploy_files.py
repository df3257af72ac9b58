"""The files of docs/deploy/, as far as they can be read without what they are for; see test_deploy.py for the rest."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

FOLDER = Path(__file__).parent.parent.parent / "docs" / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
UNITS = sorted(FOLDER.glob("*.service"))
VARIABLES = re.compile(r"\$\{(\w+)(:\?|:-)?")


def test_every_service_is_pinned_watched_and_bounded() -> None:
    for name, service in COMPOSE["services"].items():
        assert re.fullmatch(r"[\w/-]+:\d+\.\d+[\w.-]*", service["image"]), name
        assert service["logging"]["options"]["max-size"], name
        assert "healthcheck" in service or name == "deploy", name
        waits = service.get("depends_on", {})
        assert waits.keys() <= COMPOSE["services"].keys()
        assert all(of["condition"] != "service_started" for of in waits.values()), name
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), name


def test_named_volumes_exist() -> None:
    mounted = {volume.split(":")[0] for of in COMPOSE["services"].values() for volume in of.get("volumes", [])}
    assert {name for name in mounted if name.isalpha()} == COMPOSE["volumes"].keys()


def test_secrets_come_from_the_environment_and_have_no_default() -> None:
    text = (FOLDER / "compose.yaml").read_text()
    template = dict(re.findall(r"(?m)^(\w+)=(.*)$", (FOLDER / "armorm.env.example").read_text()))
    assert set(template.values()) == {""}
    required = {name for name, kind in VARIABLES.findall(text) if kind == ":?"}
    assert required | {"HF_TOKEN"} == template.keys()
    for words in re.findall(r"(?m)^ +\w*(?:PASSWORD|SECRET|KEY_ID|AUTH\w*): (.+)$", text):
        assert words.startswith("${"), words


def test_the_image_is_that_of_this_version_and_holds_what_is_installed() -> None:
    project = (FOLDER.parent.parent / "pyproject.toml").read_text()
    version = re.search(r'(?m)^version = "(.+)"', project)
    packages = re.search(r'(?m)^packages = \["(.+)"\]', project)
    assert version
    assert packages
    ours = [of["image"] for of in COMPOSE["services"].values() if "build" in of]
    assert set(ours) == {f"armorm:{version[1]}"}
    dockerfile = (FOLDER / "Dockerfile").read_text()
    for package in packages[1].split('", "'):
        assert f"COPY {package} {package}\n" in dockerfile


def test_the_compose_file_is_valid_by_the_specification() -> None:
    if "COMPOSE_SPEC" not in os.environ:
        pytest.skip("COMPOSE_SPEC does not name a copy of schema/compose-spec.json of compose-spec/compose-spec")
    jsonschema.Draft7Validator(json.loads(Path(os.environ["COMPOSE_SPEC"]).read_text())).validate(COMPOSE)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_units_are_valid(unit: Path, tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    for each in UNITS:
        text = re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", each.read_text())  # armorm is installed elsewhere
        (tmp_path / each.name).write_text(text)
    seen = subprocess.run(["systemd-analyze", "verify", tmp_path / unit.name], capture_output=True, text=True)
    assert (seen.returncode, seen.stderr) == (0, "")


def test_the_page_names_every_file_and_service() -> None:
    page = (FOLDER.parent / "deploy.md").read_text()
    for file in FOLDER.iterdir():
        assert f"(deploy/{file.name})" in page, file.name
    for name, service in COMPOSE["services"].items():
        assert f"`{name}`" in page, name
        assert "build" in service or service["image"].split("-")[0] in page, name
