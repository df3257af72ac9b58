"""The shape of a manifest's JSON values, which its readers rely on, and the ids in it, which have to follow from them.

A right checksum says only that the file is as somebody has written it, not that armorm has.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from armorm.features.store.artifacts import Artifact

Check = Callable[[Any, str], None]
"""Raises a ValueError that names the value's place."""


def check_body(body: Mapping[str, Any]) -> None:
    """Check that all a snapshot is made of is there, and of its type; of its artifacts, that they are a list.

    Raises:
        ValueError: something is not.
    """
    _BODY(body, "")


def check_artifact(record: Any, place: str) -> None:
    """Check one of a snapshot's artifacts likewise.

    Raises:
        ValueError: something in it is missing or of another type.
    """
    _ARTIFACT(record, place)


def contradiction(records: Sequence[Mapping[str, Any]], held: Sequence[tuple[Artifact, str]]) -> str | None:
    """Return the first artifact's id that is not the one of its content, in words; None where all are.

    Args:
        records: the artifacts of a manifest or a part.
        held: what each describes, and the id of its content.
    """
    seen = set()
    for record, (artifact, id) in zip(records, held, strict=True):
        if (slot := artifact.recipe.slot) in seen:
            return f"two artifacts in the slot {slot}"
        if (found := record["artifact_id"]) != id:
            return f"artifact id {found:.40} of {slot}, whose content has {id}"
        seen.add(slot)
    return None


def _text(value: Any, place: str) -> None:
    if not isinstance(value, str):
        raise _refused(place, value, "text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{place} is text that is not Unicode") from None


def _whole_from(lowest: int) -> Check:
    def check(value: Any, place: str) -> None:
        if type(value) is not int or not lowest <= value < 2**63:
            raise _refused(place, value, f"a whole number of at least {lowest}")

    return check


def _values(value: Any, place: str) -> None:
    if not isinstance(value, dict):
        raise _refused(place, value, "an object")


def _matching(pattern: str) -> Check:
    allowed = re.compile(pattern)

    def check(value: Any, place: str) -> None:
        if not (isinstance(value, str) and allowed.fullmatch(value)):
            raise _refused(place, value, f"text like {pattern}")

    return check


def _time(value: Any, place: str) -> None:
    _text(value, place)
    try:
        datetime.fromisoformat(value)
    except ValueError:
        raise _refused(place, value, "a time") from None


def _maybe(of: Check) -> Check:
    return lambda value, place: None if value is None else of(value, place)


def _list(of: Check) -> Check:
    def check(value: Any, place: str) -> None:
        if not isinstance(value, list):
            raise _refused(place, value, "a list")
        for number, one in enumerate(value):
            of(one, f"{place}[{number}]")

    return check


def _mapping(of: Check) -> Check:
    def check(value: Any, place: str) -> None:
        _values(value, place)
        for name, one in value.items():
            of(one, f"{place}.{name}")

    return check


def _record(required: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    known = {**required, **(optional or {})}

    def check(value: Any, place: str) -> None:
        _values(value, place)
        start = f"{place}." if place else ""
        for name in required.keys() - value.keys():
            raise ValueError(f"{start}{name} is missing")
        for name, one in value.items():
            if name not in known:
                raise ValueError(f"{start}{name:.40} is not known")
            known[name](one, f"{start}{name}")

    return check


def _refused(place: str, value: Any, expected: str) -> ValueError:
    return ValueError(f"{place or 'it'} is {str(value)[:40]!r}, which is not {expected}")


_REF: Final = _record(
    {"sha256": _matching("[0-9a-f]{64}"), "size_bytes": _whole_from(0), "format": _matching("[a-z0-9]+")}
)

_RECIPE: Final = _record(
    {"slot": _text, "stage": _text, "version": _whole_from(0), "parameters": _values, "inputs": _mapping(_text)}
)

_ARTIFACT: Final = _record(
    {
        "artifact_id": _text,
        "recipe": _RECIPE,
        "objects": _mapping(_REF),
        "run_id": _text,
        "created_at": _time,
        "summary": _values,
        "provenance": _mapping(_REF),
    }
)

_RUN: Final = _record({"run_id": _text, "command": _text, "started_at": _time, "code_version": _text})

_POINTER: Final = _record(
    {"kind": _matching("snapshot|model|backbone"), "id": _text, "number": _whole_from(0), "set_at": _time}
)

_BODY: Final = _record(
    {
        "format": _whole_from(1),
        "number": _whole_from(1),
        "snapshot_id": _text,
        "parent_sha256": _maybe(_text),
        "created_at": _time,
        "run": _maybe(_RUN),
        "artifacts": _list(_values),
    },
    {"parts": _list(_REF), "pointers": _mapping(_POINTER), "expired_sha256": _maybe(_text)},
)
