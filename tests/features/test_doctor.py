"""`doctor` finds what is wrong, and proves that creating a name is exclusive where the store lies."""

import re
from pathlib import Path

import pytest

from armorm.features.embedding.fingerprint import BackboneSettings
from armorm.features.store import Store
from armorm.features.store.storage import LocalFolder
from armorm.features.upkeep.doctor import examine
from tests.features import tiny


def verdicts(place: str, backbone: Path, cache: Path) -> dict[str, tuple[str, str]]:
    def opened() -> Store:
        return Store(place, cache=cache)

    return {f.check: (f.verdict, f.what) for f in examine(opened(), opened, BackboneSettings(str(backbone)))}


def test_all_is_well(place: str, tmp_path: Path) -> None:
    found = verdicts(place, tiny.write_backbone(tmp_path / "backbone"), tmp_path / "cache")
    assert {check for check, (verdict, _) in found.items() if verdict == "failed"} == set()
    assert list(Store(place, cache=tmp_path / "cache").storage.files("doctor")) == []


def test_a_store_whose_create_is_not_exclusive_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def create(self: LocalFolder, name: str, content: bytes) -> bool:
        self.replace(name, content)  # as a service does that ignores If-None-Match
        return True

    monkeypatch.setattr(LocalFolder, "create", create)
    found = verdicts(str(tmp_path / "store"), tiny.write_backbone(tmp_path / "backbone"), tmp_path)
    verdict, what = found["store: create-if-absent"]
    assert verdict == "failed"
    assert re.search(rf"{tmp_path / 'store'}: \d+ of \d+\b", what)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = verdicts(str(tmp_path / "file"), tmp_path / "nothing", tmp_path)
    assert {found[check][0] for check in ("store: permissions", "backbone")} == {"failed"}
    assert str(tmp_path / "nothing") in found["backbone"][1]
