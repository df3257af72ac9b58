"""Chat templates that render the same text every day. Loads no torch."""

import re
from datetime import datetime
from typing import Final

DATE: Final = datetime(2024, 7, 26)
"""Today, for a template that writes the date: what Llama 3.2's own writes where there is no clock."""

_CALL: Final = re.compile(r"""strftime_now\(\s*(?:'([^'\\]*)'|"([^"\\]*)")\s*\)""")
_QUESTION: Final = re.compile(r"strftime_now\s+is\s+(not\s+)?defined")
_COMMENT: Final = re.compile(r"\{#(?:.*?#\}|.*)", re.DOTALL)  # an open one goes to the end, and is searched once
_CHANCE: Final = re.compile(r"strftime_now|\|\s*random\b")


def dated(template: str) -> str:
    """Return the template with `DATE` written where it asks for today's.

    Raises:
        ValueError: what it writes would still depend on the clock, or on chance.
    """
    steady = _CALL.sub(lambda call: repr(DATE.strftime(call[1] or call[2] or "")), template)
    if left := _CHANCE.search(_QUESTION.sub("", _COMMENT.sub("", steady))):
        raise ValueError(left[0])
    return steady
