"""JSON of the wrong shape, wherever it is read: a finding or an error of one line, never a death or another number."""

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from armorm import RewardModel
from armorm.errors import ArmormError, ModelError, ModelFolderError
from armorm.features.documents import MAX_DEPTH, parse_json, parse_object
from armorm.features.errors import CorruptObject, FeatureStoreError, StoreError
from armorm.features.store import Made, Pointer, Recipe, Store, manifests
from armorm.features.store.freshness import last_runs
from armorm.features.upkeep.verify import quarantine, verify
from armorm.model.head import DESCRIPTION_FILE, TENSORS_FILE, UNCERTAINTY_FILE
from armorm.model.inspection import inspect
from armorm.stages.model import check_model_folders, rewrite_model_folders
from tests.armorm.exported import export, random_heads, with_errors

DEEP = b"[" * 100_000
NOT_SO_DEEP = b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1)
WRONG: tuple[Any, ...] = (None, [], {}, "", "x", "\ud800", 0, -1, 2**70, 1e308, float("nan"), True, [[{}]], {"a": []})
CONVERSATIONS = [[("user", "Hi"), ("assistant", "Yes.")], [("user", "What is 2 + 2?"), ("assistant", "4")]]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every key and index within a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in items:
        yield (*path, key)
        yield from places(child, (*path, key))


def mutants(document: Any, rng: random.Random) -> Iterator[tuple[str, Any]]:
    """A document with each of its values of another type, gone, or beside one that is not known."""
    for path in places(document):
        changed = deepcopy(document)
        parent = changed
        for key in path[:-1]:
            parent = parent[key]
        kind = rng.choice(["wrong", "wrong", "gone", "more"])
        if kind == "wrong":
            parent[path[-1]] = rng.choice(WRONG)
        elif kind == "gone":
            del parent[path[-1]]
        elif isinstance(parent, dict):
            parent["surprise"] = rng.choice(WRONG)
        if json.dumps(changed) != json.dumps(document):
            yield f"{kind} {path}", changed


def damaged_bytes(content: bytes, rng: random.Random, n: int) -> Iterator[bytes]:
    """Flipped bits, cuts and insertions all over a file, and what is no object or nested without end."""
    for _ in range(n):
        at = rng.randrange(len(content))
        yield content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]
        yield content[:at]
        yield content[:at] + rng.choice([b"[", b'{"a":', b"9" * 5000, b"\xff", b"\0"]) + content[at:]
    yield from (b"", b"[]", b"null", b'"x"', b"1", DEEP, NOT_SO_DEEP)


@pytest.fixture
def filled(tmp_path: Path) -> Store:
    """Three snapshots: two artifacts and a pointer."""
    store = Store(tmp_path / "store")
    for number in range(2):
        with store.writing("test") as writer:
            ref = store.objects.put_bytes("json", b"%d" % number)
            recipe = Recipe(f"slot/{number}", "stage", 1, {"settings": {"a": [1, None]}}, {"file": "0" * 32})
            writer.commit(recipe, Made({"record": ref}, {"rows": 3}, {"from": ref}))
    with store.writing("test") as writer:
        writer.point("kept", Pointer("snapshot", store.head().snapshot_id, 2, store.head().created_at))
    return store


def rewrite(store: Store, number: int, change: Callable[[dict[str, Any]], None]) -> str:
    """Changes a manifest's body under a checksum that is right; gives the file's name."""
    path = Path(store.place) / manifests.name_of(number)
    body = json.loads(path.read_bytes())["body"]
    change(body)
    path.write_bytes(manifests._document(body))
    return manifests.name_of(number)


@pytest.mark.parametrize("content", [DEEP, NOT_SO_DEEP, b"", b"\xff", b"9" * 5000])
def test_no_document_costs_the_reader(content: bytes) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # of many kinds
        parse_json(content)
    assert "\n" not in str(caught.value)


def test_a_list_is_no_object() -> None:
    assert parse_json("[1]") == [1]
    with pytest.raises(ValueError, match=r"\bobject\b"):
        parse_object("[1]")


def wrong_size(body: dict[str, Any]) -> None:
    body["artifacts"][0]["objects"]["record"]["size_bytes"] += 1


def wrong_artifact_id(body: dict[str, Any]) -> None:
    body["artifacts"][0]["artifact_id"] = "0" * 32


