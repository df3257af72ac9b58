"""What comes of the sample is what its generator says has to come: rows by outcome and reason, ratings, pairs."""

from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from armorm.features.conversation import SplitFractions
from armorm.features.ingest.dataset import DatasetFiles, ingest_dataset
from armorm.features.objectives import OBJECTIVES
from armorm.features.sample import DATASETS, SampleManifest, write_sample
from armorm.features.sources import SOURCES, complete_options, find_source
from armorm.features.store import Artifact, Store, Writer

SAMPLES = [(0, 0.1), (7, 0.02)]


@pytest.fixture(scope="module", params=SAMPLES, ids=lambda seed_and_scale: f"seed {seed_and_scale[0]}")
def sample(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SampleManifest]:
    folder = tmp_path_factory.mktemp("sample")
    seed, scale = request.param
    return folder, write_sample(folder, seed=seed, scale=scale)


def ingested(writer: Writer, name: str, folder: Path) -> Artifact:
    source = find_source(name)
    files = DatasetFiles(source, folder / name, complete_options(source, {}))
    return ingest_dataset(writer, files, splits=SplitFractions()).artifact


def rows(store: Store, artifact: Artifact, table: str) -> list[dict[str, object]]:
    objects = [ref for name, ref in artifact.objects.items() if name.startswith(f"{table}/")]
    return [row for ref in objects for row in pq.read_table(store.objects.path(ref)).to_pylist()]


def test_the_sample_has_every_dataset() -> None:
    assert DATASETS.keys() == SOURCES.keys()


def test_all_19_objectives_are_rated(sample: tuple[Path, SampleManifest]) -> None:
    rated = Counter[str]()
    for dataset in sample[1].datasets.values():
        rated.update(dataset.ratings)
    assert set(rated) == set(OBJECTIVES)


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_the_answer_is_right(writer: Writer, sample: tuple[Path, SampleManifest], name: str) -> None:
    folder, manifest = sample
    expected = manifest.datasets[name]
    artifact = ingested(writer, name, folder)
    outcomes = artifact.summary["outcomes"]
    assert sum(outcomes.get("kept", {}).values()) == expected.kept
    assert outcomes.get("rejected", {}) == expected.rejected
    assert outcomes.get("dropped", {}) == expected.dropped
    rejects = rows(writer.store, artifact, "rejects")
    assert Counter(row["reason"] for row in rejects if row["scope"] == "part") == expected.parts_refused
    ratings = rows(writer.store, artifact, "ratings")
    assert Counter(row["objective"] for row in ratings) == expected.ratings
    pairs = rows(writer.store, artifact, "preferences")
    assert sorted((row["chosen_id"], row["rejected_id"]) for row in pairs) == list(expected.pairs)
    scales = find_source(name).scales
    assert all(scales[str(row["objective"])].to_raw(float(str(row["value"]))) == row["raw"] for row in ratings)
