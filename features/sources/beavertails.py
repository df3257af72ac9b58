"""BeaverTails-30k: one safety label a response.

Card: PKU-Alignment/BeaverTails, splits `30k_train` (27,186 rows) and `30k_test` (3,021), CC-BY-NC-4.0. A row is a
prompt, a response, fourteen harm categories and `is_safe`, which by definition says that no category applies; a
label that contradicts its own categories is rejected.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from armorm.features.objectives import BOOLEAN
from armorm.features.sources.base import Options, Rated, Rows, Source
from armorm.features.sources.forms import single_turns


def parse(rows: Rows, options: Options) -> Iterator[Rated]:
    """Yield one rated conversation a row."""
    conversations = single_turns(rows.text("prompt"), rows.text("response"))
    is_safe = rows.boolean("is_safe")
    categories = rows.struct("category", default={}).cells
    rows.reject_where(
        (not {*map(type, category.values())} <= {bool} for category in categories),
        "wrong_type",
        lambda row: f"column category: got {_harms(categories[row])}; expected true or false of each",
    )
    rows.reject_where(
        (bool(category) and safe == any(category.values()) for safe, category in zip(is_safe, categories, strict=True)),
        "is_safe_contradicts_category",
        lambda row: f"is_safe is {is_safe[row]}; categories: {_harms(categories[row])}",
    )
    yield Rated(rows, conversations, {"beavertails-is_safe": [float(safe) for safe in is_safe]})


def _harms(category: Mapping[str, Any]) -> str:
    return ", ".join(sorted(name for name, applies in category.items() if applies)) or "none"


SCALES = {"beavertails-is_safe": BOOLEAN}
FILES = ("round0/30k/*.jsonl.gz",)
SOURCE = Source("beavertails-30k", "PKU-Alignment/BeaverTails", "CC-BY-NC-4.0", parse, SCALES, files=FILES)