def wrong_snapshot_id(body: dict[str, Any]) -> None:
    body["snapshot_id"] = "0" * 32


def one_slot_twice(body: dict[str, Any]) -> None:
    body["artifacts"].append(body["artifacts"][0])


def list_of_objects(body: dict[str, Any]) -> None:
    body["artifacts"][0]["objects"] = []


def path_for_a_name(body: dict[str, Any]) -> None:
    body["artifacts"][0]["objects"]["record"]["sha256"] = "../../outside"


@pytest.mark.parametrize(
    "change",
    [wrong_size, wrong_artifact_id, wrong_snapshot_id, one_slot_twice, list_of_objects, path_for_a_name],
)
@pytest.mark.parametrize("number", [2, 3])
def test_a_manifest_that_contradicts_its_content_is_found_and_set_aside(
    filled: Store, change: Callable[[dict[str, Any]], None], number: int
) -> None:
    assert verify(filled).damages == ()
    name = rewrite(filled, number, change)
    found = verify(Store(filled.place)).damages
    assert name in [damage.name for damage in found]
    damaged = Store(filled.place)
    with damaged.writing("repair") as writer:
        quarantine(writer, found)
    assert verify(Store(filled.place)).damages == ()


def test_verify_and_repair_survive_whatever_a_manifest_holds(filled: Store, seed: int) -> None:
    rng = random.Random(seed)
    path = Path(filled.place) / manifests.name_of(3)
    content = path.read_bytes()
    body = json.loads(content)["body"]
    bodies = [manifests._document(changed) for _, changed in mutants(body, rng) if encodable(changed)]
    for mutant in [*bodies, *damaged_bytes(content, rng, 40)]:
        path.write_bytes(mutant)
        with suppress(StoreError):  # of a later format no file is set aside
            found = verify(Store(filled.place))
            assert all("\n" not in damage.problem for damage in found.damages)
        with suppress(FeatureStoreError):
            Store(filled.place).head()
            Store(filled.place).snapshot("kept")
    path.write_bytes(DEEP)
    damaged = Store(filled.place)
    found = verify(damaged)
    assert [damage.name for damage in found.damages] == [manifests.name_of(3)]
    with damaged.writing("repair") as writer:
        quarantine(writer, found.damages)
    assert verify(Store(filled.place)).damages == ()


def encodable(document: Any) -> bool:
    try:
        manifests._document(document)
    except ValueError:
        return False
    return True


def test_the_last_two_manifests_can_be_repaired_at_once(filled: Store) -> None:
    for number in (2, 3):
        (Path(filled.place) / manifests.name_of(number)).write_bytes(b"[]")
    damaged = Store(filled.place)
    with damaged.writing("repair") as writer:
        quarantine(writer, verify(damaged).damages)
    assert damaged.head().number == 1
    assert verify(Store(filled.place)).damages == ()


@pytest.mark.parametrize("content", [b"99999999", b"999999999999", b"x", b"", b"7"])
def test_a_damaged_note_of_the_newest_snapshot_is_found_and_mended(filled: Store, content: bytes) -> None:
    (Path(filled.place) / manifests.NEWEST).write_bytes(content)
    damaged = Store(filled.place)
    found = verify(damaged).damages
    assert 0 < len(found) <= 1000
    with damaged.writing("repair") as writer:
        quarantine(writer, found)
    assert damaged.head().number == 3
    assert verify(Store(filled.place)).damages == ()


def test_a_record_of_the_last_run_that_is_none_counts_as_none(filled: Store) -> None:
    path = Path(filled.place) / "runs/last.json"
    path.parent.mkdir(exist_ok=True)
    run = {"command": "c", "run_id": "r", "finished_at": 5, "snapshot": 1}
    for content in (DEEP, b"[]", json.dumps(run).encode(), json.dumps(run | {"finished_at": "2026-01-01"}).encode()):
        path.write_bytes(content)
        assert last_runs(Store(filled.place)) == {}


def negate(arrays: dict[str, Any]) -> None:
    for array in arrays.values():
        array *= -1


def nan_beta(arrays: dict[str, Any]) -> None:
    arrays["beta"][0] = np.nan


def infinite_weight(arrays: dict[str, Any]) -> None:
    arrays["regression_layer.weight"][0, 0] = np.inf


