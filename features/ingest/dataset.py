"""Ingest: a dataset's native files become canonical tables in the store."""

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Final

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from armorm.features.conversation import SplitFractions
from armorm.features.errors import DatasetError, NativeFileError
from armorm.features.ingest.files import Found, relative_name, survey
from armorm.features.ingest.forgotten import Forgotten, read_forgotten
from armorm.features.ingest.merge import merge, merge_rejects, native_rows
from armorm.features.ingest.native import RowChunk, decode, file_sha256, read_chunks
from armorm.features.ingest.normalise import CANDIDATES, OUTCOMES, Rules, normalise, rated_schema
from armorm.features.ingest.parallel import MapInOrder, processes
from armorm.features.ingest.spill import Range, ranges, read_range, read_spill, write_spill
from armorm.features.sources.base import Options, Source
from armorm.features.store import Done, Made, Recipe, Store, Writer, canonical_json
from armorm.features.store.stage import Stage
from armorm.features.store.storage import scratch_path
from armorm.features.store.summaries import IngestSummary, Origin
from armorm.features.tables import SCHEMAS, write_parquet

STAGE = "ingest"
STAGE_VERSION = 2
OWN_VERSION = 4
"""The version for own data, whose reader accepts forms that it rejected before (docs/adr/0030)."""


def _line(of: IngestSummary) -> str:
    counted = [f"{sum(reasons.values())} rows {outcome}" for outcome, reasons in of.outcomes.items()]
    counted += [f"{of.parts_refused} parts of rows refused"] if of.parts_refused else []
    counted += [f"{len(of.files_left)} files not read"] if of.files_left else []
    tables = f"{of.ratings} ratings, {of.preferences} pairs, {of.conversations} conversations"
    return f"{', '.join(counted)}; {tables}"


INGEST: Final = Stage(
    name=STAGE,
    version=STAGE_VERSION,
    part="ingest",
    record=IngestSummary,
    line_of=_line,
)
"""An artifact a dataset; see `ingest_dataset`."""


@dataclass(frozen=True, slots=True)
class DatasetFiles:
    """A dataset as configured: how it is read, where its native files lie, and its own settings."""

    source: Source
    path: Path
    options: Options
    """Complete."""
    patterns: tuple[str, ...] = ()
    """Which files below the path are read; all data files where there are none."""
    share: float = 1.0
    """Share of the prompts that are kept."""
    split: str | None = None
    """The split of all rows, where it is not to follow from each prompt's hash."""
    origin: Origin = field(default_factory=Origin)
    """Where the files are from, for the record: an address and its revision."""
    definition: Mapping[str, Any] = field(default_factory=dict)
    """The columns and scales of a user's own dataset, as JSON values."""


OnProgress = Callable[[int, int, int], None]
"""Takes native rows read so far, bytes read so far, and bytes in all."""


def ingest_dataset(
    writer: Writer,
    dataset: DatasetFiles,
    *,
    splits: SplitFractions,
    on_progress: OnProgress = lambda rows, done, total: None,
) -> Done:
    """Read one dataset and commit its tables, unless files and settings are those of the last time.

    Memory holds some batches of rows, or one part of the result, and about 100 bytes for every native row and
    conversation; the rest is below the store's `tmp/`, about as much as the files hold, until the end.

    Raises:
        DatasetError: none of its rows can be used.
        NativeFileError: a file is missing or broken beyond one row.
    """
    found = dataset_files(dataset)
    files = found.read
    rules = rules_of(dataset, splits, read_forgotten(writer.store))
    recipe = _recipe(dataset, files, rules)
    stamps = [_stamp(file) for file in files]

    def make() -> Made:
        n_bytes = sum(size for size, _ in stamps)
        with _folder(writer.store) as folder, processes(n_bytes) as in_order:
            outcomes = _read(
                rules, dataset.path, files, folder, in_order, lambda n, done: on_progress(n, done, n_bytes)
            )
            for file, stamp in zip(files, stamps, strict=True):
                if _stamp(file) != stamp:
                    raise NativeFileError(file, "got a file that changed while it was read; expected none; run again")
            return _merge(writer.store, rules, dataset, found.left, outcomes, folder, in_order)

    n_bytes = sum(size for size, _ in stamps)
    return writer.ensure(recipe, make, work={"bytes": n_bytes})


def ingest_recipe(store: Store, dataset: DatasetFiles, splits: SplitFractions) -> Recipe:
    """Return what an ingest of a dataset would depend on now; files are hashed, and nothing is read.

    Raises:
        NativeFileError: a file is missing.
    """
    return _recipe(dataset, dataset_files(dataset).read, rules_of(dataset, splits, read_forgotten(store)))


