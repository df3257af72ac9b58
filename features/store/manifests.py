"""Snapshots as numbered manifest files, each created once and chained to its parent by hash.

    snapshots/00000001.json   {"sha256": <of the body's canonical JSON>, "body": {...}}

A manifest names every object of its snapshot, itself or in parts that it shares with others, so a reader sees a whole
snapshot or none of it. The file of the highest number is the newest snapshot; whoever creates the next number has
committed.
"""

import hashlib
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any, Final

import orjson
from pydantic import Field

from armorm.features.documents import parse_exactly, parse_object
from armorm.features.errors import CorruptObject, NotInStore, StoreError
from armorm.features.store.artifacts import (
    Artifact,
    ObjectRef,
    Pointer,
    Run,
    Snapshot,
    Time,
    Whole,
    canonical_json,
    content_id,
)
from armorm.features.store.objects import Objects
from armorm.features.store.objects import name_of as object_name
from armorm.features.store.parts import arrange
from armorm.features.store.storage import Storage

FORMAT: Final = 3
"""The format of manifests; later ones are refused. Format 2 has no parts, 1 no pointers and no expired snapshots."""

FOLDER: Final = "snapshots"

NEWEST: Final = f"{FOLDER}/newest"
"""The file that tells how far numbers have come: without it a lost newest manifest could not be told."""

NAME: Final = re.compile(rf"{FOLDER}/(\d{{8}})\.json")

LOST: Final = "lost"
"""The id of a snapshot whose manifest was damaged."""

Held = dict[str, tuple[Artifact, str]]
"""Slot to the artifact there and its id."""

EMPTY: Final = Snapshot(number=0, parent_sha256=None, created_at="", run=None, artifacts={})