def flipped_bit(arrays: dict[str, Any]) -> None:
    arrays["gating.layers.0.weight"].view(np.uint32)[0, 0] ^= 1


def one_more(arrays: dict[str, Any]) -> None:
    arrays["regression_layer.bias"] = np.zeros(3, np.float32)


def other_type(arrays: dict[str, Any]) -> None:
    arrays["reward_transform_matrix"] = arrays["reward_transform_matrix"].astype(np.float64)


HARMS = (negate, nan_beta, infinite_weight, flipped_bit, one_more, other_type)


@pytest.mark.parametrize("harm", HARMS)
def test_a_model_of_other_tensors_is_refused(tmp_path: Path, harm: Callable[[dict[str, Any]], None]) -> None:
    random_heads().save(tmp_path / "model")
    path = tmp_path / "model" / TENSORS_FILE
    arrays = {name: array.copy() for name, array in load(path.read_bytes()).items()}
    harm(arrays)
    path.write_bytes(save(arrays))
    with pytest.raises(ModelFolderError) as caught:
        RewardModel.load(tmp_path / "model")
    assert "\n" not in str(caught.value)


def test_a_model_of_an_earlier_format_is_still_checked_for_numbers(tmp_path: Path) -> None:
    model = random_heads(format_version=2)
    model.save(tmp_path / "model")
    assert RewardModel.load(tmp_path / "model").to_bytes() == model.to_bytes()
    path = tmp_path / "model" / TENSORS_FILE
    for harm in (nan_beta, infinite_weight, one_more, other_type):
        arrays = {name: array.copy() for name, array in load(model.to_bytes()[0]).items()}
        harm(arrays)
        path.write_bytes(save(arrays))
        with pytest.raises(ModelFolderError):
            RewardModel.load(tmp_path / "model")


