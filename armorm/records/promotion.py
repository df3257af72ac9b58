"""What the stage `promote` decides."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from armorm.features.store.json_records import Summary
from armorm.maths.paired import PairedTest

NoTest = Literal["first", "gone", "no_pairs", "no_vectors"]
"""Why two models were not tested against each other; `TOLD` says it."""

TOLD: Final[Mapping[str, str]] = {
    "first": "no model was promoted before",
    "gone": "the promoted model {present:.12} is gone from the store",
    "no_pairs": "there are no held-out pairs that neither model was trained on",
    "no_vectors": "the backbone of the promoted model {present:.12} has no vectors of the held-out pairs, so the two "
    "cannot be compared; embed with it, or decide by `armorm promote model`",
    "taken_back": "it was promoted before, and taken back since",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict(Summary):
    """What becomes of a new model, and the facts that say why; a record of an older store has hardly any."""

    promoted: bool
    model: str = ""
    """Its id."""
    present: str | None = None
    """The id of the model that was promoted then."""
    found: PairedTest | NoTest | Literal["same", "taken_back"] = "same"
    """`same`: the new model is the promoted one."""
    stopping: Mapping[str, int] = field(default_factory=dict)
    """Rows that checks which stop a run have found, by the check's name."""
    significance: float = float("nan")

    @property
    def line(self) -> str:
        """For a person."""
        name = f"model {self.model[:12]}"
        if self.found == "same":
            return f"{name} is the promoted one"
        return f"{name} {'promoted' if self.promoted else 'kept unpromoted'}: {self._why}"

    @property
    def _why(self) -> str:
        if self.stopping:
            listed = ", ".join(f"{name} ({n_rows})" for name, n_rows in self.stopping.items())
            return f"checks that stop a run have found rows: {listed}"
        if not isinstance(test := self.found, PairedTest):
            return TOLD[test].format(present=self.present)
        difference = test.difference.estimate
        told = (
            f"ranks {100 * abs(difference):.2f} % {'fewer' if difference < 0 else 'more'} of {test.n:,} held-out pairs "
            f"rightly than the promoted one ({test.only_second:,} that only this one ranks rightly, "
            f"{test.only_first:,} that only that one does; p = {test.p_value:.3g}"
        )
        return f"{told})" if self.promoted else f"{told}, expected a gain with p below {self.significance:g})"
