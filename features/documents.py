"""Files that somebody else may have written or damaged: a value, or a `ValueError` of one line.

Here is the one JSON codec of records, a frozen dataclass to a JSON value and back. What is not defined is null in JSON,
which has no NaN; read back, null is the field's default, as is what an older record lacks. What a newer record has
besides is left out. A leaf module: it imports nothing of the project.
"""

import json
import math
from collections.abc import Callable, Mapping
from functools import cache
from itertools import chain
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import TypeAdapter, ValidationError

T = TypeVar("T")

MAX_DEPTH: Final = 100
"""Levels of a document; what walks it by recursion then cannot run out of stack."""


FILES: Final = (".json", ".jinja", ".model", ".safetensors", ".txt")
"""Endings of what is read as a file, whatever lies there."""


def require_regular(folder: Path) -> None:
    """Check that a folder and its folders hold files and folders alone: a pipe or a device may never come to an end.

    Raises:
        ValueError: something else lies there, itself or by a link, or a folder is called like a file.
    """
    for path in sorted([*folder.iterdir(), *(within for within in folder.glob("*/*") if within.exists())]):
        if not path.is_file() and not (path.is_dir() and path.suffix not in FILES):
            raise ValueError(f"{path.relative_to(folder)} is no regular file")


def parse_object(content: bytes | str) -> dict[str, Any]:
    """Parse a JSON object.

    Raises:
        ValueError: the content is no JSON, no object, or nested too deeply.
    """
    document = parse_json(content)
    if not isinstance(document, dict):
        raise ValueError("it holds no JSON object")
    return document


def parse_json(content: bytes | str) -> Any:
    """Parse a JSON value.

    Raises:
        ValueError: the content is no JSON, or nested too deeply.
    """
    try:
        document = json.loads(content)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    level = [document]
    for _ in range(MAX_DEPTH):
        children = [of.values() if isinstance(of, dict) else of for of in level if isinstance(of, dict | list)]
        if not children:
            return document
        level = list(chain.from_iterable(children))
    raise ValueError("it is nested too deeply")


def encode(record: Any) -> Any:
    """Return a record as a JSON value."""
    of: Any = type(record)
    return jsonable(_adapter(of).dump_python(record, by_alias=True))


def decode(of: type[T], value: Any) -> T:
    """Return the record that a JSON value is.

    Raises:
        ValueError: it is of another form; the message is one line.
    """
    return _checked(of, lambda adapter: adapter.validate_python(_without_nulls(value)))


def parse_exactly(of: type[T], content: bytes) -> T:
    """Parse JSON of exactly a type's form: nothing is converted or left out; null is null. Errors as of `decode`."""
    return _checked(of, lambda adapter: adapter.validate_json(content, strict=True, extra="forbid"))


def jsonable(value: Any) -> Any:
    """Return the value as JSON can hold it: there is no NaN and no infinity, so what is not defined is null."""
    if isinstance(value, Mapping):
        return {str(name): jsonable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if isinstance(value, Real) and not isinstance(value, Integral):
        return float(value) if math.isfinite(value) else None
    return value


def _checked(of: type[T], read: Callable[[TypeAdapter[T]], T]) -> T:
    try:
        return read(_adapter(of))  # type: ignore[arg-type]  # any type can be hashed
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or of.__name__
        raise ValueError(f"{place:.80}: {first['msg']}") from error


@cache
def _adapter(of: Any) -> TypeAdapter[Any]:
    return TypeAdapter(of)


def _without_nulls(value: Any) -> Any:
    """Leave out what is null of mappings, not of lists, whose places mean something."""
    if isinstance(value, Mapping):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value
