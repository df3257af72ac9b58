"""Snapshots as numbered manifest files, each created once and chained to its parent by hash.

    snapshots/00000001.json   {"sha256": <of the body's canonical JSON>, "body": {...}}

A manifest names every object of its snapshot, so a reader sees a whole snapshot or none of it. The file of the highest
number is the newest snapshot; whoever creates the next number has committed.
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
from armorm.features.store.artifacts import Artifact, Pointer, Run, Snapshot, Time, Whole, canonical_json, content_id
from armorm.features.store.storage import Storage

FORMAT: Final = 2
"""The format of manifests; later ones are refused. Format 1 has no pointers and no expired snapshots."""

FOLDER: Final = "snapshots"

NEWEST: Final = f"{FOLDER}/newest"
"""The file that tells how far numbers have come: without it a lost newest manifest could not be told."""

NAME: Final = re.compile(rf"{FOLDER}/(\d{{8}})\.json")

LOST: Final = "lost"
"""The id of a snapshot whose manifest was damaged."""

EMPTY: Final = Snapshot(number=0, parent_sha256=None, created_at="", run=None, artifacts={})


class Manifests:
    """The snapshots of a store. What was read once is remembered: no manifest that stands is ever changed.

    Expiry changes none either: its stub stands for the same snapshot, and its child names the same parent.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._known: dict[int, Snapshot] = {}
        self._sha256: dict[int, str] = {}
        """What a child of the snapshot names as its parent."""
        self._artifacts: dict[bytes, tuple[Artifact, str]] = {}
        """Artifacts that were read, by their JSON."""

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
            self._remember(number, *self._read(number))
        return self._known[number]

    def sha256(self, number: int) -> str | None:
        """Return what a child of that snapshot names as its parent; None for no snapshot."""
        if not number:
            return None
        self.read(number)
        return self._sha256[number]

    def create(self, snapshot: Snapshot) -> bool:
        """Commit a snapshot; False where another one has its number already."""
        content = _document(body_of(snapshot))
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
        body = body_of(snapshot) | {"artifacts": [], "expired_sha256": sha256}
        self._storage.replace(name_of(number), _document(body))
        self._remember(number, body, str(sha256))

    def check(self, number: int, parent_sha256: str | None) -> str:
        """Read the file itself, whatever was remembered, and return what the next one has to name as its parent.

        Args:
            number: of the snapshot.
            parent_sha256: what that gave for the snapshot before; None where that one is damaged, or there is none.

        Raises:
            CorruptObject: the file's content is not what was written, its ids contradict its content, or it follows
                from another parent.
        """
        body, sha256 = self._read(number)
        follows = parent_sha256 in (None, body["parent_sha256"]) or body["snapshot_id"] == LOST
        if body["number"] != number or not follows:
            raise self._corrupt(number, "a manifest that does not follow from the one before", "an unbroken chain")
        self._remember(number, body, sha256)
        ids = {artifact.recipe.slot: id for artifact, id in map(self._artifact, body["artifacts"])}
        if len(ids) < len(body["artifacts"]):
            raise self._corrupt(number, "a manifest with two artifacts in a slot", "one in each")
        if body["snapshot_id"] != (self._known[number].expired or content_id(ids)):
            raise self._corrupt(number, "a manifest whose snapshot id is that of other content", "its own")
        return sha256

    def replace_damaged(self, number: int) -> None:
        """Put a stub in the place of a damaged manifest that another follows: its number stays taken."""
        child, _ = self._read(number + 1)
        body = body_of(replace(EMPTY, number=number, created_at=child["created_at"]))
        body |= {"snapshot_id": LOST, "expired_sha256": child["parent_sha256"]}
        self._storage.replace(name_of(number), _document(body))

    def _remember(self, number: int, body: Mapping[str, Any], sha256: str) -> None:
        artifacts = [self._artifact(record)[0] for record in body["artifacts"]]
        self._known[number] = Snapshot(
            number=body["number"],
            parent_sha256=body["parent_sha256"],
            created_at=body["created_at"],
            run=Run(**body["run"]) if body["run"] else None,
            artifacts={artifact.recipe.slot: artifact for artifact in artifacts},
            pointers={name: Pointer(**pointer) for name, pointer in body.get("pointers", {}).items()},
            expired=body["snapshot_id"] if "expired_sha256" in body else None,
        )
        self._sha256[number] = sha256

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
            if not isinstance(body.get("artifacts"), list):
                raise ValueError("artifacts are no list")
            parse_exactly(_Head, orjson.dumps({name: of for name, of in body.items() if name != "artifacts"}))
            for record in body["artifacts"]:
                self._artifact(record)
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


def body_of(snapshot: Snapshot) -> dict[str, Any]:
    """Return a snapshot as JSON values."""
    return {
        "format": FORMAT,
        "number": snapshot.number,
        "snapshot_id": snapshot.snapshot_id,
        "parent_sha256": snapshot.parent_sha256,
        "created_at": snapshot.created_at,
        "run": asdict(snapshot.run) if snapshot.run else None,
        "artifacts": [_record(artifact) for _, artifact in sorted(snapshot.artifacts.items())],
        "pointers": {name: asdict(pointer) for name, pointer in snapshot.pointers.items()},
    }


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
