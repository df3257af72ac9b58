"""Training rows that ask what a benchmark asks, word for word or nearly so. Ingest keeps them; later stages do not."""

import json
import zlib
from collections.abc import Callable
from typing import Final

from armorm.features.sample.native import rewardbench
from armorm.features.sample.native.base import Defect, Row
from armorm.features.sample.world.words import KINDS, Kind
from armorm.features.sample.world.world import World

RATE: Final = 0.02


def leaks(world: World, kind_of: Callable[[Row], Kind], asking: Callable[[Row, str], Row]) -> tuple[Defect, ...]:
    """Return two defects that give a row a prompt of RewardBench: as it is, and with another last word.

    Args:
        world: the one that RewardBench is made of.
        kind_of: what a row is about; the prompt is of that kind too, so that its preference still holds.
        asking: what changes in a row that has another prompt.
    """
    prompts = {kind: rewardbench.prompts(world, kind) for kind in KINDS}

    def prompt(row: Row) -> str:
        bank = prompts[kind_of(row)]
        return bank[zlib.crc32(json.dumps(row).encode()) % len(bank)]

    return (
        Defect("leaked_prompt", RATE, lambda row: asking(row, prompt(row))),
        Defect("nearly_leaked_prompt", RATE, lambda row: asking(row, f"{prompt(row).rpartition(' ')[0]} instead.")),
    )
