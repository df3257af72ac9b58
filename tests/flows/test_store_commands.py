"""Commands about the store itself, as a person types them."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from armorm.features.store import Store
from armorm.flows.cli.app import app
from tests.damage import overwrite
from tests.features.test_verify import build, put_built
from tests.flows.test_settings import MINIMAL


@pytest.fixture
def config(tmp_path: Path) -> Path:
    put_built(Store(tmp_path / "store"), tmp_path)
    path = tmp_path / "armorm.toml"
    path.write_text(MINIMAL)
    return path


def armorm(*arguments: str, config: Path) -> Result:
    return CliRunner().invoke(app, [*arguments, "--config", str(config)])


def test_tags_promotion_and_rollback(config: Path) -> None:
    store = Store(config.parent / "store")
    (backbone,) = store.head().within("backbone")
    assert armorm("tag", "first", "--at", "1", config=config).exit_code == 0
    assert armorm("promote", "backbone", backbone[:8], config=config).exit_code == 0
    listed = json.loads(armorm("tag", "--format", "json", config=config).stdout)
    assert {name: (pointer["kind"], pointer["number"]) for name, pointer in listed.items()} == {
        "backbone": ("backbone", store.head().number - 1),
        "first": ("snapshot", 1),
    }
    counts = [
        json.loads(armorm("sql", "SELECT count(*) AS n FROM features", "--at", at, "-f", "json", config=config).stdout)
        for at in ("first", "head")
    ]
    assert counts == [[{"n": 0}], [{"n": 60}]]
    assert armorm("rollback", "first", config=config).exit_code == 1
    assert armorm("tag", "first", "--delete", config=config).exit_code == 0
    assert armorm("promote", "nothing", backbone, config=config).exit_code == 2


def test_verify_and_repair(config: Path) -> None:
    assert armorm("verify", "--sample", "0.5", config=config).exit_code == 0
    store = Store(config.parent / "store")
    shard = min(slot for slot in store.head().artifacts if slot.startswith("features/"))
    overwrite(store.objects.path(store.head().artifacts[shard].objects["shard"]), b"")
    found = armorm("verify", "--repair", config=config)
    assert found.exit_code == 1
    assert "1 damaged" in found.stdout
    assert f": {shard};" in found.stdout
    build(Store(config.parent / "store"), config.parent)
    assert armorm("verify", config=config).exit_code == 0


def test_collection_is_said_before_it_is_done(config: Path) -> None:
    config.write_text(MINIMAL + "[retention]\nkeep_days = 0\nkeep_last = 1\ngrace_hours = 0\ntrash_days = 0\n")
    store = Store(config.parent / "store")
    expired = store.head().number - 1
    for arguments, done in ((["gc"], False), (["gc", "--delete"], True)):
        said = armorm(*arguments, config=config).stdout
        assert said.startswith(f"{expired} snapshots ")
        assert ("--delete" in said) is not done
        assert sum(bool(s.expired) for s in Store(config.parent / "store").history()) == expired * done
    assert armorm("verify", config=config).exit_code == 0


def test_doctor(config: Path) -> None:
    found = armorm("doctor", "--format", "json", config=config)
    verdicts = {finding["check"]: finding["verdict"] for finding in json.loads(found.stdout)}
    assert verdicts["store: create-if-absent"] == "ok"
    assert (found.exit_code == 1) == ("failed" in verdicts.values())
