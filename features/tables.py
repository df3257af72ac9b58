"""The canonical tables: their columns and types, and how they become Parquet."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from armorm.features.errors import StoreError

SQL: Final = Path(__file__).parent.parent / "sql"
"""Where the views, checks and questions over the tables are."""

FORMAT: Final = 2
"""The format of the Parquet files; later ones are refused. Format 1 is not stated in them."""

FORMAT_KEY: Final = b"armorm.format"

MESSAGES: Final = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))

SCHEMAS: Final[Mapping[str, pa.Schema]] = {
    "conversations": pa.schema(
        [
            ("conversation_id", pa.string()),
            ("prompt_id", pa.string()),
            ("messages", MESSAGES),
            ("n_turns", pa.int32()),
            ("n_chars", pa.int64()),
        ]
    ),
    "ratings": pa.schema(
        [
            ("dataset", pa.string()),
            ("source_row", pa.string()),
            ("conversation_id", pa.string()),
            ("prompt_id", pa.string()),
            ("objective", pa.string()),
            ("raw", pa.float64()),
            ("value", pa.float64()),
            ("split", pa.string()),
        ]
    ),
    "preferences": pa.schema(
        [
            ("dataset", pa.string()),
            ("source_row", pa.string()),
            ("pair_id", pa.string()),
            ("prompt_id", pa.string()),
            ("chosen_id", pa.string()),
            ("rejected_id", pa.string()),
            ("margin", pa.float64()),
            ("subset", pa.string()),
            ("split", pa.string()),
        ]
    ),
    "rejects": pa.schema(
        [
            ("dataset", pa.string()),
            ("source_row", pa.string()),
            ("scope", pa.string()),
            ("reason", pa.string()),
            ("detail", pa.string()),
            ("raw", pa.string()),
        ]
    ),
    "native_rows": pa.schema(
        [
            ("dataset", pa.string()),
            ("source_row", pa.string()),
            ("file", pa.string()),
            ("line", pa.int64()),
            ("outcome", pa.string()),
            ("reason", pa.string()),
        ]
    ),
    "contamination": pa.schema(
        [
            ("prompt_id", pa.string()),
            ("evaluation_prompt_id", pa.string()),
            ("evaluation_dataset", pa.string()),
            ("similarity", pa.float64()),
        ]
    ),
    "correlations": pa.schema(
        [
            ("part", pa.string()),
            ("dataset", pa.string()),
            ("objective", pa.string()),
            ("nuisance", pa.string()),
            ("n_responses", pa.int64()),
            ("n_prompts", pa.int64()),
            *((f"{when}{of}", pa.float64()) for when in ("before", "after") for of in ("", "_low", "_high")),
        ]
    ),
    "predictions": pa.schema(
        [
            ("model", pa.string()),
            ("conversation_id", pa.string()),
            ("objective", pa.string()),
            ("predicted", pa.float64()),
        ]
    ),
    "pair_scores": pa.schema(
        [
            ("model", pa.string()),
            ("pair_id", pa.string()),
            ("score_chosen", pa.float64()),
            ("score_rejected", pa.float64()),
            ("correct", pa.bool_()),
        ]
    ),
    "verdicts": pa.schema(
        [
            ("judge", pa.string()),
            ("first_id", pa.string()),
            ("second_id", pa.string()),
            ("score_first", pa.float64()),
            ("score_second", pa.float64()),
            ("shown_first", pa.float64()),
            ("shown_second", pa.float64()),
            ("preference", pa.float64()),
            ("why_not", pa.string()),
        ]
    ),
    "gate_coefficients": pa.schema(
        [
            ("model", pa.string()),
            ("prompt_id", pa.string()),
            ("objective", pa.string()),
            ("weight", pa.float32()),
            ("coefficient", pa.float32()),
        ]
    ),
}
"""Table name to schema; grain and key of each stand at the head of its view in `sql/views/`."""


def make_table(name: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Return rows as a table of that schema, in the order of its columns: the order of rows given changes nothing."""
    table = pa.Table.from_pylist(list(rows), schema=SCHEMAS[name])
    keys = [(column, "ascending") for column in table.column_names if column != "messages"]
    return table.sort_by(keys)


def write_parquet(path: Path, table: pa.Table) -> None:
    """Write Parquet with page checksums that states its format; equal tables give equal bytes."""
    marked = table.replace_schema_metadata({FORMAT_KEY: str(FORMAT)})
    pq.write_table(marked, path, compression="zstd", write_page_checksum=True)


def check_parquet(path: Path) -> None:
    """Refuse a table that a later version has written.

    Raises:
        StoreError: by the name of its format.
    """
    metadata = pq.read_schema(path).metadata or {}
    check_format(path, int(metadata.get(FORMAT_KEY, 1)), FORMAT)


def check_format(path: Path | str, got: object, newest: int) -> None:
    """Refuse what a later version has written, since what it means is not known.

    Raises:
        StoreError: by the name of its format.
    """
    if got not in range(1, newest + 1):
        raise StoreError(f"{path}: got format {got}; expected at most {newest}; use a newer version of armorm")