def rules_of(dataset: DatasetFiles, splits: SplitFractions, forgotten: Forgotten) -> Rules:
    """Return how the dataset's rows are to be read."""
    return Rules(dataset.source, dataset.options, splits, dataset.share, dataset.split, forgotten)


def forget_unconfigured(writer: Writer, configured: Collection[str]) -> list[str]:
    """Take datasets that the configuration no longer names out of the newest snapshot."""
    gone = sorted(writer.store.head().within(STAGE).keys() - set(configured))
    if gone:
        writer.commit_all([], remove=[f"{STAGE}/{name}" for name in gone])
    return gone


def _recipe(dataset: DatasetFiles, files: Sequence[Path], rules: Rules) -> Recipe:
    hashes = sorted((file.name if dataset.source.named_files else "", file_sha256(file)) for file in files)
    given = {"share": dataset.share if dataset.share < 1 else None, "split of all": dataset.split}
    return Recipe(
        slot=f"{STAGE}/{dataset.source.name}",
        stage=STAGE,
        version=OWN_VERSION if dataset.definition else STAGE_VERSION,
        parameters={"dataset": dataset.source.name, "options": dict(dataset.options), "split": asdict(rules.splits)}
        | {name: value for name, value in given.items() if value is not None}
        | ({"definition": json.loads(canonical_json(dict(dataset.definition)))} if dataset.definition else {})
        | rules.forgotten.parameter,
        inputs={f"file {number} {name}".rstrip(): sha256 for number, (name, sha256) in enumerate(hashes, start=1)},
    )


def dataset_files(dataset: DatasetFiles) -> Found:
    """Return the data files that are to be read: those asked for, else those with the paper's data, else all.

    Raises:
        NativeFileError: there is none.
    """
    if dataset.patterns:
        return survey(dataset.path, dataset.patterns)
    try:
        return survey(dataset.path, dataset.source.files)
    except NativeFileError:
        return survey(dataset.path)


def _read(
    rules: Rules,
    root: Path,
    files: Sequence[Path],
    folder: Path,
    in_order: MapInOrder,
    on_progress: Callable[[int, int], None],
) -> pa.Table:
    """Spill what each chunk gives; return the outcome of every native row, with its file."""
    chunks = enumerate(chunk for file in files for chunk in read_chunks(file, root=root))
    n_rows, done = 0, {relative_name(file, root): 0 for file in files}
    outcomes = []
    for file, n_bytes, of_chunk in in_order(partial(_spill, rules, folder), chunks):
        outcomes.append(of_chunk.append_column("file", pa.repeat(file, len(of_chunk)).cast(pa.string())))
        n_rows += len(of_chunk)
        done[file] = n_bytes
        on_progress(n_rows, sum(done.values()))
    return pa.concat_tables([OUTCOMES.append(pa.field("file", pa.string())).empty_table(), *outcomes])


def _spill(rules: Rules, folder: Path, numbered: tuple[int, RowChunk]) -> tuple[str, int, pa.Table]:
    """Normalise a chunk in whatever process; only what became of its rows goes back."""
    number, chunk = numbered
    tables = dict(normalise(rules, decode(chunk), file=chunk.file))
    outcomes = tables.pop("native_rows")
    write_spill(folder, number, tables)
    return chunk.file, chunk.n_bytes, outcomes


def _merge(
    store: Store,
    rules: Rules,
    dataset: DatasetFiles,
    files_left: Mapping[str, str],
    outcomes: pa.Table,
    folder: Path,
    in_order: MapInOrder,
) -> Made:
    """Merge what was spilled, part by part, into objects of the store."""
    files: dict[str, Path] = {}
    counts, pairs_dropped, lost_rows = Counter[str](), Counter[str](), dict[str, str]()
    for number, part in enumerate(in_order(partial(_merge_part, rules, folder), ranges(_conversation_sizes(folder)))):
        counts.update(part.n_rows)
        files |= {f"{name}/{number:03d}": part.files[name] for name, n in part.n_rows.items() if n or not number}
        pairs_dropped.update(part.pairs_dropped)
        lost_rows |= part.lost_rows
    for number, (file, parts_refused) in enumerate(
        in_order(partial(_merge_rejects, folder), ranges(_reject_sizes(folder)))
    ):
        counts["parts_refused"] += parts_refused
        files[f"rejects/{number:03d}"] = file
    rows = native_rows(rules.source.name, outcomes, lost_rows)
    summary = _summary(rules, dataset.origin, files_left, rows, counts, pairs_dropped)
    if not summary.outcomes.get("kept"):
        raise DatasetError(rules.source.name, _nothing_usable(summary, dataset.path, folder))
    provenance = {"native_rows": store.objects.put("parquet", partial(write_parquet, table=rows))}
    # moved, not copied: a file is among the store's objects from then on
    objects = {name: store.objects.put("parquet", partial(os.replace, file)) for name, file in files.items()}
    return Made(objects, summary, provenance)