class Manifests:
    """The snapshots of a store. What was read once is remembered: no manifest that stands is ever changed.

    Expiry changes none either: its stub stands for the same snapshot, and its child names the same parent.
    """

    def __init__(self, storage: Storage, objects: Objects) -> None:
        self._storage, self._objects = storage, objects
        self._known: dict[int, Snapshot] = {}
        self._sha256: dict[int, str] = {}
        """What a child of the snapshot names as its parent."""
        self._artifacts: dict[bytes, tuple[Artifact, str]] = {}
        """Artifacts that were read, by their JSON."""
        self._parts: dict[ObjectRef, Held] = {}

    def numbers(self, after: int = 0) -> list[int]:
        """Return the numbers of all snapshots past `after`, oldest first."""
        listed = self._storage.files(FOLDER, after=name_of(after))
        return sorted(int(match[1]) for file in listed if (match := NAME.fullmatch(file.name)))

    def newest(self) -> Snapshot:
        """Return the snapshot of the highest number; an empty one where there is none."""
        last = max(self._known, default=0)
        numbers = self.numbers(after=last)
        number = numbers[-1] if numbers else last
        return self.read(number)

    def read(self, number: int) -> Snapshot:
        """Return the snapshot of that number; 0 is the empty one before the first.

        Raises:
            CorruptObject: the file's content is not what was written.
            NotInStore: there is none.
            StoreError: it was written by a later version.
        """
        if not number:
            return EMPTY
        if number not in self._known:
            body, sha256, held, missing = self._open(number)
            if missing:
                raise missing[0]
            self._known[number], self._sha256[number] = snapshot_of(body, held), sha256
        return self._known[number]

    def sha256(self, number: int) -> str | None:
        """Return what a child of that snapshot names as its parent; None for no snapshot."""
        if not number:
            return None
        self.read(number)
        return self._sha256[number]

    def create(self, snapshot: Snapshot) -> bool:
        """Commit a snapshot, whose parts are those of its parent so far; False where its number is taken."""
        parts = {ref: {slot: held for slot, (held, _) in self._part(ref).items()} for ref in snapshot.parts}
        kept, new, own = arrange(snapshot.artifacts, parts)
        if new:
            records = [_record(artifact) for _, artifact in sorted(new.items())]
            ref = self._objects.put_bytes("json", canonical_json({"format": FORMAT, "artifacts": records}))
            self._parts[ref] = {slot: (artifact, artifact.artifact_id) for slot, artifact in new.items()}
            kept.append(ref)
        snapshot = replace(snapshot, parts=tuple(kept))
        content = _document(body_of(snapshot, own))
        if not self._storage.create(name_of(snapshot.number), content):
            return False
        self._known[snapshot.number] = snapshot
        self._sha256[snapshot.number] = hashlib.sha256(content).hexdigest()
        with suppress(OSError, StoreError):  # the commit is done; this only helps `verify`
            self.promise(snapshot.number)
        return True

    def promised(self) -> int:
        """Return a number that snapshots have reached; more may have come since, but fewer means that some were lost.

        Raises:
            CorruptObject: what tells it is no such number.
        """
        try:
            content = self._storage.read(NEWEST)
        except NotInStore:
            return 0
        if not re.fullmatch(rb"\d{1,8}", content):
            raise CorruptObject(f"{self._storage.place}/{NEWEST}", "something else", "the number of a snapshot")
        return int(content)

    def promise(self, number: int) -> None:
        """Note how far numbers have come."""
        self._storage.replace(NEWEST, str(number).encode())

    def expire(self, number: int) -> None:
        """Replace a manifest by a stub without artifacts: the number stays taken and the chain stays whole."""
        snapshot, sha256 = self.read(number), self.sha256(number)
        body = body_of(replace(snapshot, parts=()), {}) | {"expired_sha256": sha256}
        self._storage.replace(name_of(number), _document(body))
        self._known[number] = snapshot_of(body, {})

    def check(self, number: int, parent_sha256: str | None) -> tuple[str, Snapshot, list[Exception]]:
        """Read the file itself, whatever was remembered.

        Args:
            parent_sha256: what that gave for the snapshot before; None where that one is damaged, or there is none.

        Returns:
            What the next manifest has to name as its parent, the snapshot as far as its parts can be read, and why
            others cannot.

        Raises:
            CorruptObject: the file's content is not what was written, its ids contradict its content, or it follows
                from another parent.
        """
        body, sha256, held, missing = self._open(number)
        follows = parent_sha256 in (None, body["parent_sha256"]) or body["snapshot_id"] == LOST
        if body["number"] != number or not follows:
            raise self._corrupt(number, "a manifest that does not follow from the one before", "an unbroken chain")
        snapshot = snapshot_of(body, held)
        actual = snapshot.expired or content_id({slot: id for slot, (_, id) in held.items()})
        if not missing and body["snapshot_id"] != actual:
            raise self._corrupt(number, "a manifest whose snapshot id is that of other content", "its own")
        return sha256, snapshot, missing

    def replace_damaged(self, number: int) -> None:
        """Put a stub in the place of a damaged manifest that another follows: its number stays taken."""
        child, _ = self._read(number + 1)
        body = body_of(replace(EMPTY, number=number, created_at=child["created_at"]), {})
        body |= {"snapshot_id": LOST, "expired_sha256": child["parent_sha256"]}
        self._storage.replace(name_of(number), _document(body))

    def _open(self, number: int) -> tuple[dict[str, Any], str, Held, list[Exception]]:
        """Return what `_read` does, with the artifacts and their ids by slot, and why parts cannot be read."""
        while True:
            body, sha256 = self._read(number)
            held: Held = {}
            missing: list[Exception] = []
            for ref in body.get("parts", []):
                try:
                    held |= self._part(ObjectRef(**ref))
                except (CorruptObject, NotInStore) as error:
                    missing.append(error)
            if not missing or self._read(number)[0] == body:  # else it has expired meanwhile, and its parts are gone
                return body, sha256, held | self._held(body["artifacts"]), missing

    def _part(self, ref: ObjectRef) -> Held:
        """Return the artifacts of a part, with their ids, by slot.

        Raises:
            CorruptObject: it is no part that armorm has written.
            NotInStore: it is gone.
        """
        if ref not in self._parts:
            content = self._objects.read_bytes(ref)
            try:
                self._parts[ref] = self._held(parse_object(content)["artifacts"])
            except (ValueError, TypeError, KeyError) as error:
                raise CorruptObject(
                    object_name(ref), f"a part in which {error}", "one that armorm has written"
                ) from error
        return self._parts[ref]

    def _held(self, records: Any) -> Held:
        """Return the artifacts of a manifest or a part, with their ids, by slot.

        Raises:
            ValueError: one has another shape than armorm writes, or two stand in a slot.
        """
        if not isinstance(records, list):
            raise ValueError("artifacts are no list")
        held = {artifact.recipe.slot: (artifact, id) for artifact, id in map(self._artifact, records)}
        if len(held) < len(records):
            raise ValueError("two artifacts stand in a slot")
        return held

    def _artifact(self, record: Any) -> tuple[Artifact, str]:
        """Return an artifact with the id of its content: most stand in many manifests, and are read and checked once.

        Raises:
            ValueError: it has another shape than armorm writes.
        """
        content = orjson.dumps(record)
        if content not in self._artifacts:
            if not isinstance(record, dict):
                raise ValueError("an artifact is no object")
            named = {name: of for name, of in record.items() if name != "artifact_id"}
            artifact = parse_exactly(Artifact, orjson.dumps(named))
            if record.get("artifact_id") != artifact.artifact_id:
                raise ValueError(f"the artifact id of {artifact.recipe.slot} is that of other content")
            self._artifacts[content] = artifact, artifact.artifact_id
        return self._artifacts[content]

    def _read(self, number: int) -> tuple[dict[str, Any], str]:
        """Return the body, and what a child names as its parent; of one reading, between two of which it may expire."""
        content = self._storage.read(name_of(number))
        try:
            document = parse_object(content)
            body, expected = dict(document["body"]), str(document["sha256"])
            sound = expected == _sha256_within(content) or expected == hashlib.sha256(canonical_json(body)).hexdigest()
        except (ValueError, TypeError, KeyError) as error:
            raise self._corrupt(number, "something else", "a manifest") from error
        if not sound:
            raise self._corrupt(number, "a manifest and a checksum that differ", "a manifest with its checksum")
        if type(body.get("format")) is int and body["format"] > FORMAT:
            raise StoreError(
                f"{self._storage.place}/{name_of(number)}: got format {body.get('format')}; expected at most {FORMAT}; "
                "use a newer version of armorm"
            )
        try:
            parse_exactly(_Head, orjson.dumps({name: of for name, of in body.items() if name != "artifacts"}))
            self._held(body.get("artifacts"))
        except (ValueError, TypeError) as error:
            raise self._corrupt(number, f"a manifest in which {error}", "one that armorm has written") from error
        return body, body.get("expired_sha256") or hashlib.sha256(content).hexdigest()

    def _corrupt(self, number: int, got: str, expected: str) -> CorruptObject:
        return CorruptObject(f"{self._storage.place}/{name_of(number)}", got, expected)


