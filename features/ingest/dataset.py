"""Ingest: a dataset's native files become canonical tables in the store."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from features.conversation import SplitFractions
from features.errors import DatasetError
from features.ingest.native import NativeRow, file_sha256, find_files, read_rows
from features.ingest.normalise import Normalised, normalise
from features.sources import complete_options, find_source
from features.sources.base import Options, Source
from features.store import Done, Made, Recipe, Writer
from features.tables import write_parquet

STAGE = "ingest"
STAGE_VERSION = 1

REPORT_ROWS = 1000


@dataclass(frozen=True, slots=True)
class DatasetFiles:
    """A dataset as configured: which one, where its native files lie, and its own settings."""

    name: str
    path: Path
    options: Mapping[str, str]


def ingest_dataset(
    writer: Writer, dataset: DatasetFiles, *, splits: SplitFractions, on_rows: Callable[[int], None] = lambda n: None
) -> Done:
    """Reads one dataset and commits its tables, unless files and settings are those of the last time.

    Args:
        writer: the store's writer.
        dataset: which dataset, from where.
        splits: the shares of held-out prompts.
        on_rows: called now and then with the number of native rows read so far.

    Raises:
        DatasetError: it is unknown, a setting is wrong, or none of its rows can be used.
        NativeFileError: a file is missing or broken beyond one row.
    """
    source = find_source(dataset.name)
    options = complete_options(source, dataset.options)
    files = find_files(dataset.path)

    def make() -> Made:
        rows = (row for file in files for row in read_rows(file, root=dataset.path))
        normalised = normalise(source, _counted(rows, on_rows), options=options, splits=splits)
        if not normalised.kept:
            raise DatasetError(source.name, _nothing_usable(normalised, dataset.path))
        objects = {
            name: writer.store.objects.put("parquet", partial(write_parquet, table=table))
            for name, table in normalised.tables.items()
        }
        provenance = {"native_rows": objects.pop("native_rows")}
        return Made(objects, _summary(source, normalised), provenance)

    return writer.ensure(_recipe(source, options, files, splits), make)


def forget_unconfigured(writer: Writer, configured: Collection[str]) -> list[str]:
    """Takes datasets that the configuration no longer names out of the newest snapshot."""
    gone = sorted(writer.store.head().within(STAGE).keys() - set(configured))
    if gone:
        writer.remove([f"{STAGE}/{name}" for name in gone])
    return gone


def _recipe(source: Source, options: Options, files: list[Path], splits: SplitFractions) -> Recipe:
    hashes = sorted(file_sha256(file) for file in files)
    return Recipe(
        slot=f"{STAGE}/{source.name}",
        stage=STAGE,
        version=STAGE_VERSION,
        parameters={"dataset": source.name, "options": dict(options), "split": asdict(splits)},
        inputs={f"file {number}": sha256 for number, sha256 in enumerate(hashes, start=1)},
    )


def _counted(rows: Iterator[NativeRow], on_rows: Callable[[int], None]) -> Iterator[NativeRow]:
    for number, row in enumerate(rows, start=1):
        yield row
        if number % REPORT_ROWS == 0:
            on_rows(number)


def _nothing_usable(normalised: Normalised, path: Path) -> str:
    refused = {**normalised.outcomes.get("rejected", {}), **normalised.outcomes.get("dropped", {})}
    reasons = ", ".join(f"{count} {reason}" for reason, count in refused.items())
    details = normalised.tables["rejects"].column("detail").to_pylist()
    example = f" ({details[0]})" if details else ""
    return f"got {reasons or 'no rows'} in {path}{example}; expected usable rows; nothing was stored"


def _summary(source: Source, normalised: Normalised) -> dict[str, object]:
    tables = normalised.tables
    parts = sum(scope == "part" for scope in tables["rejects"].column("scope").to_pylist())
    return {
        "dataset": source.name,
        "upstream": source.upstream,
        "licence": source.licence,
        "evaluation": source.evaluation,
        "outcomes": {name: dict(reasons) for name, reasons in normalised.outcomes.items()},
        "pairs_dropped": dict(normalised.pairs_dropped),
        "parts_refused": parts,
        **{name: len(tables[name]) for name in ("conversations", "ratings", "preferences")},
        "scales": {objective: asdict(scale) for objective, scale in source.scales.items()},
    }
