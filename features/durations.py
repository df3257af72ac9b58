"""Lengths of time in words, both ways. A leaf module."""

import re
from typing import Final

from armorm.features.errors import InputError

UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def parse_duration(text: str) -> float:
    """Seconds of `90s`, `30m`, `1h30m`, `36h` or `7d`.

    Raises:
        InputError: it is none of these.
    """
    if not re.fullmatch(r"(\d+(\.\d+)?[smhd])+", text):
        raise InputError(f"got a time of {text}; expected numbers with s, m, h or d, as 90s, 1h30m or 7d; correct it")
    return sum(float(number) * UNITS[unit] for number, _, unit in re.findall(r"(\d+(\.\d+)?)([smhd])", text))


def in_words(seconds: float) -> str:
    """Two units at most: `0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`, `1 d 12 h`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    seconds = round(seconds)
    for name, size, smaller, part in (("d", 86_400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if seconds >= size:
            rest = seconds % size // part
            return f"{seconds // size} {name}" + (f" {rest} {smaller}" if rest else "")
    return f"{seconds} s"
