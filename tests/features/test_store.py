"""The store: whole commits or none, checked bytes, one writer, ids over content alone."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from armorm.features.errors import CorruptObject, NotInStore, StoreBusy, StoreError
from armorm.features.store import Made, Recipe, Store, Writer, canonical_json, content_id
from armorm.features.store.artifacts import why_stale
from armorm.features.store.manifests import FORMAT
from tests.damage import overwrite


def recipe(slot: str = "a", **changes: object) -> Recipe:
    fields = {"stage": "test", "version": 1, "parameters": {"n": 1}, "inputs": {"x": "1"}} | changes
    return Recipe(slot=slot, **fields)  # type: ignore[arg-type]


def made(writer: Writer, content: bytes = b"{}") -> Made:
    return Made({"record": writer.store.objects.put_bytes("json", content)}, {"n": 1})


def test_what_is_committed_is_read_back(store: Store, writer: Writer) -> None:
    artifact = writer.commit(recipe(), made(writer, b'{"a":1}'))
    read = Store(store.place).head().artifacts["a"]
    assert read == artifact
    assert Store(store.place).objects.read_bytes(read.objects["record"]) == b'{"a":1}'


def test_nothing_is_made_when_nothing_changed(store: Store, writer: Writer) -> None:
    assert writer.ensure(recipe(), lambda: made(writer)).reason == why_stale(recipe(), None)
    number = store.head().number
    again = writer.ensure(recipe(), lambda: pytest.fail("made again"))
    assert again.reason is None
    assert store.head().number == number


def test_reasons_are_said_in_words(writer: Writer) -> None:
    writer.ensure(recipe(), lambda: made(writer))
    changed = recipe(version=2, parameters={"n": 2}, inputs={"x": "2", "y": "3"})
    reason = writer.ensure(changed, lambda: made(writer)).reason
    assert re.search(r"\bversion 1 -> 2; .*\bn 1 -> 2; .*\bx\b.*\b1 more$", str(reason))
    assert why_stale(recipe(inputs={}), writer.store.head().artifacts["a"]) is not None


@pytest.mark.parametrize(
    ("before", "after", "facts"),
    [
        (
            {"parameters": {"settings": {"steps": 1, "seed": 0}}},
            {"parameters": {"settings": {"steps": 2, "seed": 0}}},
            r"\bsteps 1 -> 2$",
        ),
        (
            {"inputs": {"file 1": "a", "file 2": "b"}},
            {"inputs": {"file 1": "b", "file 2": "c", "file 3": "d"}},
            r"\b3\b.*\bfile: 2 new, 1 gone$",
        ),
        (
            {"inputs": {"features/x/1": "1"}},
            {"inputs": {"features/x/1": "1", "features/x/2": "2"}},
            r"\b2\b.*\bfeatures/x: 1 new$",
        ),
        (
            {"inputs": {"ingest/a": "1", "ingest/b": "2"}},
            {"inputs": {"ingest/a": "2", "ingest/b": "2"}},
            r"^(?!.*\bingest/b\b).*\bingest/a\b",
        ),
        ({"inputs": {"file 1 old.jsonl": "a"}}, {"inputs": {"file 1 new.jsonl": "a"}}, r"\bnames$"),
    ],
)
def test_a_reason_names_the_setting_or_counts_the_inputs(
    writer: Writer, before: dict[str, object], after: dict[str, object], facts: str
) -> None:
    stands = writer.ensure(recipe(**before), lambda: made(writer)).artifact
    assert why_stale(recipe(**before), stands) is None
    assert re.search(facts, str(why_stale(recipe(**after), stands)))


def test_the_snapshot_id_is_over_content_alone(tmp_path: Path) -> None:
    ids = []
    for order in (["a", "b"], ["b", "a"]):
        store = Store(tmp_path / order[0])
        with store.writing("test") as writer:
            for slot in order:
                writer.commit(recipe(slot), made(writer, slot.encode()))
        ids.append(store.head().snapshot_id)
    assert ids[0] == ids[1]
    with store.writing("test") as writer:
        writer.commit_all([], remove=["a"])
    assert store.head().snapshot_id != ids[0]
    assert list(store.head().artifacts) == ["b"]


def test_manifests_are_chained(store: Store, writer: Writer) -> None:
    for slot in "abc":
        writer.commit(recipe(slot), made(writer))
    snapshots = list(store.history())
    assert [snapshot.number for snapshot in snapshots] == [3, 2, 1]
    parents = {snapshot.parent_sha256 for snapshot in snapshots}
    assert len(parents) == 3
    assert None in parents


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    overwrite(path, content)


def test_every_flipped_bit_of_an_object_is_named(store: Store, writer: Writer) -> None:
    content = canonical_json({"some": "content"})
    ref = writer.store.objects.put_bytes("json", content)
    path = store.objects.path(ref)
    for position in range(len(content)):
        flip(path, position)
        with pytest.raises(CorruptObject, match=ref.sha256[:16]):
            Store(store.place).objects.read_bytes(ref)
        flip(path, position)
    assert Store(store.place).objects.read_bytes(ref) == content


def test_a_damaged_object_is_healed_by_making_it_again(store: Store, writer: Writer) -> None:
    ref = store.objects.put_bytes("json", b"content")
    path = store.objects.path(ref)
    flip(path, 0)
    Store(store.place).objects.put_bytes("json", b"content")
    assert Store(store.place).objects.read_bytes(ref) == b"content"


def test_a_missing_object_is_named(store: Store, writer: Writer) -> None:
    ref = store.objects.put_bytes("json", b"content")
    store.objects.path(ref).unlink()
    with pytest.raises(NotInStore, match=rf"{ref.sha256}\.json: "):
        Store(store.place).objects.path(ref)


def test_every_flipped_bit_of_a_manifest_is_an_error(store: Store, writer: Writer) -> None:
    writer.commit(recipe(), made(writer))
    (path,) = (Path(store.place) / "snapshots").glob("*.json")
    for position in range(0, path.stat().st_size, 7):
        flip(path, position)
        with pytest.raises(StoreError):
            Store(store.place).head()
        flip(path, position)
    assert store.head().number == 1


def test_other_files_among_the_snapshots_are_ignored(store: Store, writer: Writer) -> None:
    writer.commit(recipe(), made(writer))
    (Path(store.place) / "snapshots" / "notes.json").write_text("mine")
    assert store.head().number == 1


def test_a_store_that_cannot_be_a_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=f"{tmp_path / 'file'}: "), Store(tmp_path / "file").writing("test"):
        pass


def test_a_future_format_is_refused_by_name(store: Store, writer: Writer) -> None:
    writer.commit(recipe(), made(writer))
    (path,) = (Path(store.place) / "snapshots").glob("*.json")
    body = json.loads(path.read_text())["body"] | {"format": FORMAT + 1}
    import hashlib

    overwrite(path, canonical_json({"sha256": hashlib.sha256(canonical_json(body)).hexdigest(), "body": body}))
    with pytest.raises(StoreError, match=rf"\bformat {FORMAT + 1};.*\b{FORMAT};"):
        Store(store.place).head()


def test_a_second_writer_is_refused_at_once(store: Store, writer: Writer) -> None:
    with pytest.raises(StoreBusy, match=f"pid {os.getpid()}, test"), store.writing("other"):
        pass


def test_a_killed_writer_leaves_no_lock(tmp_path: Path) -> None:
    code = (
        "import sys, time, pathlib; from armorm.features.store import Store\n"
        f"with Store(pathlib.Path({str(tmp_path / 'store')!r})).writing('child'):\n"
        "    print('locked', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "locked\n"
    store = Store(tmp_path / "store")
    with pytest.raises(StoreBusy, match="child"), store.writing("test"):
        pass
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    with store.writing("test") as writer:
        writer.commit(recipe(), made(writer))
    assert store.head().number == 1


def test_leftovers_of_a_killed_writer_are_swept(store: Store) -> None:
    (Path(store.place) / "tmp").mkdir(parents=True)
    (Path(store.place) / "tmp" / "half-written").write_bytes(b"..")
    with store.writing("test"):
        pass
    assert not (Path(store.place) / "tmp" / "half-written").exists()


def test_a_number_is_taken_only_once(store: Store, writer: Writer) -> None:
    writer.commit(recipe("a"), made(writer))
    assert not store.manifests.create(store.head())
    assert [snapshot.number for snapshot in store.history()] == [1]


def test_find_lists_what_there_is(store: Store, writer: Writer) -> None:
    first = writer.commit(recipe(), made(writer, b"1"))
    second = writer.commit(recipe(parameters={"n": 2}), made(writer, b"2"))
    assert store.find("test").artifact_id == second.artifact_id
    assert store.find("test", first.artifact_id[:6]) == first
    with pytest.raises(NotInStore, match=second.artifact_id):
        store.find("test", "nothing")


def test_content_id_ignores_the_order_of_keys() -> None:
    assert content_id({"a": 1, "b": [1, 2]}) == content_id({"b": [1, 2], "a": 1})
    assert content_id([1, 2]) != content_id([2, 1])
