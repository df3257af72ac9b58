"""A bake-off: one model a backbone on the same data, and everything else as it was."""

from pathlib import Path

import pytest

from armorm.features.errors import BackboneError, InputError
from armorm.features.sample.backbone import sample_texts, write_backbone
from armorm.features.store import Store
from armorm.flows.configuration.settings import load_settings
from armorm.flows.pipeline import bake_off
from armorm.flows.plan import plan_run
from armorm.records.evaluation import Evaluation
from armorm.stages.evaluate import EVALUATE
from armorm.stages.pipeline import computed
from armorm.stages.regress import REGRESS

pytestmark = pytest.mark.usefixtures("server", "in_process")


def test_every_backbone_has_its_model_and_the_configured_one_stays(finished: Path) -> None:
    store = Store(finished.parent / "store")
    before = store.head()
    trained = {stage.name: before.artifacts[stage.name] for stage in computed("train", "evaluate")}
    other = finished.parent / "other"
    write_backbone(other, sample_texts(), seed=1)
    own = load_settings(finished).backbone.path
    found = bake_off(finished, [own, str(other)])
    first, second = found.candidates

    assert (first.model_id, first.objectives) == (
        trained["model"].artifact_id,
        REGRESS.told(store, trained["regress"]).regression,
    )
    assert (first.n_texts, first.n_tokens) == (second.n_texts, second.n_tokens)
    assert second.objectives != first.objectives
    assert second.seconds > 0
    assert {slot: store.head().artifacts[slot] for slot in trained} == trained
    assert [step.name for step in plan_run(load_settings(finished)).steps if step.runs] == []

    assert found.compared is not None
    rows = {(of.judge, of.pairs): of for of in found.compared.rows}
    evaluation: Evaluation = EVALUATE.told(store, trained["evaluate"])
    assert rows[Path(own).name, "held-out"].accuracy.estimate == pytest.approx(
        evaluation.pairs.rows[0].accuracy["gate"].estimate
    )
    assert rows["other", "held-out"].against is not None
    assert {of.judge for of in found.compared.rows} == {Path(own).name, "other", "longer answer"}
    assert store.find("model", second.model_id).artifact_id == second.model_id

    shards = store.head().ids_within(f"features/{second.backbone_id}")
    again = bake_off(finished, [str(other), own])
    assert store.head().ids_within(f"features/{second.backbone_id}") == shards, "nothing is embedded again"
    assert [of.model_id for of in again.candidates] == [second.model_id, first.model_id]


@pytest.mark.parametrize("backbones", [["backbone"], ["backbone", "backbone"], ["backbone", "nowhere/at-all/x"]])
def test_what_cannot_be_tried_is_refused_before_work(finished: Path, backbones: list[str]) -> None:
    before = Store(finished.parent / "store").head()
    with pytest.raises((InputError, BackboneError)):
        bake_off(finished, backbones)
    assert Store(finished.parent / "store").head() == before


def test_a_bake_off_that_fails_leaves_what_was_trained(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(finished.parent / "store")
    trained = store.head().artifacts["model"]
    other = finished.parent / "other"
    write_backbone(other, sample_texts(), seed=1)

    def stop(*_: object) -> None:
        assert store.head().artifacts["model"] != trained
        raise KeyboardInterrupt

    monkeypatch.setattr("armorm.flows.pipeline.read_candidate", stop)
    with pytest.raises(KeyboardInterrupt):
        bake_off(finished, [str(other), load_settings(finished).backbone.path])
    assert store.head().artifacts["model"] == trained
