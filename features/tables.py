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

_TYPES: Final = {
    "": pa.string(),
    "bool": pa.bool_(),
    "int": pa.int64(),
    "int32": pa.int32(),
    "float": pa.float64(),
    "float32": pa.float32(),
    "messages": MESSAGES,
}


def schema_of(columns: str) -> pa.Schema:
    """Return a schema of columns such as `name n_rows:int`, which are text where no type is said."""
    parts = (column.partition(":") for column in columns.split())
    return pa.schema([(name, _TYPES[kind]) for name, _, kind in parts])


SCHEMAS: Final[Mapping[str, pa.Schema]] = {
    "conversations": schema_of("conversation_id prompt_id messages:messages n_turns:int32 n_chars:int"),
    "ratings": schema_of("dataset source_row conversation_id prompt_id objective raw:float value:float split"),
    "preferences": schema_of("dataset source_row pair_id prompt_id chosen_id rejected_id margin:float subset split"),
    "rejects": schema_of("dataset source_row scope reason detail raw"),
    "native_rows": schema_of("dataset source_row file line:int outcome reason"),
    "contamination": schema_of("prompt_id evaluation_prompt_id evaluation_dataset similarity:float"),
    "correlations": schema_of(
        "part dataset objective nuisance n_responses:int n_prompts:int "
        "before:float before_low:float before_high:float after:float after_low:float after_high:float"
    ),
    "predictions": schema_of("model conversation_id objective predicted:float"),
    "pair_scores": schema_of("model pair_id score_chosen:float score_rejected:float correct:bool"),
    "near_prompts": schema_of("prompt_id evaluation_prompt_id evaluation_dataset cosine:float"),
    "verdicts": schema_of(
        "judge first_id second_id score_first:float score_second:float "
        "shown_first:float shown_second:float preference:float why_not"
    ),
    "gate_coefficients": schema_of("model prompt_id objective weight:float32 coefficient:float32"),
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
