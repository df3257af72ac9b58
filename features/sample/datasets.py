"""The sample as a whole: every dataset in its native files, with a record of the defects planted in them."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from features.sample.defects import Planted, plant
from features.sample.files import write_native
from features.sample.native import (
    beavertails,
    feedback_collection,
    helpsteer,
    hh_rlhf,
    pku_saferlhf,
    preference_collection,
    rewardbench,
    ultrafeedback,
)
from features.sample.native.base import Dataset
from features.sample.world import World

DATASETS: Final[Mapping[str, Dataset]] = {
    module.DATASET.name: module.DATASET
    for module in (
        helpsteer,
        ultrafeedback,
        beavertails,
        feedback_collection,
        hh_rlhf,
        pku_saferlhf,
        preference_collection,
        rewardbench,
    )
}
"""All datasets of the sample, by name."""


@dataclass(frozen=True, slots=True)
class DatasetManifest:
    """What was written of one dataset."""

    rows: Mapping[str, int]
    """File, below the sample's folder, to its number of rows, defects and all."""
    planted: tuple[Planted, ...]
    """Every defect, and where it is."""

    @property
    def defects(self) -> dict[str, int]:
        """Number of rows by defect."""
        return dict(Counter(planted.defect for planted in self.planted))


@dataclass(frozen=True, slots=True)
class SampleManifest:
    """What a sample holds; also in its folder, as `manifest.json`."""

    seed: int
    scale: float
    datasets: Mapping[str, DatasetManifest]


def write_sample(folder: Path, *, seed: int = 0, scale: float = 1.0) -> SampleManifest:
    """Writes every dataset below `folder`, each in a folder of its name; the same arguments give the same bytes.

    Args:
        folder: made if it does not exist.
        seed: of all that is left to chance.
        scale: 1 gives about 18,000 distinct conversations; numbers of prompts follow it.
    """
    world = World(seed, scale)
    manifest = SampleManifest(seed, scale, {name: _write(folder, world, of) for name, of in DATASETS.items()})
    (folder / "manifest.json").write_text(json.dumps(asdict(manifest), indent=2) + "\n")
    return manifest


def _write(folder: Path, world: World, dataset: Dataset) -> DatasetManifest:
    lines, planted = plant(world.rng(f"{dataset.name} defects"), dataset.files(world), dataset.defects)
    for file, content in lines.items():
        write_native(folder / file, content)
    return DatasetManifest({file: len(content) for file, content in lines.items()}, tuple(planted))
