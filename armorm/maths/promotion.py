"""Whether a new model takes the place of the promoted one."""

from collections.abc import Mapping
from dataclasses import dataclass

from armorm.config import PromotionConfig
from armorm.maths.paired import PairedTest


@dataclass(frozen=True, slots=True)
class NoTest:
    """The two were not tested against each other."""

    why: str
    unopposed: bool
    """Whether there is no model to beat; if False, there is one, and it is unknown whether the new one is better."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a new model."""

    promote: bool
    why: str


def decide(found: PairedTest | NoTest, config: PromotionConfig, *, stopping: Mapping[str, int]) -> Verdict:
    """Decide whether a new model is promoted: it must be better by more than chance, on data that no check stops.

    Args:
        found: the promoted model, then the new one, on pairs that neither was trained on.
        config: what counts as more than chance.
        stopping: rows that checks which stop a run have found, by the check's name.
    """
    if listed := ", ".join(f"{name} ({n_rows})" for name, n_rows in stopping.items() if n_rows):
        return Verdict(False, f"checks that stop a run have found rows: {listed}")
    if isinstance(found, NoTest):
        return Verdict(found.unopposed, found.why)
    difference = found.difference.estimate
    promote = found.p_value < config.significance and difference > 0
    told = (
        f"ranks {100 * abs(difference):.2f} % {'fewer' if difference < 0 else 'more'} of {found.n:,} held-out pairs "
        f"rightly than the promoted one ({found.only_second:,} that only this one ranks rightly, {found.only_first:,} "
        f"that only that one does; p = {found.p_value:.3g}"
    )
    return Verdict(promote, f"{told})" if promote else f"{told}, expected a gain with p below {config.significance:g})")