@dataclass(frozen=True, slots=True)
class _Part:
    """A merged part: its tables as Parquet files, and what was left out."""

    files: Mapping[str, Path]
    n_rows: Mapping[str, int]
    pairs_dropped: Mapping[str, int]
    lost_rows: Mapping[str, str]


def _merge_part(rules: Rules, folder: Path, prompts: Range) -> _Part:
    schemas = {
        "conversations": SCHEMAS["conversations"],
        "ratings": rated_schema(rules.source),
        "preferences": CANDIDATES,
    }
    spilled = {name: read_range(folder, name, schema, prompts) for name, schema in schemas.items()}
    merged = merge(rules, spilled)
    files = {name: folder / f"{name}.{prompts.first}.parquet" for name in merged.tables}
    for name, table in merged.tables.items():
        write_parquet(files[name], table)
    n_rows = {name: len(table) for name, table in merged.tables.items()}
    return _Part(files, n_rows, merged.pairs_dropped, merged.lost_rows)


def _merge_rejects(folder: Path, rows: Range) -> tuple[Path, int]:
    """Return the file of the part, and how many refused parts of rows are in it."""
    table = merge_rejects(read_range(folder, "rejects", SCHEMAS["rejects"], rows))
    file = folder / f"rejects.{rows.first}.parquet"
    write_parquet(file, table)
    return file, pc.sum(pc.equal(table["scope"], "part")).as_py() or 0


def _conversation_sizes(folder: Path) -> pl.DataFrame:
    """Return the prompt's id and the number of characters of each distinct conversation."""
    columns = ["conversation_id", "prompt_id", "n_chars"]
    table = pa.concat_tables(read_spill(folder, "conversations", SCHEMAS["conversations"], columns))
    return pl.DataFrame(table).unique("conversation_id").select("n_chars", id="prompt_id")


def _reject_sizes(folder: Path) -> pl.DataFrame:
    """Return each distinct row with rejects, and the number of its characters."""
    tables = [
        table.select(["source_row"]).append_column("n_chars", pc.utf8_length(table["raw"]).cast(pa.int64()))
        for table in read_spill(folder, "rejects", SCHEMAS["rejects"], ["source_row", "raw"])
    ]
    return pl.DataFrame(pa.concat_tables(tables)).unique("source_row").rename({"source_row": "id"})


def _stamp(file: Path) -> tuple[int, int]:
    """Return what changes with a file: its size, and when it was written."""
    status = file.stat()
    return status.st_size, status.st_mtime_ns


@contextmanager
def _folder(store: Store) -> Iterator[Path]:
    """Make a folder below the store's `tmp/` while the block runs."""
    folder = scratch_path(store.storage)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _nothing_usable(summary: IngestSummary, path: Path, folder: Path) -> str:
    lost = (summary.outcomes.get(outcome, {}).items() for outcome in ("rejected", "dropped"))
    reasons = ", ".join(f"{count} {reason}" for reason, count in chain.from_iterable(lost))
    details = (
        detail for table in read_spill(folder, "rejects", SCHEMAS["rejects"], ["detail"]) for detail in table["detail"]
    )
    example = next((f" ({detail})" for detail in details), "")
    got = f"got {reasons or 'no rows'} in {path}{example}"
    return f"{got}; expected usable rows; see with `armorm check` what is made of them"


def _summary(
    rules: Rules,
    origin: Origin,
    files_left: Mapping[str, str],
    rows: pa.Table,
    counts: Mapping[str, int],
    pairs_dropped: Mapping[str, int],
) -> IngestSummary:
    source = rules.source
    outcomes: dict[str, dict[str, int]] = {}
    by_reason = (
        pl.DataFrame(rows.select(["outcome", "reason"])).group_by("outcome", pl.col("reason").fill_null("")).len()
    )
    for outcome, reason, n_rows in by_reason.sort("outcome", "reason").iter_rows():
        outcomes.setdefault(outcome, {})[reason] = n_rows
    return IngestSummary(
        dataset=source.name,
        upstream=source.upstream,
        licence=source.licence,
        evaluation=rules.evaluation,
        origin=origin,
        files_left=files_left,
        outcomes=outcomes,
        pairs_dropped=dict(sorted(pairs_dropped.items())),
        **counts,
        measured={"rows": len(rows)},
        scales=source.scales,
    )
