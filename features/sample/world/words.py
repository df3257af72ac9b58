"""The word banks of the sample, from `words.toml`: clauses, prompts by kind, and what fills their slots. A leaf."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

Kind = Literal["chat", "code", "maths", "safety"]
"""What a prompt is about, and so what a good answer to it is."""

Bank = tuple[str, ...]

KINDS: Final[tuple[Kind, ...]] = ("chat", "code", "maths", "safety")

_BANKS: Final[Mapping[str, Any]] = tomllib.loads(Path(__file__).with_name("words.toml").read_text(encoding="utf-8"))


def _banks(name: str) -> dict[Any, Bank]:
    return {key: tuple(bank) for key, bank in _BANKS[name].items()}


JOINERS: Final = tuple(_BANKS["joiners"])
CONNECTIVES: Final = tuple(_BANKS["connectives"])
BREVITY: Final = tuple(_BANKS["brevity"])
DETAIL: Final = tuple(_BANKS["detail"])
GOOD_CLAUSES: Final[Mapping[str, Bank]] = _banks("good_clauses")
BAD_CLAUSES: Final[Mapping[str, Bank]] = _banks("bad_clauses")
ASIDES: Final[Mapping[Kind, Bank]] = _banks("asides")
PROMPTS: Final[Mapping[Kind, Bank]] = _banks("prompts")
SETTINGS: Final[Mapping[Kind, Bank]] = _banks("settings")
FOLLOW_UPS: Final[Mapping[Kind, Bank]] = _banks("follow_ups")

NUMERALS: Final[Mapping[str, Bank]] = {"digit": tuple("23456789"), "number": tuple(str(n) for n in range(11, 100, 4))}
"""Slots that are filled anew each time; the others keep within a conversation what they were first filled with."""

SLOTS: Final[Mapping[str, Bank]] = {**_banks("slots"), **NUMERALS}
