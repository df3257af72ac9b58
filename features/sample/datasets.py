"""The sample as a whole: every dataset in its native files, what is planted in them, and what they have to give."""

import gzip
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from numpy.random import Generator

from armorm.features.sample import native
from armorm.features.sample.native.base import ABSENT, Dataset, Defect, Format, PairIds, Row, Status
from armorm.features.sample.world.world import World

DATASETS: Final[Mapping[str, Dataset]] = {
    module.DATASET.name: module.DATASET
    for name in sorted(found.name for found in iter_modules(native.__path__))
    if hasattr(module := import_module(f"{native.__name__}.{name}"), "DATASET")
}
"""All datasets of the sample, by name."""


@dataclass(frozen=True, slots=True)
class Planted:
    """One defect in one row: `row` counts the file's rows from 0."""

    defect: str
    file: str
    row: int


@dataclass(frozen=True, slots=True)
class NativeLine:
    """A line as written, a row or the text of a line that is no row, and what is to become of it."""

    line: Row | str
    status: Status = "kept"
    reason: str = ""


@dataclass(frozen=True, slots=True)
class DatasetManifest:
    """What was written of one dataset, and what comes of it where no option is set.

    Every row is kept, rejected or dropped: once, whatever else is wrong with it.
    """

    rows: Mapping[str, int]
    """File, below the sample's folder, to its number of rows, defects and all."""
    planted: tuple[Planted, ...]
    """Every defect, and where it is."""
    kept: int
    """Rows that give a rating or a pair, at least in part."""
    rejected: Mapping[str, int]
    """Reason to number of rows that cannot be used."""
    dropped: Mapping[str, int]
    """Reason to number of rows that a stated rule leaves out."""
    parts_refused: Mapping[str, int]
    """Reason to number of ratings and completions that cannot be used, of rows that are kept."""
    ratings: Mapping[str, int]
    """Objective to number of ratings; one per row that rates, not per conversation."""
    pairs: tuple[PairIds, ...]
    """Ids of the chosen and of the rejected conversation of every pair, sorted."""

    @property
    def defects(self) -> dict[str, int]:
        """Number of rows by defect."""
        return dict(Counter(planted.defect for planted in self.planted))

    @property
    def pairs_sha256(self) -> str:
        """The SHA-256 of the pairs as compact JSON."""
        return hashlib.sha256(json.dumps(self.pairs, separators=(",", ":")).encode()).hexdigest()

    def as_json(self) -> dict[str, Any]:
        """Return all but the list of pairs, of which only number and hash."""
        return asdict(self) | {"pairs": {"count": len(self.pairs), "sha256": self.pairs_sha256}}


@dataclass(frozen=True, slots=True)
class SampleManifest:
    """What a sample holds; also in its folder, as `manifest.json`."""

    seed: int
    scale: float
    datasets: Mapping[str, DatasetManifest]


def write_sample(folder: Path, *, seed: int = 0, scale: float = 1.0) -> SampleManifest:
    """Write every dataset below `folder`, each in a folder of its name; the same arguments give the same bytes.

    Args:
        scale: 1 gives about 22,000 distinct conversations; numbers of prompts follow it.
    """
    world = World(seed, scale)
    manifest = SampleManifest(seed, scale, {name: _write(folder, world, of) for name, of in DATASETS.items()})
    record = {"seed": seed, "scale": scale, "datasets": {name: of.as_json() for name, of in manifest.datasets.items()}}
    (folder / "manifest.json").write_text(json.dumps(record, indent=2) + "\n")
    return manifest


def all_defects(dataset: Dataset, world: World) -> tuple[Defect, ...]:
    """Return every defect that is planted."""
    of_any = (MALFORMED, DUPLICATE) if dataset.format == "lines" else (DUPLICATE,)
    return *of_any, *dataset.defects, *dataset.leaks(world)


