"""A short configuration for one's own files: what they seem to hold, and nothing that is not there."""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final

from armorm.features.conversation import SplitFractions
from armorm.features.errors import NativeFileError
from armorm.features.ingest.dataset import DatasetFiles
from armorm.features.ingest.files import survey
from armorm.features.ingest.native import NativeRow, read_rows
from armorm.features.ingest.preview import Preview, count, preview
from armorm.features.sources import SOURCES
from armorm.features.sources.described import form_of
from armorm.features.sources.own import definition_of, source_of
from armorm.features.sources.proposal import PREFERRED, Column, Proposal, columns_of, propose
from armorm.flows.configuration.profiles import CHANGES, Profile
from armorm.flows.configuration.settings import ConfigError

LOOKED_AT: Final = 20_000
"""Rows of each file or folder that are looked at."""

SHOWN: Final = 5

FEW_PROMPTS: Final = 200
"""Prompts below which a tenth may be none, so that more are held out."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one file or folder seems to hold."""

    name: str
    """The name of the dataset."""
    path: Path
    rows: Sequence[NativeRow]
    columns: Mapping[str, Column]
    proposal: Proposal
    notes: Sequence[str]

    @property
    def dataset(self) -> DatasetFiles:
        """The dataset as it would be configured."""
        form = form_of(self.proposal.form, self.proposal.settings)
        source = source_of(self.name, form, licence="", evaluation=False)
        return DatasetFiles(source, self.path, {}, definition=definition_of(form))

    def preview(self) -> Preview:
        """Return what becomes of its first rows."""
        return preview(self.dataset, SplitFractions(), n_rows=SHOWN)

    def counts(self) -> Counter[str]:
        """Return the ratings, pairs and prompts of the rows that were looked at."""
        return count(self.dataset, SplitFractions(), self.rows)


def look(paths: Sequence[Path], decide: Callable[[Look], str]) -> list[Look]:
    """Return what files and folders hold.

    Args:
        paths: of which each is a dataset.
        decide: which verdict prefers the first answer, where the rows of one do not say so; asked about each.

    Raises:
        ConfigError: no form can be told, or what was decided is not possible.
        NativeFileError: a file cannot be read.
    """
    looks: list[Look] = []
    for path in paths:
        found = _look(path, {one.name for one in looks})
        if found.proposal.choices:
            try:
                found = replace(found, proposal=found.proposal.decided(decide(found)))
            except ValueError as error:
                raise ConfigError(f"{path}: which verdict prefers the first answer: {error}; use --first") from error
        looks.append(found)
    if not any(one.proposal.form == "ratings" for one in looks):
        looks = [_with_objective(one) for one in looks]
    return looks


def _look(path: Path, taken: set[str]) -> Look:
    found = survey(path)
    rows = list(islice(chain.from_iterable(map(read_rows, found.read)), LOOKED_AT))
    data = [row.data for row in rows if row.data is not None]
    if not data:
        raise NativeFileError(path, "got no rows; expected JSON objects or a table; correct the file")
    try:
        proposal = propose(data)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error
    name = re.sub(r"[^a-z0-9-]+", "-", path.name.split(".")[0].lower()).strip("-") or "data"
    while name in taken or name in SOURCES:
        name = f"my-{name}"
    return Look(name, path, rows, columns_of(data), proposal, found.notes)


def _with_objective(one: Look) -> Look:
    proposal = one.proposal
    settings = {**proposal.settings, "objective": PREFERRED}
    remarks = {**proposal.remarks, "objective": "learnt from which answer is better, as nothing is rated"}
    return replace(one, proposal=replace(proposal, settings=settings, remarks=remarks))


def configuration_of(looks: Sequence[Look], backbone: str | None, folder: Path) -> str:
    """Return the `armorm.toml`, with a gate for as many pairs as there are.

    Args:
        backbone: a Hugging Face folder, a GGUF file or a Hub id; the one of the profile `laptop` by default.
    """
    counts = sum((one.counts() for one in looks), Counter[str]())
    laptop = CHANGES[Profile.laptop]
    given = {"path": json.dumps(backbone, ensure_ascii=False)} if backbone else {}
    tables = [
        "# Written by `armorm init --data`; all other settings have their defaults, which `armorm init` writes.\n"
        '\nstore = "store"\nmodels = "models"\n',
        _table("backbone", given or {name: str(laptop[f"backbone.{name}"]) for name in ("path", "revision")}),
        *(_dataset(one, folder) for one in looks),
    ]
    if counts["prompts"] < FEW_PROMPTS:
        tables.append(_table("split", {"validation": "0.2", "test": "0.2"}, note=f"of {counts['prompts']} prompts"))
    return "\n".join([*tables, _gate(counts["pairs"])])


def _gate(n_pairs: int) -> str:
    hidden_dim, batch_size = next(
        (size for most, *size in ((2_000, 64, 64), (20_000, 256, 256)) if n_pairs < most), (1024, 1024)
    )
    return _table("gate", {"hidden_dim": str(hidden_dim), "batch_size": str(batch_size)}, note=f"of {n_pairs} pairs")


def _dataset(one: Look, folder: Path) -> str:
    path = one.path.resolve()
    if path.is_relative_to(folder.resolve()):
        path = path.relative_to(folder.resolve())
    proposal = one.proposal
    settings = {name: value for name, value in proposal.settings.items() if name != "objectives"}
    values = {name: json.dumps(value, ensure_ascii=False) for name, value in settings.items()}
    values = {"path": json.dumps(str(path), ensure_ascii=False), "form": f'"{proposal.form}"', **values}
    text = _table(f"datasets.{one.name}", values, remarks=proposal.remarks)
    if objectives := proposal.settings.get("objectives"):
        lines = {json.dumps(name) if "." in name else name: _inline(of) for name, of in objectives.items()}
        seen = {name: one.columns[of["column"]].told for name, of in objectives.items()}
        text += "\n" + _table(f"datasets.{one.name}.objectives", lines, remarks=seen)
    return text


def _inline(values: Mapping[str, Any]) -> str:
    return "{" + ", ".join(f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in values.items()) + "}"


def _table(name: str, values: Mapping[str, str], *, note: str = "", remarks: Mapping[str, str] | None = None) -> str:
    lines = [f"[{name}]" + (f"  # {note}" if note else "")]
    for key, value in values.items():
        remark = (remarks or {}).get(key)
        lines.append(f"{key} = {value}" + (f"  # {remark}" if remark else ""))
    return "\n".join(lines) + "\n"
