"""Which files of a dataset are read, and why the others are not: every file of a folder is accounted for."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from armorm.features.documents import parse_object
from armorm.features.errors import NativeFileError

SEPARATORS: Final = {".csv": ",", ".tsv": "\t"}
COLUMNAR: Final = (".parquet", ".arrow")
ROW_SUFFIXES: Final = (
    *(f"{text}{packed}" for packed in ("", ".gz", ".xz", ".zst") for text in (".json", ".jsonl", ".ndjson")),
    *COLUMNAR,
)
SUFFIXES: Final = (*ROW_SUFFIXES, *SEPARATORS)
EXPECTED: Final = f"expected {', '.join(SUFFIXES)}"

STATE: Final = "state.json"
SIDE_FILES: Final = (STATE, "dataset_info.json", "dataset_infos.json", "dataset_dict.json")
"""What `datasets` writes beside a dataset's data files."""

SHOWN_NAMES: Final = 3


@dataclass(frozen=True, slots=True)
class Found:
    """The files of a dataset."""

    read: tuple[Path, ...]
    """Sorted."""
    left: Mapping[str, str]
    """The name of each other file below the folder, and why it is not read."""

    @property
    def notes(self) -> list[str]:
        """The files that are not read, a line a reason."""
        by_reason: dict[str, list[str]] = {}
        for name, reason in self.left.items():
            by_reason.setdefault(reason, []).append(name)
        return [
            f"not read, {reason}: {', '.join(names[:SHOWN_NAMES])}"
            + (f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else "")
            for reason, names in by_reason.items()
        ]


def survey(path: Path, patterns: Sequence[str] = ()) -> Found:
    """Return the file itself, or every data file in the folder and below it, and what becomes of the others.

    Of a folder, CSV and TSV files are read where there are no others: beside others they tell something of these. With
    patterns, the files that one of them matches are read, whichever there are.

    Raises:
        NativeFileError: there is none to read.
    """
    if path.is_dir():
        files = {relative_name(file, path): file for file in sorted(_below(path, set()))}
        left = {name: why for name, file in files.items() if (why := _why_left(file, path, patterns))}
        read = [file for name, file in files.items() if name not in left]
        if not patterns and any(not _is_table(file) for file in read):
            left |= {
                relative_name(file, path): "a table beside other data files; name it in `files` to read it"
                for file in read
                if _is_table(file)
            }
            read = [file for file in read if not _is_table(file)]
        if read:
            return Found(tuple(read), dict(sorted(left.items())))
        if patterns:
            raise _none_like(path, patterns)
        raise NativeFileError(path, f"got a folder without data files; {EXPECTED}; put the dataset's files there")
    if not path.is_file():
        raise NativeFileError(path, "got no such file or folder; expected the dataset's files; correct the path")
    if not path.name.lower().endswith(SUFFIXES):
        raise NativeFileError(path, f"got a file of another format; {EXPECTED}; convert or rename it")
    if patterns:
        raise _none_like(path, patterns)
    return Found((path,), {})


def relative_name(path: Path, root: Path) -> str:
    """Return what a file is called in tables: its path below the configured one, bytes that are no UTF-8 as escapes."""
    name = path.name if path == root else path.relative_to(root).as_posix()
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def _none_like(path: Path, patterns: Sequence[str]) -> NativeFileError:
    got = f"got no file like {' or '.join(patterns)}; expected one; correct `files` or the path"
    return NativeFileError(path, got)


def _below(folder: Path, seen: set[Path]) -> Iterator[Path]:
    """Yield all files below a folder, those below linked folders too, each folder once."""
    real = folder.resolve()
    if real not in seen:
        seen.add(real)
        for entry in folder.iterdir():
            if entry.is_dir():
                yield from _below(entry, seen)
            else:
                yield entry


def _why_left(file: Path, root: Path, patterns: Sequence[str]) -> str:
    """Return why a file is not read; nothing for one that is."""
    name = file.relative_to(root)
    if any(part.startswith(".") for part in name.parts):
        return "hidden"
    if not file.name.lower().endswith(SUFFIXES):
        return "of another format"
    if file.exists() and not file.is_file():  # a link to nowhere stays, to be an error when it is read
        return "no regular file"
    if patterns:
        matches = any(fnmatchcase(relative_name(file, root), pattern) for pattern in patterns)
        return "" if matches else "not among `files`"
    if file.name in SIDE_FILES and (file.name != STATE or any(file.parent.glob("*.arrow"))):
        return "about the data, as `datasets` writes it"
    return _why_unlisted(file)


def _why_unlisted(file: Path) -> str:
    """Return why an Arrow file is no part of the dataset that was saved in its folder, perhaps over another one."""
    state = file.with_name(STATE)
    if file.suffix.lower() != ".arrow" or not state.is_file():
        return ""
    try:
        listed = [of["filename"] for of in parse_object(state.read_bytes())["_data_files"]]
    except (ValueError, LookupError, TypeError):
        return ""
    return "" if file.name in listed else f"not listed in the folder's {STATE}"


def _is_table(file: Path) -> bool:
    return file.suffix.lower() in SEPARATORS
