"""PKU-SafeRLHF-30K: two responses with a safety flag each, and which one is safer and which more helpful.

Card: PKU-Alignment/PKU-SafeRLHF-30K, CC-BY-NC-4.0, about 26,900 training and 3,000 test rows. Which of the two
labels made the published pairs is not known, so it is an option; the default is the safety signal. Both responses
may be unsafe. Upstream calls a safe response safer than an unsafe one; a label that says otherwise is rejected.
"""

from collections.abc import Iterator

from features.conversation import single_turn
from features.sources.base import Options, Pair, Reject, Row, Source, boolean, check_pair, text

SAFER = "safer_response_id"
BETTER = "better_response_id"


def parse(row: Row, options: Options) -> Iterator[Pair]:
    """One pair, the response that the chosen label names first."""
    prompt = text(row, "prompt")
    answers = [single_turn(prompt, text(row, f"response_{id}")) for id in (0, 1)]
    chosen = _label(row, options["chosen_by"])
    pair = check_pair(Pair(answers[chosen], answers[1 - chosen]))
    if options["chosen_by"] == SAFER:
        _check_safety(row, chosen)
    yield pair


def _label(row: Row, column: str) -> int:
    label = row.get(column)
    if label is None:
        raise Reject("no_label", f"column {column} is absent or null; expected 0 or 1")
    if isinstance(label, bool) or label not in (0, 1):
        raise Reject("label_not_0_or_1", f"column {column}: got {str(label)[:20]!r}; expected 0 or 1")
    return int(label)


def _check_safety(row: Row, chosen: int) -> None:
    safe = [boolean(row, f"is_response_{id}_safe") for id in (0, 1)]
    if safe[1 - chosen] and not safe[chosen]:
        raise Reject("label_contradicts_safety", f"{SAFER} is {chosen}, which is unsafe while the other one is safe")


SOURCE = Source(
    name="pku-saferlhf-30k",
    upstream="PKU-Alignment/PKU-SafeRLHF-30K",
    licence="CC-BY-NC-4.0",
    parse=parse,
    options={"chosen_by": (SAFER, BETTER)},
)
