"""What every ingest leaves out: native rows and prompts that somebody has asked to forget.

The list is an artifact of its own and holds ids and reasons, no text.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from armorm.features.store import Made, Recipe, Store, content_id
from armorm.features.store.json_records import put_record, read_record
from armorm.features.store.stage import Stage

STAGE: Final = "forgotten"
STAGE_VERSION: Final = 1

REASON: Final = "forgotten"
"""The reason of rows that ingest drops because they are to be forgotten."""

Kind = Literal["row", "prompt"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One native row or prompt to leave out."""

    kind: Kind
    id: str
    """The id of the native row (`source_row`), or of the prompt."""
    reason: str
    at: str
    """UTC, ISO 8601."""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What is to be left out, by id."""

    rows: frozenset[str] = frozenset()
    prompts: frozenset[str] = frozenset()

    @property
    def parameter(self) -> dict[str, str]:
        """What it adds to the settings of an ingest: the digest of the ids; nothing where there are none."""
        return {"forgotten": content_id([sorted(self.rows), sorted(self.prompts)])} if self else {}

    def __bool__(self) -> bool:
        return bool(self.rows or self.prompts)


def forgotten_of(entries: Iterable[Entry]) -> Forgotten:
    """Return the ids of some entries."""
    ids: dict[Kind, set[str]] = {"row": set(), "prompt": set()}
    for entry in entries:
        ids[entry.kind].add(entry.id)
    return Forgotten(frozenset(ids["row"]), frozenset(ids["prompt"]))


def read_entries(store: Store) -> list[Entry]:
    """Return the list of the newest snapshot, the oldest entry first."""
    artifact = store.head().artifacts.get(STAGE)
    return read_record(store, artifact, list[Entry]) if artifact else []


def read_forgotten(store: Store) -> Forgotten:
    """Return what the newest snapshot says is to be left out."""
    return forgotten_of(read_entries(store))


def make_list(store: Store, entries: Iterable[Entry]) -> tuple[Recipe, Made]:
    """Return the list as an artifact, to be committed."""
    entries = list(entries)
    recipe = Recipe(STAGE, STAGE, STAGE_VERSION, forgotten_of(entries).parameter, inputs={})
    return recipe, Made({"record": put_record(store, entries)})


def _line(entries: Sequence[Entry]) -> str:
    n_rows = sum(entry.kind == "row" for entry in entries)
    return f"{n_rows} native rows and {len(entries) - n_rows} prompts are left out of every ingest"


FORGOTTEN: Final = Stage(name=STAGE, version=STAGE_VERSION, record=list[Entry], line_of=_line)
