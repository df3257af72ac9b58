"""What a dataset of the sample is made of. Leaf of `features.sample.native`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from features.sample.defects import Defect, Row
from features.sample.world import World

Files = Mapping[str, Sequence[Row]]
"""Path of a native file, below the sample's folder, to its rows."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset: its clean rows, and the defects that real rows of it have."""

    name: str
    files: Callable[[World], Files]
    defects: tuple[Defect, ...]
