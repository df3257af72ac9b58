"""Commits write what is new: manifests share parts with their parents, and nothing else is to be seen of it."""

import json
import random
from pathlib import Path

import pytest

from armorm.features.errors import CorruptObject, NotInStore
from armorm.features.store import Made, ObjectRef, Pointer, Recipe, Store, Writer, objects
from armorm.features.store.artifacts import Snapshot
from armorm.features.store.parts import MAX_OWN
from armorm.features.upkeep.gc import RetentionSettings
from armorm.features.upkeep.verify import quarantine, verify
from tests.damage import overwrite
from tests.features.test_gc import LATER, run

KEEP_ONE = RetentionSettings(keep_days=0, keep_last=1)


def change(store: Store, slot: str, version: int = 1) -> tuple[Recipe, Made]:
    record = store.objects.put_bytes("json", b'"%s %d"' % (slot.encode(), version))
    return Recipe(slot, "test", version, {}, {}), Made({"record": record})


def fill(writer: Writer, slots: range) -> None:
    for number in slots:
        writer.commit(*change(writer.store, f"slot/{number}"))


def part_paths(store: Store, snapshot: Snapshot) -> list[Path]:
    return [Path(store.place) / objects.name_of(ref) for ref in snapshot.parts]


def manifest_bytes(store: Store) -> int:
    """Return all that commits of artifacts without objects have written."""
    return sum(path.stat().st_size for path in Path(store.place).rglob("*.json"))


def test_whatever_is_committed_in_whatever_order_is_read_back(store: Store, writer: Writer, seed: int) -> None:
    rng = random.Random(seed)
    expected: dict[str, int] = {}
    for number in range(80):
        written = {f"slot/{rng.randrange(60)}": number for _ in range(rng.choice([1, 1, 2, 20]))}
        removed = rng.sample(sorted(expected), rng.choice([0, 0, 0, 1, 30]) if len(expected) > 40 else 0)
        writer.commit_all([change(store, *one) for one in written.items()], remove=removed)
        expected = {slot: v for slot, v in expected.items() if slot not in removed} | written
        head = Store(store.place).head()  # of the files alone
        assert {slot: artifact.recipe.version for slot, artifact in head.artifacts.items()} == expected
        assert head == store.head()
        assert len(head.parts) <= len(expected).bit_length()
    at_once = Store(Path(store.place).parent / "at once")
    with at_once.writing("test") as other:
        other.commit_all([change(at_once, *one) for one in expected.items()])
    assert at_once.head().snapshot_id == head.snapshot_id
    assert verify(Store(store.place)).damages == ()


def test_what_a_commit_writes_does_not_grow_with_the_store(tmp_path: Path) -> None:
    per_commit = []
    for n_before in (50, 800):
        store = Store(tmp_path / str(n_before))
        with store.writing("test") as writer:
            recipes = [Recipe(f"slot/{number}", "test", 1, {}, {}) for number in range(n_before + 4 * MAX_OWN)]
            writer.commit_all([(recipe, Made({})) for recipe in recipes[:n_before]])
            before = manifest_bytes(store)
            for recipe in recipes[n_before:]:
                writer.commit(recipe, Made({}))
            per_commit.append((manifest_bytes(store) - before) / (4 * MAX_OWN))
    assert per_commit[1] < 1.1 * per_commit[0]
    assert per_commit[1] < before / 20  # as large as a manifest that names everything itself


@pytest.fixture
def filled(tmp_path: Path) -> Store:
    """Artifacts in several parts, and a tag."""
    store = Store(tmp_path / "store")
    with store.writing("test") as writer:
        fill(writer, range(7 * MAX_OWN))
        writer.point("kept", Pointer("snapshot", store.head().snapshot_id, 5, store.head().created_at))
    return Store(store.place)


def test_a_collection_takes_the_parts_of_expired_snapshots_alone(filled: Store) -> None:
    head = filled.head()
    everything = {path for snapshot in filled.history() for path in part_paths(filled, snapshot)}
    with filled.writing("test") as writer:
        writer.point("kept", None)
    run(filled, KEEP_ONE, LATER)
    assert {path for path in everything if path.exists()} == set(part_paths(filled, head)) < everything
    assert Store(filled.place).head().artifacts == head.artifacts
    assert verify(Store(filled.place)).damages == ()


@pytest.mark.parametrize("how", ["flipped", "gone", "another object"])
@pytest.mark.parametrize("collected", [False, True])
def test_a_damaged_part_is_named_and_costs_its_artifacts_at_most(filled: Store, how: str, collected: bool) -> None:
    if collected:
        with filled.writing("test") as writer:
            writer.point("kept", None)
        run(filled, KEEP_ONE, LATER)
    before = filled.head()
    assert len(before.parts) > 1
    path = part_paths(filled, before)[0]
    held = {record["recipe"]["slot"] for record in json.loads(path.read_bytes())["artifacts"]}
    content = {"flipped": path.read_bytes()[:-1] + b"]", "another object": b'{"artifacts":[]}'}
    if how == "gone":
        path.unlink()
    else:
        overwrite(path, content[how])
    damaged = Store(filled.place)
    with pytest.raises((CorruptObject, NotInStore), match=path.stem[:16]):
        damaged.head()
    found = verify(damaged).damages
    assert path.relative_to(filled.place).as_posix() in {damage.name for damage in found}
    with damaged.writing("repair") as writer:
        quarantine(writer, found)
    after = Store(filled.place).head()
    assert before.artifacts.items() >= after.artifacts.items()
    lost = before.artifacts.keys() - after.artifacts.keys()
    assert lost == held if collected else len(lost) <= 1  # else earlier snapshots have all but what came with the part
    assert after.pointers == before.pointers
    assert verify(Store(filled.place)).damages == ()


def test_a_part_that_contradicts_its_content_is_refused(filled: Store) -> None:
    records = [json.loads(path.read_bytes())["artifacts"] for path in part_paths(filled, filled.head())]
    for damage in ({"artifact_id": "0" * 32}, {"objects": []}, {"created_at": None}):
        document = {"format": 3, "artifacts": [records[0][0] | damage]}
        ref = filled.objects.put_bytes("json", json.dumps(document).encode())
        with pytest.raises(CorruptObject, match=ref.sha256):
            filled.manifests._part(ref)
    with pytest.raises(CorruptObject):
        filled.manifests._part(filled.objects.put_bytes("json", b"[]"))
    with pytest.raises(NotInStore):
        filled.manifests._part(ObjectRef("0" * 64, 1, "json"))
