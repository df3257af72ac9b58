"""BeaverTails-30k: one safety label a response.

Card: PKU-Alignment/BeaverTails, splits `30k_train` and `30k_test`, CC-BY-NC-4.0. A row is a prompt, a
response, fourteen harm categories and `is_safe`, which by definition says that no category applies.
"""

from collections.abc import Iterator

from features.conversation import single_turn
from features.objectives import BOOLEAN
from features.sources.base import Options, Rated, Reject, Row, Source, boolean, struct, text


def parse(row: Row, options: Options) -> Iterator[Rated]:
    """One rated conversation; a label that contradicts its own categories is rejected."""
    is_safe = boolean(row, "is_safe")
    category = struct(row.get("category") or {}, "category")
    harms = sorted(name for name in category if boolean(category, name))
    if category and is_safe == bool(harms):
        raise Reject("is_safe_contradicts_category", f"is_safe is {is_safe}; categories: {', '.join(harms) or 'none'}")
    yield Rated(
        single_turn(text(row, "prompt"), text(row, "response")),
        {"beavertails-is_safe": float(is_safe)},
    )


SOURCE = Source(
    name="beavertails-30k",
    upstream="PKU-Alignment/BeaverTails",
    licence="CC-BY-NC-4.0",
    parse=parse,
    scales={"beavertails-is_safe": BOOLEAN},
)