def _write(folder: Path, world: World, dataset: Dataset) -> DatasetManifest:
    clean = {file: [_clean(dataset, file, row) for row in rows] for file, rows in dataset.files(world).items()}
    files, planted = _plant(world.rng(f"{dataset.name} defects"), clean, all_defects(dataset, world))
    for file, natives in files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        _write_file(folder / file, dataset.format, [native.line for native in natives])
    return _manifest(dataset, files, planted)


def _clean(dataset: Dataset, file: str, row: Row) -> NativeLine:
    reason = dataset.left_out(file, row)
    return NativeLine(row, "dropped" if reason else "kept", reason)


def _plant(
    rng: Generator, files: Mapping[str, Sequence[NativeLine]], defects: Sequence[Defect]
) -> tuple[dict[str, list[NativeLine]], list[Planted]]:
    """Return the files with each defect in its share of the rows that are kept, and where each one is."""
    sound = [(file, n) for file, lines in files.items() for n, line in enumerate(lines) if line.status == "kept"]
    counts = [max(1, round(defect.rate * len(sound))) for defect in defects]
    victims = iter(rng.permutation(len(sound)).tolist())
    spoilt = {sound[next(victims)]: defect for defect, count in zip(defects, counts, strict=True) for _ in range(count)}
    planted = []
    into: dict[str, list[NativeLine]] = {file: [] for file in files}
    for file, lines in files.items():
        for n, clean in enumerate(lines):
            defect = spoilt.get((file, n))
            if defect is None or defect.beside:
                into[file].append(clean)
            if defect is not None and isinstance(clean.line, dict):
                planted.append(Planted(defect.name, file, len(into[file])))
                into[file].append(_spoilt(clean.line, defect))
    return into, planted


def _spoilt(row: Row, defect: Defect) -> NativeLine:
    changes = defect.changes(row) if callable(defect.changes) else defect.changes
    if not isinstance(changes, str):
        changes = {name: value for name, value in (row | changes).items() if value is not ABSENT}
    return NativeLine(changes, defect.status, "" if defect.status == "kept" else defect.reason or defect.name)


def _torn(row: Row) -> str:
    """Return a line of JSON that breaks off half-way."""
    line = json.dumps(row)
    return line[: len(line) // 2]


MALFORMED: Final = Defect("malformed_line", 0.002, _torn, "rejected", "malformed_row")
"""What any file of lines can have."""
DUPLICATE: Final = Defect("duplicate_row", 0.004, {}, "dropped", beside=True)
"""What any file can have."""


def _write_file(path: Path, format: Format, lines: Sequence[Row | str]) -> None:
    """Write lines, gzipped if the name ends in `.gz`; an array; or a table, in which a column that a row lacks is null.

    The same rows give the same bytes.
    """
    if format == "parquet":
        rows = [line for line in lines if isinstance(line, dict)]
        columns = dict.fromkeys(column for row in rows for column in row)
        pq.write_table(pa.table({column: [row.get(column) for row in rows] for column in columns}), path)
    elif format == "array":
        path.write_bytes(json.dumps(lines, ensure_ascii=False).encode())
    else:
        content = "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines).encode()
        path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


def _manifest(
    dataset: Dataset, files: Mapping[str, Sequence[NativeLine]], planted: Iterable[Planted]
) -> DatasetManifest:
    natives = [native for content in files.values() for native in content]
    reasons: defaultdict[Status, Counter[str]] = defaultdict(Counter)
    for line in natives:
        reasons[line.status][line.reason] += 1
    kept = [native.line for native in natives if native.status in ("kept", "in part")]
    truth = dataset.truth([row for row in kept if isinstance(row, dict)])
    return DatasetManifest(
        rows={file: len(content) for file, content in files.items()},
        planted=tuple(planted),
        kept=len(kept) - truth.dropped.total(),
        rejected=_counts(reasons["rejected"]),
        dropped=_counts(reasons["dropped"] + truth.dropped),
        parts_refused=_counts(reasons["in part"]),
        ratings=_counts(truth.ratings),
        pairs=tuple(truth.pairs),
    )


def _counts(counter: Counter[str]) -> dict[str, int]:
    return {name: n for name, n in sorted(counter.items()) if n}
