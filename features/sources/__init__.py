"""The upstream datasets that can be read, by name, and their settings."""

from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules
from types import MappingProxyType
from typing import Final

from armorm.features.errors import DatasetError
from armorm.features.sources.base import Options, Source, as_number

__all__ = ["SOURCES", "complete_options", "find_source"]

_MODULES = [import_module(f"{__name__}.{found.name}") for found in iter_modules(__path__)]
_FOUND = {of.name: of for module in _MODULES for of in vars(module).values() if isinstance(of, Source)}

SOURCES: Final[Mapping[str, Source]] = MappingProxyType(dict(sorted(_FOUND.items())))
"""Every dataset by its name, sorted."""


def find_source(name: str) -> Source:
    """Return the dataset of that name.

    Raises:
        DatasetError: there is none.
    """
    if name not in SOURCES:
        raise DatasetError(
            name,
            f"got an unknown name; expected one of {', '.join(SOURCES)}; correct the name, "
            "or add `form` where it is your own dataset",
        )
    return SOURCES[name]


def complete_options(source: Source, given: Mapping[str, str]) -> Options:
    """Return all of the dataset's settings: those given, checked, and the defaults of the others.

    Raises:
        DatasetError: a name or a value is not allowed.
    """
    for name in given:
        if name not in source.options:
            names = ", ".join(source.options) or "none"
            raise DatasetError(source.name, f"got option {name}; expected {names}; correct its name or remove it")
    return {
        name: _checked(source, name, given[name]) if name in given else option.default
        for name, option in source.options.items()
    }


def _checked(source: Source, name: str, value: str) -> str:
    """Return the value as it is written in recipes: 2 and 2.0 are the same setting."""
    option = source.options[name]
    number = as_number(value)
    if number is not None and option.admits(number):
        return f"{number:g}"
    if value not in option.choices:
        raise DatasetError(source.name, f"got {name} = {value!r}; expected {option.allowed}; choose one or remove it")
    return value
