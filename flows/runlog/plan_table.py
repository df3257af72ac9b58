"""A plan as a table: stages under their amounts, in words."""

from typing import Final

from armorm.features.store.estimate import Planned
from armorm.features.units import in_words, size

COLUMNS: Final = ("stage", "why it would run", "rows", "tokens", "bytes", "time", "rests on")


def shown_amounts(step: Planned) -> tuple[str, ...]:
    """Return a row of the plan under `COLUMNS`: nothing where there is nothing, `?` where it is not known."""
    counts = (step.rows, step.tokens)
    return (
        step.name,
        step.reason or "up to date",
        *("?" if count is None else f"{count:,}" if count else "" for count in counts),
        "?" if step.bytes is None else size(step.bytes) if step.bytes else "",
        "?" if step.seconds is None else in_words(step.seconds) if step.runs else "",
        step.basis,
    )