def test_no_description_of_a_model_is_read_as_another(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    model = replace(random_heads(), metrics={"regression": [{"objective": "a", "r2": 0.5}]})
    model.save(tmp_path / "model")
    path = tmp_path / "model" / DESCRIPTION_FILE
    content = path.read_bytes()
    described = [json.dumps(changed).encode() for _, changed in mutants(json.loads(content), rng)]
    for mutant in [*described, *damaged_bytes(content, rng, 60), content.replace(b": 3,", b": 2,")]:
        path.write_bytes(mutant)
        told = ""
        try:
            assert RewardModel.load(tmp_path / "model").to_bytes() == model.to_bytes()
        except ModelFolderError as error:
            told = str(error)
        assert "\n" not in told


def test_an_exported_folder_is_read_whole_or_not_at_all(tmp_path: Path, seed: int) -> None:
    rng, made = random.Random(seed), export(tmp_path, max_shard_size="20KB")
    expected = RewardModel.load(made.folder).score(CONVERSATIONS).score
    config = (made.folder / "config.json").read_bytes()
    changed = [json.dumps(mutant).encode() for _, mutant in mutants(json.loads(config), rng)]
    for mutant in [*changed, *damaged_bytes(config, rng, 10)]:
        (made.folder / "config.json").write_bytes(mutant)
        with pytest.raises((ArmormError, FeatureStoreError)) as caught:
            RewardModel.load(made.folder)
        assert "\n" not in str(caught.value)
    (made.folder / "config.json").write_bytes(config)
    for path in sorted(made.folder.iterdir()):
        whole = path.read_bytes()
        at = rng.randrange(len(whole))
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        if path.name == "README.md":
            RewardModel.load(made.folder)
        else:
            with pytest.raises((ArmormError, FeatureStoreError)):
                RewardModel.load(made.folder)
        path.write_bytes(whole)
    np.testing.assert_array_equal(RewardModel.load(made.folder).score(CONVERSATIONS).score, expected)


def test_an_export_without_its_checksums_is_refused_and_one_of_before_is_read(tmp_path: Path) -> None:
    made = export(tmp_path)
    (made.folder / "checksums.json").unlink()
    with pytest.raises(ModelFolderError, match=r"checksums\.json"):
        RewardModel.load(made.folder)
    description = json.loads((made.folder / DESCRIPTION_FILE).read_bytes()) | {"format_version": 2}
    del description["digests"]
    (made.folder / DESCRIPTION_FILE).write_text(json.dumps(description))
    assert RewardModel.load(made.folder).digested is False


def test_model_folders_are_held_against_the_store(tmp_path: Path) -> None:
    store, models = Store(tmp_path / "store"), tmp_path / "models"
    model = with_errors(random_heads(), np.ones(19))
    assert model.read_uncertainty is not None
    contents = (*model.to_bytes(), model.read_uncertainty())
    files = dict(zip((TENSORS_FILE, DESCRIPTION_FILE, UNCERTAINTY_FILE), contents, strict=True))
    with store.writing("test") as writer:
        tensors = store.objects.put_bytes("safetensors", files[TENSORS_FILE])
        description = store.objects.put_bytes("json", files[DESCRIPTION_FILE])
        uncertainty = store.objects.put_bytes("safetensors", files[UNCERTAINTY_FILE])
        made = Made({"tensors": tensors, "description": description, "uncertainty": uncertainty})
        artifact = writer.commit(Recipe("model", "model", 1, {}, {}), made)
    folder = models / artifact.artifact_id
    model.save(folder)
    (folder / "report.md").write_text("kept")
    other = models / ("f" * 32)  # of a model that the store does not hold
    model.save(other)
    assert check_model_folders(store, models) == []
    for name, content in files.items():
        (folder / name).write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
        (damage,) = check_model_folders(Store(store.place), models)
        assert damage.folder == folder.name
        assert name in damage.problem
        assert rewrite_model_folders(store, models, [damage]) == [folder.name]
        assert (folder / name).read_bytes() == content
    (other / UNCERTAINTY_FILE).write_bytes(b"")
    (damage,) = check_model_folders(store, models)
    assert (damage.folder, damage.artifact) == (other.name, None)
    (folder / TENSORS_FILE).unlink()
    shutil.rmtree(other)
    other.mkdir()
    damages = check_model_folders(store, models)
    assert {damage.folder: damage.artifact is None for damage in damages} == {folder.name: False, other.name: True}
    assert rewrite_model_folders(store, models, damages) == [folder.name]
    assert (folder / "report.md").read_text() == "kept"
    assert RewardModel.load(folder).to_bytes() == model.to_bytes()


def test_a_damaged_model_of_the_store_is_not_written_out(tmp_path: Path) -> None:
    store, model, models = Store(tmp_path / "store"), random_heads(), tmp_path / "models"
    with store.writing("test") as writer:
        tensors, description = model.to_bytes()
        objects = {
            "tensors": store.objects.put_bytes("safetensors", tensors),
            "description": store.objects.put_bytes("json", description),
        }
        artifact = writer.commit(Recipe("model", "model", 1, {}, {}), Made(objects))
    (models / artifact.artifact_id).mkdir(parents=True)
    path = store.objects.path(objects["tensors"])
    path.chmod(0o644)
    path.write_bytes(b"rubbish")
    (damage,) = check_model_folders(Store(store.place), models)
    assert damage.artifact is None
    assert isinstance(verify(Store(store.place)).damages[0].problem, str)
    with pytest.raises(CorruptObject):
        Store(store.place).objects.read_bytes(objects["tensors"])


@pytest.mark.parametrize("name", ["snapshots/00000003.json", "runs/last.json"])
@pytest.mark.parametrize("lies_there", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_what_never_comes_to_an_end_is_not_read(filled: Store, name: str, lies_there: Callable[[Path], None]) -> None:
    path = Path(filled.place) / name
    path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    lies_there(path)
    with pytest.raises(StoreError):
        filled.storage.read(name)
    if name.startswith("snapshots"):
        with pytest.raises(StoreError):
            Store(filled.place).head()
        damages = verify(Store(filled.place)).damages
        assert damages
        with Store(filled.place).writing("test") as writer:
            quarantine(writer, damages)
        assert verify(Store(filled.place)).damages == ()


def test_an_object_that_is_a_pipe_is_damage(filled: Store) -> None:
    path = min((Path(filled.place) / "objects").rglob("*.json"))
    path.unlink()
    os.mkfifo(path)
    assert verify(Store(filled.place)).damages


@pytest.mark.parametrize("metrics", [{"regression": 5}, {"regression": ["x"]}, {"decorrelation": "x"}])
def test_records_of_training_of_another_form_are_one_line(metrics: dict[str, Any]) -> None:
    with pytest.raises(ModelError) as caught:
        inspect(replace(random_heads(), metrics=metrics), "a model")
    assert "\n" not in str(caught.value)
