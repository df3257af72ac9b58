"""Snapshots as numbered manifest files, each written once and chained to its parent by hash.

    snapshots/00000001.json   {"sha256": <of the body's canonical JSON>, "body": {...}}

A manifest names every object of its snapshot, so a reader sees a whole snapshot or none of it.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from features.errors import CorruptObject, StoreBusy, StoreError
from features.store.artifacts import Artifact, ObjectRef, Recipe, Run, Snapshot, canonical_json
from features.store.objects import sync, temporary_path

FORMAT = 1
"""Of the manifest; a later one is refused by name."""

NAME = re.compile(r"\d{8}\.json")

EMPTY = Snapshot(number=0, parent_sha256=None, created_at="", run=None, artifacts={})


def numbers(root: Path) -> list[int]:
    """The numbers of all snapshots, oldest first."""
    names = (path.name for path in (root / "snapshots").glob("*.json"))
    return sorted(int(name[:8]) for name in names if NAME.fullmatch(name))


def read(root: Path, number: int) -> Snapshot:
    """The snapshot of that number.

    Raises:
        CorruptObject: the file's content is not what was written.
        StoreError: it was written by a later version.
    """
    path = _path(root, number)
    body = _checked_body(path)
    if body.get("format") != FORMAT:
        raise StoreError(f"{path}: got format {body.get('format')}; expected {FORMAT}; use a newer version of armorm")
    return _from_body(body)


def write(root: Path, snapshot: Snapshot) -> None:
    """Writes a manifest under a number that nobody has taken.

    Raises:
        StoreBusy: another process has written that snapshot first.
    """
    body = _to_body(snapshot)
    temporary = temporary_path(root)
    temporary.write_bytes(canonical_json({"sha256": hashlib.sha256(canonical_json(body)).hexdigest(), "body": body}))
    sync(temporary)
    path = _path(root, snapshot.number)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(temporary, path)  # unlike a rename, this fails when the name is taken
    except FileExistsError as error:
        raise StoreBusy(f"{path}: another process has written snapshot {snapshot.number}; run again") from error
    finally:
        temporary.unlink()
    sync(path.parent)


def file_sha256_of(root: Path, number: int) -> str | None:
    """What a child of that snapshot names as its parent."""
    return hashlib.sha256(_path(root, number).read_bytes()).hexdigest() if number else None


def _path(root: Path, number: int) -> Path:
    return root / "snapshots" / f"{number:08}.json"


def _checked_body(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
        body, expected = dict(document["body"]), str(document["sha256"])
    except (ValueError, TypeError, KeyError) as error:
        raise CorruptObject(path, "something else", "a manifest") from error
    if hashlib.sha256(canonical_json(body)).hexdigest() != expected:
        raise CorruptObject(path, "a manifest and a checksum that differ", "a manifest with its checksum")
    return body


def _to_body(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "number": snapshot.number,
        "snapshot_id": snapshot.snapshot_id,
        "parent_sha256": snapshot.parent_sha256,
        "created_at": snapshot.created_at,
        "run": asdict(snapshot.run) if snapshot.run else None,
        "artifacts": [{"artifact_id": a.artifact_id} | asdict(a) for _, a in sorted(snapshot.artifacts.items())],
    }


def _from_body(body: Mapping[str, Any]) -> Snapshot:
    artifacts = [_artifact(record) for record in body["artifacts"]]
    return Snapshot(
        number=body["number"],
        parent_sha256=body["parent_sha256"],
        created_at=body["created_at"],
        run=Run(**body["run"]) if body["run"] else None,
        artifacts={artifact.recipe.slot: artifact for artifact in artifacts},
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
