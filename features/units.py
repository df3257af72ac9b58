"""Durations and sizes in words, and durations read from words. A leaf module."""

import re
from typing import Final

from armorm.features.errors import InputError

UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def parse_duration(text: str) -> float:
    """Return the seconds of a text such as `90s`, `30m`, `1h30m`, `36h` or `7d`.

    Raises:
        InputError: the text is no such duration.
    """
    if not re.fullmatch(r"(\d+(\.\d+)?[smhd])+", text):
        raise InputError(f"got the duration {text}; expected numbers with s, m, h or d, as 90s or 1h30m; correct it")
    return sum(float(number) * UNITS[unit] for number, _, unit in re.findall(r"(\d+(\.\d+)?)([smhd])", text))


def in_words(seconds: float) -> str:
    """Return a duration in two units at most: `0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`, `1 d 12 h`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    seconds = round(seconds)
    for name, size, smaller, part in (("d", 86_400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if seconds >= size:
            rest = seconds % size // part
            return f"{seconds // size} {name}" + (f" {rest} {smaller}" if rest else "")
    return f"{seconds} s"


def size(n_bytes: float) -> str:
    """Return a size in decimal units, to three digits: `3.28 kB`, `12 MB`."""
    from humanize import naturalsize  # 20 ms, which every query's process would pay

    return naturalsize(n_bytes, format="%.3g")
