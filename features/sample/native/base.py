"""What a dataset of the sample is made of. Leaf of `armorm.features.sample.native`."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from armorm.features.conversation import Conversation, Message
from armorm.features.sample.world.defects import DUPLICATE, MALFORMED, Defect, Row
from armorm.features.sample.world.files import Format
from armorm.features.sample.world.truth import Rule
from armorm.features.sample.world.world import World

Files = Mapping[str, Sequence[Row]]
"""Path of a native file, below the sample's folder, to its rows."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset: its clean rows, the defects that real rows of it have, and what is to come of them."""

    name: str
    format: Format
    files: Callable[[World], Files]
    truth: Rule
    """What the rows that are kept give."""
    defects: tuple[Defect, ...]
    """The defects of its own."""
    leaks: Callable[[World], tuple[Defect, ...]] = lambda world: ()
    """Defects made of a benchmark's prompts."""
    left_out: Callable[[str, Row], str] = lambda file, row: ""
    """Why a rule of the dataset leaves out a clean row of a file, if it does; those stay clean."""

    def all_defects(self, world: World) -> tuple[Defect, ...]:
        """Return every defect that is planted."""
        of_any = (MALFORMED, DUPLICATE) if self.format == "lines" else (DUPLICATE,)
        return *of_any, *self.defects, *self.leaks(world)


def as_messages(turns: Iterable[Message]) -> list[Row]:
    """Return turns in the form of chat datasets."""
    return [{"content": content, "role": role} for role, content in turns]


def as_turns(messages: Iterable[Row]) -> Conversation:
    """Return messages as turns: the inverse of `as_messages`."""
    return tuple((message["role"], message["content"]) for message in messages)
