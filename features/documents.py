"""Files that somebody else may have written or damaged: a value, or a `ValueError` of one line.

A leaf module: it imports nothing of the project.
"""

import json
from itertools import chain
from pathlib import Path
from typing import Any, Final

MAX_DEPTH: Final = 100
"""Levels of a document; what walks it by recursion then cannot run out of stack."""


def require_regular(folder: Path) -> None:
    """Check that a folder holds files and folders alone: reading a pipe or a device may never come to an end.

    Raises:
        ValueError: something else lies there, itself or by a link.
    """
    for path in sorted(folder.iterdir()):
        if not path.is_file() and not path.is_dir():
            raise ValueError(f"{path.name} is no regular file")


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
