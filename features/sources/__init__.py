"""The upstream datasets that can be read, by name, and their settings."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from features.errors import DatasetError
from features.sources import (
    beavertails,
    feedback_collection,
    helpsteer,
    hh_rlhf,
    pku_saferlhf,
    preference_collection,
    rewardbench,
    ultrafeedback,
)
from features.sources.base import Options, Source

__all__ = ["SOURCES", "complete_options", "find_source"]

_MODULES = (
    beavertails,
    feedback_collection,
    helpsteer,
    hh_rlhf,
    pku_saferlhf,
    preference_collection,
    rewardbench,
    ultrafeedback,
)

SOURCES: Final[Mapping[str, Source]] = MappingProxyType({module.SOURCE.name: module.SOURCE for module in _MODULES})
"""Every dataset by its name, sorted."""


def find_source(name: str) -> Source:
    """The dataset of that name.

    Raises:
        DatasetError: there is none.
    """
    if name not in SOURCES:
        raise DatasetError(name, f"got an unknown name; expected one of {', '.join(SOURCES)}; correct the name")
    return SOURCES[name]


def complete_options(source: Source, given: Mapping[str, str]) -> Options:
    """All of the dataset's settings: those given, checked, and the defaults of the others.

    Raises:
        DatasetError: a name or a value is not allowed.
    """
    for option, value in given.items():
        allowed = source.options.get(option, ())
        if not allowed:
            names = ", ".join(source.options) or "none"
            raise DatasetError(source.name, f"got option {option}; expected {names}; correct its name or remove it")
        if value not in allowed:
            choices = " or ".join(allowed)
            raise DatasetError(source.name, f"got {option} = {value!r}; expected {choices}; choose one or remove it")
    return {option: given.get(option, allowed[0]) for option, allowed in source.options.items()}
