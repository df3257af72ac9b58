"""What the stage `promote` keeps."""

from dataclasses import dataclass

from armorm.maths.paired import PairedTest


@dataclass(frozen=True, slots=True)
class PromotionRecord:
    """What a new model was held against; both None where there was nothing to compare with."""

    present: str | None = None
    """The id of the model that was promoted then."""
    test: PairedTest | None = None
    """The promoted model, then the new one."""
