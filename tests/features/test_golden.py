"""Stores of every earlier format are read as they were when they were written."""

import tarfile
from pathlib import Path

import pytest

from armorm.features.catalog.query import query
from armorm.features.store import Made, Recipe, Store
from armorm.features.upkeep.verify import verify
from armorm.features.vectors.shards import FeatureReader
from armorm.stages.model import load_model

pytestmark = pytest.mark.usefixtures("in_process")

GOLDEN = Path(__file__).parent.parent / "golden"

COUNTS = {
    "conversations": 618,
    "ratings": 1017,
    "preferences": 471,
    "rejects": 21,
    "features": 877,
    "native_rows": 301,
    "predictions": 993,
    "pair_scores": 471,
    "contamination": 1,
    "datasets": 4,
    "snapshots": 14,
}
"""Rows of the store of format 1, as the version that wrote it counted them."""


@pytest.fixture(params=["store-1", "store-2"])
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    with tarfile.open(GOLDEN / f"{request.param}.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    return Store(tmp_path / "store")


@pytest.mark.parametrize("golden", ["store-1"], indirect=True)
def test_a_store_of_an_earlier_format_reads_as_it_was_written(golden: Store) -> None:
    assert golden.head().snapshot_id == "788938f0c0b013ffa66228a01595225e"
    assert {view: query(golden, f"SELECT count(*) FROM {view}").rows[0][0] for view in COUNTS} == COUNTS
    (sums,) = query(golden, "SELECT sum(list_sum(vector::FLOAT[])), sum(norm) FROM features").rows
    assert sums == pytest.approx((1714.9102, 2480.52519), rel=1e-6)
    (score,) = query(golden, "SELECT avg(score_chosen) FROM pair_scores").rows[0]
    assert score == pytest.approx(0.34822916, rel=1e-6)
    model = load_model(golden, golden.find("model"))
    reader = FeatureReader(golden, model.backbone_id)
    ids = [row[0] for row in query(golden, "SELECT id FROM features WHERE kind = 'conversation' ORDER BY id").rows]
    assert reader.gather("conversation", ids).shape == (618, 8)


def test_a_store_of_an_earlier_format_is_written_on(golden: Store) -> None:
    before = golden.head()
    with golden.writing("test") as writer:
        writer.commit(Recipe("a", "test", 1, {}, {}), Made({"record": golden.objects.put_bytes("json", b"{}")}))
    after = Store(golden.place).head()
    assert after.number == before.number + 1
    assert after.artifacts.items() >= before.artifacts.items()
    assert verify(golden).damages == ()


@pytest.mark.parametrize("golden", ["store-2"], indirect=True)
def test_manifests_without_parts_hold_all_artifacts_themselves(golden: Store) -> None:
    head = golden.head()
    assert (head.number, head.snapshot_id, head.parts) == (21, "2fabe31ac35eab90414c898a994fa90d", ())
    assert {slot: golden.objects.read_bytes(a.objects["record"]) for slot, a in head.artifacts.items()} == {
        f"slot/{number}": b"%d" % number for number in range(20)
    }
    assert [s.number for s in golden.history() if not s.expired] == [21, 20, 19, 15]
    assert golden.snapshot("good").artifacts.keys() == {f"slot/{number}" for number in range(15)}
