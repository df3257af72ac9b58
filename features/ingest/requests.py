"""Conversations and pairs of files to score, as people give them: checked before anything is scored, then read."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from armorm.features.conversation import Conversation, MalformedConversation
from armorm.features.errors import MalformedRows, NativeFileError
from armorm.features.ingest.files import survey
from armorm.features.ingest.native import NativeRow, read_rows, table_columns
from armorm.features.sources.given import RowRead, read_row
from armorm.features.sources.own import Form

LISTED: Final = 10
"""Lines that cannot be used, from which on no more are looked for."""


@dataclass(frozen=True, slots=True)
class Request:
    """One conversation to score."""

    file: Path
    line: int
    side: str
    """`conversation`, or `chosen` or `rejected` of a pair."""
    messages: Conversation


def count_requests(
    file: Path, forms: Sequence[Form] = (), *, on_note: Callable[[str], None] = lambda note: None
) -> int:
    """Return the conversations of a file, or of all files of a folder, both sides of a pair; all of them can be read.

    Args:
        file: or folder.
        forms: of one's own datasets, as whose rows lines with their columns are read.
        on_note: told what of the rows is not scored, and which columns were given types, each once.

    Raises:
        MalformedRows: some lines cannot be used; the first ten are listed.
        NativeFileError: there are none, or a file cannot be read.
    """
    found = survey(file)
    n_requests, notes, bad = 0, dict.fromkeys(found.notes), list[str]()
    for path in found.read:
        if columns := table_columns(path):
            notes[f"{path.name}: all columns are text: {', '.join(columns)}"] = None
        for read in _read_or_listed(path, forms, bad):
            n_requests += len(read.sides)
            if read.unused:
                notes[f"scored: {' and '.join(read.used)}; not read beside them: {', '.join(read.unused)}"] = None
        if len(bad) == LISTED:
            break
    if bad:
        raise MalformedRows(file, [*bad[:-1], f"{bad[-1]}; nothing was scored"])
    if not n_requests:
        raise NativeFileError(file, "got no conversations; expected one JSON object a line; see `armorm score --help`")
    for note in notes:
        on_note(note)
    return n_requests


def read_requests(file: Path, forms: Sequence[Form] = ()) -> Iterator[Request]:
    """Read every conversation of a file, or of all files of a folder, both sides of a pair.

    Raises:
        NativeFileError: a line cannot be used, or a file cannot be read.
    """
    for path in survey(file).read:
        for row in read_rows(path):
            for side, messages in _read(path, row, forms).sides:
                yield Request(path, row.line, side, messages)


def _read_or_listed(path: Path, forms: Sequence[Form], bad: list[str]) -> Iterator[RowRead]:
    """Yield the lines that can be used; what is wrong with the others is listed, until that is enough."""
    try:
        for row in read_rows(path):
            try:
                yield _read(path, row, forms)
            except NativeFileError as error:
                bad.append(str(error))
                if len(bad) == LISTED:
                    return
    except NativeFileError as error:
        bad.append(str(error))


def _read(path: Path, row: NativeRow, forms: Sequence[Form]) -> RowRead:
    try:
        if row.data is None:
            raise MalformedConversation("malformed_row", row.problem or "not a JSON object")
        return read_row(row.data, forms)
    except MalformedConversation as malformed:
        raise NativeFileError(path, f"line {row.line}: {malformed}; mend the line") from malformed
