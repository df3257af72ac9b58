"""The one JSON codec of records: a frozen dataclass to a JSON value and back.

What is not defined is null in JSON, which has no NaN; read back, null is the field's default, as is what an older
record lacks. What a newer record has besides is left out.
"""

import math
from collections.abc import Mapping
from functools import cache
from numbers import Integral, Real
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

T = TypeVar("T")


def encode(record: Any) -> Any:
    """Return a record as a JSON value."""
    of: Any = type(record)
    return jsonable(_adapter(of).dump_python(record, by_alias=True))


def decode(of: type[T], value: Any) -> T:
    """Return the record that a JSON value is.

    Args:
        of: its type.
        value: as it was read.

    Raises:
        ValueError: it is of another form; the message is one line.
    """
    adapter: TypeAdapter[T] = _adapter(of)  # type: ignore[arg-type]  # any type can be hashed
    try:
        return adapter.validate_python(_without_nulls(value))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or of.__name__
        raise ValueError(f"{place}: {first['msg']}") from error


def jsonable(value: Any) -> Any:
    """Return the value as JSON can hold it: there is no NaN and no infinity, so what is not defined is null."""
    if isinstance(value, Mapping):
        return {str(name): jsonable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if isinstance(value, Real) and not isinstance(value, Integral):
        return float(value) if math.isfinite(value) else None
    return value


@cache
def _adapter(of: Any) -> TypeAdapter[Any]:
    return TypeAdapter(of)


def _without_nulls(value: Any) -> Any:
    """Leave out what is null of mappings, not of lists, whose places mean something."""
    if isinstance(value, Mapping):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value
