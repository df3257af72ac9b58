"""Snapshots as numbered manifest files, each created once and chained to its parent by hash.

    snapshots/00000001.json   {"sha256": <of the body's canonical JSON>, "body": {...}}

A manifest names every object of its snapshot, so a reader sees a whole snapshot or none of it. The file of the highest
number is the newest snapshot; whoever creates the next number has committed.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from features.errors import CorruptObject, StoreError
from features.store.artifacts import Artifact, ObjectRef, Pointer, Recipe, Run, Snapshot, canonical_json
from features.store.storage import Storage

FORMAT: Final = 2
"""Of the manifest; a later one is refused by name. Format 1 has no pointers and no expired snapshots."""

FOLDER: Final = "snapshots"

NAME: Final = re.compile(rf"{FOLDER}/(\d{{8}})\.json")

EMPTY: Final = Snapshot(number=0, parent_sha256=None, created_at="", run=None, artifacts={})


class Manifests:
    """The snapshots of a store. What was read once is remembered: no manifest that stands is ever changed."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._known: dict[int, Snapshot] = {}

    def numbers(self, after: int = 0) -> list[int]:
        """The numbers of all snapshots past `after`, oldest first."""
        listed = self._storage.files(FOLDER, after=name_of(after))
        return sorted(int(match[1]) for file in listed if (match := NAME.fullmatch(file.name)))

    def newest(self) -> Snapshot:
        """The snapshot of the highest number; an empty one where there is none."""
        last = max(self._known, default=0)
        numbers = self.numbers(after=last)
        number = numbers[-1] if numbers else last
        return self.read(number) if number else EMPTY

    def read(self, number: int) -> Snapshot:
        """The snapshot of that number.

        Raises:
            CorruptObject: the file's content is not what was written.
            NotInStore: there is none.
            StoreError: it was written by a later version.
        """
        if number not in self._known:
            self._known[number] = snapshot_of(self._body(number))
        return self._known[number]

    def sha256(self, number: int) -> str | None:
        """What a child of that snapshot names as its parent; None for no snapshot."""
        if not number:
            return None
        snapshot_body = self._body(number)
        expired: str | None = snapshot_body.get("expired_sha256")
        return expired or hashlib.sha256(self._storage.read(name_of(number))).hexdigest()

    def create(self, snapshot: Snapshot) -> bool:
        """Commits a snapshot; False where another one has its number already."""
        created = self._storage.create(name_of(snapshot.number), _document(body_of(snapshot)))
        if created:
            self._known[snapshot.number] = snapshot
        return created

    def expire(self, number: int) -> None:
        """Replaces a manifest by a stub without artifacts: the number stays taken and the chain stays whole."""
        snapshot, sha256 = self.read(number), self.sha256(number)
        body = body_of(snapshot) | {"artifacts": [], "expired_sha256": sha256}
        self._storage.replace(name_of(number), _document(body))
        del self._known[number]

    def check(self, number: int) -> None:
        """Reads the file itself, whatever is remembered.

        Raises:
            CorruptObject: the file's content is not what was written, or its parent is not the one before.
        """
        body = self._body(number)
        numbers = [other for other in self.numbers() if other < number]
        expected = self.sha256(numbers[-1]) if numbers else None
        if body["number"] != number or body["parent_sha256"] != expected:
            raise self._corrupt(number, "a manifest that does not follow from the one before", "an unbroken chain")

    def _body(self, number: int) -> dict[str, Any]:
        try:
            document = json.loads(self._storage.read(name_of(number)))
            body, expected = dict(document["body"]), str(document["sha256"])
        except (ValueError, TypeError, KeyError) as error:
            raise self._corrupt(number, "something else", "a manifest") from error
        if hashlib.sha256(canonical_json(body)).hexdigest() != expected:
            raise self._corrupt(number, "a manifest and a checksum that differ", "a manifest with its checksum")
        if body.get("format") not in range(1, FORMAT + 1):
            raise StoreError(
                f"{self._storage.place}/{name_of(number)}: got format {body.get('format')}; expected at most {FORMAT}; "
                "use a newer version of armorm"
            )
        return body

    def _corrupt(self, number: int, got: str, expected: str) -> CorruptObject:
        return CorruptObject(f"{self._storage.place}/{name_of(number)}", got, expected)


def name_of(number: int) -> str:
    """The name of a manifest's file."""
    return f"{FOLDER}/{number:08}.json"


def body_of(snapshot: Snapshot) -> dict[str, Any]:
    """A snapshot as JSON values."""
    return {
        "format": FORMAT,
        "number": snapshot.number,
        "snapshot_id": snapshot.snapshot_id,
        "parent_sha256": snapshot.parent_sha256,
        "created_at": snapshot.created_at,
        "run": asdict(snapshot.run) if snapshot.run else None,
        "artifacts": [{"artifact_id": a.artifact_id} | asdict(a) for _, a in sorted(snapshot.artifacts.items())],
        "pointers": {name: asdict(pointer) for name, pointer in snapshot.pointers.items()},
    }


def snapshot_of(body: Mapping[str, Any]) -> Snapshot:
    """The snapshot that those JSON values describe."""
    artifacts = [_artifact(record) for record in body["artifacts"]]
    return Snapshot(
        number=body["number"],
        parent_sha256=body["parent_sha256"],
        created_at=body["created_at"],
        run=Run(**body["run"]) if body["run"] else None,
        artifacts={artifact.recipe.slot: artifact for artifact in artifacts},
        pointers={name: Pointer(**pointer) for name, pointer in body.get("pointers", {}).items()},
        expired=body["snapshot_id"] if "expired_sha256" in body else None,
    )


def _artifact(record: Mapping[str, Any]) -> Artifact:
    def refs(of: Mapping[str, Any]) -> dict[str, ObjectRef]:
        return {name: ObjectRef(**ref) for name, ref in of.items()}

    return Artifact(
        recipe=Recipe(**record["recipe"]),
        objects=refs(record["objects"]),
        run_id=record["run_id"],
        created_at=record["created_at"],
        summary=record["summary"],
        provenance=refs(record["provenance"]),
    )


def _document(body: Mapping[str, Any]) -> bytes:
    return canonical_json({"sha256": hashlib.sha256(canonical_json(body)).hexdigest(), "body": body})
