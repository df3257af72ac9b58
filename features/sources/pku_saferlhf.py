"""PKU-SafeRLHF-30K: two responses with a safety flag each, and which one is safer and which more helpful.

Card: PKU-Alignment/PKU-SafeRLHF-30K, CC-BY-NC-4.0, about 26,900 training and 3,000 test rows. Which of the two
labels made the published pairs is not known, so it is an option; the default is the safety signal. Both responses
may be unsafe. Upstream calls a safe response safer than an unsafe one; a label that says otherwise is rejected.
"""

from collections.abc import Iterator

from armorm.features.sources.base import Option, Options, Pairs, Rows, Source
from armorm.features.sources.forms import better_first, single_turns

SAFER = "safer_response_id"
BETTER = "better_response_id"


def parse(rows: Rows, options: Options) -> Iterator[Pairs]:
    """Yield one pair a row, the response that the chosen label names first."""
    prompts = rows.text("prompt")
    answers = [single_turns(prompts, rows.text(f"response_{id}")) for id in (0, 1)]
    column = options["chosen_by"]
    rows.reject_where(
        (label is None for label in rows.values(column)),
        "no_label",
        lambda _: f"column {column} is absent or null; expected 0 or 1",
    )
    first_is_better = [label == 0 for label in rows.zero_or_one(column)]
    if column == SAFER:
        _check_safety(rows, first_is_better)
    yield Pairs(rows, *better_first(answers, first_is_better))


def _check_safety(rows: Rows, first_is_safer: list[bool]) -> None:
    safe = [rows.boolean(f"is_response_{id}_safe") for id in (0, 1)]
    rows.reject_where(
        (other and not chosen for chosen, other in zip(*better_first(safe, first_is_safer), strict=True)),
        "label_contradicts_safety",
        lambda row: f"{SAFER} is {1 - first_is_safer[row]}, which is unsafe while the other one is safe",
    )


CHOSEN_BY = Option("The label that decides the pair; which one upstream took is not known.", (SAFER, BETTER))
OPTIONS = {"chosen_by": CHOSEN_BY}
SOURCE = Source(
    "pku-saferlhf-30k", "PKU-Alignment/PKU-SafeRLHF-30K", "CC-BY-NC-4.0", parse, pairs=True, options=OPTIONS
)
