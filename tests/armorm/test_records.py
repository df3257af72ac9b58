"""Records as JSON and back: what is not defined, what older ones lack, what newer ones have besides, what is none."""

import json
import math
import re
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from armorm.features.catalog.status import store_status
from armorm.features.documents import decode, encode
from armorm.features.errors import CorruptObject
from armorm.features.store import Artifact, Made, Recipe, Store, Writer
from armorm.features.store.json_records import put_record, read_record
from armorm.maths.evaluation import Missing
from armorm.maths.metrics import CurvePoint, Interval
from armorm.maths.ridge import ObjectiveFit, Untrained
from armorm.records.decorrelation import DecorrelationResult, Penalties, Penalty
from armorm.records.evaluation import Evaluation
from armorm.records.gate import GateResult, GateTraining
from armorm.records.regression import RegressionResult
from armorm.records.training import Training
from armorm.stages.pipeline import STAGES

GOLDEN = Path(__file__).parent.parent / "golden" / "store-1.tar.xz"

REGRESSION = RegressionResult(
    objectives=("a",),
    regression=(ObjectiveFit("a", alpha=0.1, alpha_end="largest", n_train=3),),
    untrained={"b": Untrained("all_equal", 3, 2, 0.5), "c": "a sentence of an older store"},
)
DECORRELATION = DecorrelationResult(Penalties(("a", "b"), "r", objectives=(Penalty("a", "b", penalty=0.5),)))
GATE = GateResult(GateTraining(9, 99.5, curve=(CurvePoint(1, 0.5),)), contaminated_pairs=2)


@pytest.mark.parametrize("record", [REGRESSION, DecorrelationResult(Penalties("none", "r")), DECORRELATION, GATE])
def test_a_record_comes_back_as_it_was(record: Any) -> None:
    value = json.loads(json.dumps(encode(record), allow_nan=False))
    again = decode(type(record), value)
    assert repr(again) == repr(record), "NaN does not equal itself"
    assert encode(again) == value


def test_what_is_not_defined_is_null_and_nan_again() -> None:
    assert encode(Interval(0.5, math.nan, math.inf)) == {"estimate": 0.5, "low": None, "high": None}
    assert math.isnan(decode(Interval, {"estimate": 0.5, "low": None, "high": 1.0}).low)
    assert encode(Penalty("a", penalty=0.5))["lambda"] == 0.5


def test_older_and_newer_records_are_read() -> None:
    """An older one lacks fields and has sentences, a newer one has more."""
    older = {
        "pairs": {"scorers": [["gate", "gate"]], "rows": [], "best_objective": "a", "note": "held out"},
        "rewardbench": {"subsets": [], "sections": {}, "overall": None, "note": "partial"},
        "of_tomorrow": {"x": [1]},
    }
    found = decode(Evaluation, older)
    assert found.pairs.best_objective == "a"
    assert (found.rewardbench.missing, found.calibration, found.rejected_pairs) == (Missing(), None, None)
    assert decode(Training, {}) == Training()


@pytest.mark.parametrize(
    "value", [5, None, {}, {"gate": 5}, {"gate": {"n_pairs": "x", "beta": 1}}, {"gate": {"beta": 1}}]
)
def test_a_record_of_another_form_is_named(value: Any, store: Store) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]*$"):
        decode(GateResult, value)
    ref = put_record(store, value)
    artifact = Artifact(Recipe("gate", "gate", 1, {}, {}), {"record": ref}, "", "")
    with pytest.raises(CorruptObject, match=r"\bgate\b"):
        read_record(store, artifact, GateResult)


def test_a_model_says_what_its_stages_say() -> None:
    training = Training.of(REGRESSION, DECORRELATION, GATE)
    assert (training.regression, training.decorrelation) == (REGRESSION.regression, DECORRELATION.decorrelation)
    assert (training.gate, training.contaminated_pairs) == (GATE.gate, 2)


@pytest.fixture
def older(tmp_path: Path) -> Store:
    with tarfile.open(GOLDEN) as archive:
        archive.extractall(tmp_path, filter="data")
    return Store(tmp_path / "store")


def test_lines_of_an_older_store_stand_and_new_ones_are_made_of_the_same_record(older: Store) -> None:
    kept = {a.recipe.stage: a for a in older.head().artifacts.values() if "line" in a.summary}
    assert {"gate", "regress", "decorrelate", "evaluate", "quality", "contamination", "model"} <= kept.keys()
    for stage, artifact in kept.items():
        assert STAGES[stage].line(older, artifact) == artifact.summary["line"]
    for stage in ("evaluate", "quality"):  # whose words have not changed since, nor do their records lack a figure
        made = STAGES[stage].line(older, replace(kept[stage], summary={}))
        assert made == kept[stage].summary["line"]


def test_a_damaged_record_does_not_keep_others_from_being_listed(store: Store, writer: Writer) -> None:
    for stage, record in (("gate", GATE), ("regress", 5)):
        writer.commit(Recipe(stage, stage, 1, {}, {}), Made({"record": put_record(store, record)}))
    writer.commit(Recipe("of/tomorrow", "unheard-of", 1, {}, {}), Made({}))
    shown = {slot: what for slot, _, _, what in store_status(store, store.head(), STAGES).rows}
    assert "9 pairs" in shown["gate"]
    assert re.search(r"\bregress\b", shown["regress"])
    assert shown["of/tomorrow"] == ""


def test_records_of_an_older_store_are_read(older: Store) -> None:
    store = older
    of = {"regress": RegressionResult, "decorrelate": DecorrelationResult, "gate": GateResult, "evaluate": Evaluation}
    found: dict[str, Any] = {stage: read_record(store, store.find(stage), record) for stage, record in of.items()}
    assert found["regress"].regression
    assert found["decorrelate"].decorrelation.objectives
    assert found["gate"].gate.curve
    assert found["evaluate"].pairs.rows