@dataclass(frozen=True, slots=True)
class _Head:
    """A snapshot without its artifacts, as JSON holds it. A right checksum says only that somebody has written it."""

    format: Whole
    number: Annotated[Whole, Field(ge=1)]
    snapshot_id: str
    parent_sha256: str | None
    created_at: Time
    run: Run | None
    parts: tuple[ObjectRef, ...] = ()
    pointers: Mapping[str, Pointer] = field(default_factory=dict)
    expired_sha256: str | None = None


_WRITTEN: Final = re.compile(rb'\{"body":(\{.*\}),"sha256":"[0-9a-f]{64}"\}', re.DOTALL)


def _sha256_within(content: bytes) -> str | None:
    """Return the checksum of a body as it stands in a file, so that it need not be written to be compared."""
    match = _WRITTEN.fullmatch(content)
    return hashlib.sha256(match[1]).hexdigest() if match else None


def name_of(number: int) -> str:
    """Return the name of a manifest's file."""
    return f"{FOLDER}/{number:08}.json"


def body_of(snapshot: Snapshot, own: Mapping[str, Artifact]) -> dict[str, Any]:
    """Return a snapshot as JSON values, of its artifacts those that its parts do not hold."""
    return {
        "format": FORMAT,
        "number": snapshot.number,
        "snapshot_id": snapshot.snapshot_id,
        "parent_sha256": snapshot.parent_sha256,
        "created_at": snapshot.created_at,
        "run": asdict(snapshot.run) if snapshot.run else None,
        "parts": [asdict(ref) for ref in snapshot.parts],
        "artifacts": [_record(artifact) for _, artifact in sorted(own.items())],
        "pointers": {name: asdict(pointer) for name, pointer in snapshot.pointers.items()},
    }


def snapshot_of(body: Mapping[str, Any], held: Held) -> Snapshot:
    """Return the snapshot that those JSON values describe, with its artifacts."""
    return Snapshot(
        number=body["number"],
        parent_sha256=body["parent_sha256"],
        created_at=body["created_at"],
        run=Run(**body["run"]) if body["run"] else None,
        artifacts={slot: artifact for slot, (artifact, _) in held.items()},
        pointers={name: Pointer(**pointer) for name, pointer in body.get("pointers", {}).items()},
        expired=body["snapshot_id"] if "expired_sha256" in body else None,
        parts=tuple(ObjectRef(**ref) for ref in body.get("parts", [])),
    )


def _record(artifact: Artifact) -> dict[str, Any]:
    """Return an artifact as JSON values. Not by `asdict`, which copies whatever is in it, at every commit."""

    def values(of: Any) -> dict[str, Any]:
        return {name: getattr(of, name) for name in of.__slots__}

    return values(artifact) | {
        "artifact_id": artifact.artifact_id,
        "recipe": values(artifact.recipe),
        "objects": {name: values(ref) for name, ref in artifact.objects.items()},
        "provenance": {name: values(ref) for name, ref in artifact.provenance.items()},
    }


def _document(body: Mapping[str, Any]) -> bytes:
    return canonical_json({"sha256": hashlib.sha256(canonical_json(body)).hexdigest(), "body": body})
