"""Training rows that ask what a benchmark asks, word for word or nearly so. Ingest keeps them; later stages do not."""

import json
import zlib
from collections.abc import Callable
from typing import Final

from armorm.features.sample.native import rewardbench
from armorm.features.sample.world.defects import Defect, Line, Row
from armorm.features.sample.world.words import KINDS, Kind
from armorm.features.sample.world.world import World

RATE: Final = 0.02


def leaks(world: World, kind_of: Callable[[Row], Kind], asking: Callable[[Row, str], Row]) -> tuple[Defect, ...]:
    """Return two defects that give a row a prompt of RewardBench.

    Args:
        world: the one that RewardBench is made of.
        kind_of: what a row is about; the prompt is of that kind too, so that its preference still holds.
        asking: the row with another prompt.
    """
    prompts = {kind: rewardbench.prompts(world, kind) for kind in KINDS}

    def leaked(alter: Callable[[str], str]) -> Callable[[Row], tuple[Line, ...]]:
        def spoil(row: Row) -> tuple[Line, ...]:
            bank = prompts[kind_of(row)]
            place = zlib.crc32(json.dumps(row).encode()) % len(bank)
            return (asking(row, alter(bank[place])),)

        return spoil

    return (
        Defect("leaked_prompt", RATE, leaked(lambda prompt: prompt)),
        Defect("nearly_leaked_prompt", RATE, leaked(_reworded)),
    )


def _reworded(prompt: str) -> str:
    """Return the prompt with another last word."""
    return f"{prompt.rpartition(' ')[0]} instead."
