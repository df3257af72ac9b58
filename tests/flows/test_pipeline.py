"""The pipeline on a small sample: end to end, nothing the second time, only what is stale the third."""

import json
import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from armorm.config import ALL_ANSWERS, LENGTH, PREFERENCE, GateConfig
from armorm.features.catalog.notebook import connect
from armorm.features.catalog.query import query
from armorm.features.catalog.status import store_status
from armorm.features.embedding.packs import Pack
from armorm.features.errors import InputError, NotInStore
from armorm.features.lineage.trace import trace
from armorm.features.objectives import OBJECTIVES
from armorm.features.sources import SOURCES
from armorm.features.store import Store
from armorm.features.store.json_records import read_record
from armorm.features.store.pointers import promoted
from armorm.features.vectors.shards import FeatureReader
from armorm.flows.pipeline import pipeline
from armorm.maths.probe import GRADIENT
from armorm.model.head import RewardHead
from armorm.records.decorrelation import DecorrelationResult
from armorm.records.evaluation import Evaluation
from armorm.records.gate import GateResult
from armorm.records.regression import RegressionResult
from armorm.release.compare import compare
from armorm.release.report import load_report
from armorm.report.sections import evaluation_sections, scorer_titles
from armorm.stages import data as bridge
from armorm.stages import gate
from armorm.stages.pipeline import PIPELINE, STAGES
from tests.flows.conftest import WholeRun, artifacts

pytestmark = pytest.mark.usefixtures("server", "in_process")


def store_of(config: Path) -> Store:
    return Store(config.parent / "store")


def test_it_goes_from_native_files_to_a_model_folder(whole_run: WholeRun) -> None:
    config, steps = whole_run.config, whole_run.state.result()
    after = [
        "embed",
        "statistics",
        "regress",
        "preference",
        "decorrelate",
        "gate",
        "model",
        "near_prompts",
        "evaluate",
        "promote",
    ]
    assert [step.name for step in steps][-len(after) :] == after
    assert all(step.reason for step in steps)
    (folder,) = (config.parent / "models").iterdir()
    assert {path.name for path in folder.iterdir()} == {
        "model.safetensors",
        "model.json",
        "uncertainty.safetensors",
        "evaluation.json",
        "report.md",
        "report.html",
    }
    model = RewardHead.load(folder)
    assert sorted([*model.objectives, *model.untrained]) == sorted([*OBJECTIVES, PREFERENCE])
    assert len(model.objectives) > 12  # so small a sample has too few ratings of code for a model of each objective
    stored = store_of(config).find("model")
    assert folder.name == stored.artifact_id
    assert {name: model.inputs[name] for name in stored.recipe.inputs} == stored.recipe.inputs


SHOWN = ("plan", "steps", "quality", "held-out-pairs", "rewardbench", "results", "report", "promotion")


def test_prefect_shows_the_plan_and_the_results_and_no_text(
    whole_run: WholeRun,
) -> None:
    config, state = whole_run.config, whole_run.state
    steps = state.result()
    model_id = store_of(config).find("model").artifact_id
    shown = {name: artifacts(f"armorm-{name}", state.state_details.flow_run_id)[0] for name in SHOWN}
    planned, done = json.loads(shown["plan"]), json.loads(shown["steps"])
    assert [row["stage"] for row in planned] == [step.name for step in steps[:-1]]
    assert {row["stage"]: " ".join(row["why it ran"].split()) for row in done} == {s.name: s.reason for s in steps}
    assert f"models/{model_id}/report.html" in shown["report"]
    assert model_id in shown["results"]
    assert {"gate", "longer answer"} <= set(json.loads(shown["held-out-pairs"])[0])
    assert json.loads(shown["promotion"])[:2] == [
        {"what": "model", "value": model_id},
        {"what": "decision", "value": "promoted"},
    ]
    rows = query(store_of(config), "SELECT DISTINCT unnest(messages).content FROM conversations").rows
    texts = [str(content) for (content,) in rows if len(str(content)) > 12]
    assert len(texts) > 1000
    said = "\n".join(artifact for name in (*SHOWN, "diff") for artifact in artifacts(f"armorm-{name}"))
    assert not [text for text in texts if text in said or json.dumps(text)[1:-1] in said]


def test_whoever_reads_the_store_at_prod_sees_the_promoted_model(ran: Store) -> None:
    with connect(ran.place, at="prod") as prod:
        assert prod.snapshot.artifacts["model"].artifact_id == promoted(ran, "model")


def test_the_second_run_does_nothing_and_says_so(finished: Path, caplog: pytest.LogCaptureFixture) -> None:
    number = store_of(finished).head().number
    with caplog.at_level(logging.INFO, logger="prefect.flow_runs"):
        steps = pipeline(finished, promote=True)
    assert [step for step in steps if step.reason] == []
    assert store_of(finished).head().number == number
    assert re.search(rf"\bplan: .*\bsnapshot {number}: \d+ stages\b", caplog.text)
    assert re.search(r"\bfiles, settings .*\bbackbone\b", caplog.text)


def test_a_setting_runs_its_stage_and_those_after_it(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARMORM_GATE__SEED", "1")
    ran = {step.name: step.reason for step in pipeline(finished) if step.reason}
    assert list(ran) == ["gate", "model", "evaluate"]
    assert "seed" in str(ran["gate"])
    store = store_of(finished)
    assert store.find("model").artifact_id[:12] in artifacts("armorm-diff")[0]
    found = compare(store, "previous", "head")
    assert found.rows is not None
    assert found.models is not None
    assert (list(found.rows.rows), list(found.drift)) == ([], [])
    for objective in found.models.objectives:
        assert (objective.cosine, objective.relative_change) == (pytest.approx(1), 0)
    gates = np.array([objective.gate for objective in found.models.objectives], dtype=float)
    assert gates.sum(axis=0) == pytest.approx([1, 1], abs=1e-5)
    assert np.abs(gates[:, 0] - gates[:, 1]).max() > 0
    assert {"RewardBench overall", "RewardBench overall without prior sets"} <= found.models.metrics.keys()
    tested = found.models.paired
    scored = "SELECT dataset, count(*) FROM pair_scores JOIN preferences USING (pair_id) WHERE "
    benchmarks = dict(query(store, f"{scored} split = 'evaluation' GROUP BY dataset").rows)
    clean = "split = 'test' AND prompt_id NOT IN (SELECT prompt_id FROM contamination)"
    held_out = dict(query(store, f"{scored} {clean} GROUP BY dataset").rows)
    expected = benchmarks | held_out | {"all held-out": sum(held_out.values())}
    assert {name: test.n for name, test in tested.items()} == expected
    assert all(0 <= test.p_value <= 1 for test in tested.values())
    with_itself = compare(store, found.models.after, found.models.after).models
    assert with_itself is not None
    assert {test.p_value for test in with_itself.paired.values()} == {1.0}
    assert compare(store, found.models.before[:12], found.models.after).models == found.models
    with pytest.raises(InputError, match=rf" head .*\bmodel {found.models.after};"):
        compare(store, "head", found.models.after)


def test_the_probe_is_fitted_to_the_pairs_of_the_gate_and_can_be_left_out(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_of(finished)
    record = read_record(store, store.find("evaluate"), Evaluation)
    probe, sections = record.pairs.probe, {section.id for section in load_report(store).sections}
    assert probe
    assert probe.converged == (probe.gradient <= GRADIENT)
    assert ("converged" in scorer_titles(["probe"], record.pairs)["probe"]) != probe.converged
    assert probe.n_train == read_record(store, store.find("gate"), GateResult).gate.n_pairs
    assert "accuracy-by-length" in sections
    assert set(record.rewardbench.baselines) == {"mixture", "mean", "single", "probe", "longer"}
    monkeypatch.setattr("armorm.maths.probe.MAX_PASSES", 1)
    for limit, names in (
        (40, {"mixture", "mean", "single", "probe", "longer"}),
        (0, {"mixture", "mean", "single", "longer"}),
    ):
        monkeypatch.setenv("ARMORM_PREFERENCE__PAIRS", str(limit))
        made = ["preference", "decorrelate", "gate", "model", "evaluate"]
        assert [step.name for step in pipeline(finished) if step.reason] == made
        record = read_record(store, store.find("evaluate"), Evaluation)
        assert set(record.rewardbench.baselines) == names
        assert (record.pairs.probe.n_train if record.pairs.probe else 0) == limit
        told = [title for section in evaluation_sections(record) for title in section.columns if "probe" in title]
        assert all("converged" in title for title in told)
        assert len(told) == 3 * (limit > 0)


def test_rows_are_conserved(ran: Store) -> None:
    differing = "SELECT dataset FROM datasets WHERE rows <> kept + rejected + dropped"
    assert query(ran, differing).rows == []
    counted = "SELECT dataset, count(*) FROM native_rows GROUP BY 1"
    assert query(ran, f"SELECT dataset, rows FROM datasets EXCEPT ({counted})").rows == []
    two_sides = "SELECT prompt_id FROM ratings GROUP BY 1 HAVING count(DISTINCT split) > 1"
    assert query(ran, two_sides).rows == []


def test_stored_scores_are_those_of_the_model(finished: Path) -> None:
    rows = query(
        store_of(finished),
        """
        SELECT c.vector, p.vector, score_chosen FROM pair_scores JOIN preferences USING (pair_id)
        JOIN features AS c ON c.kind = 'conversation' AND c.id = chosen_id
        JOIN features AS p ON p.kind = 'prompt' AND p.id = prompt_id
        """,
    ).rows
    artifact = store_of(finished).find("model")
    model = RewardHead.load(finished.parent / "models" / artifact.artifact_id)
    X_ND, H_ND, score_N = (np.array(column, dtype=np.float32) for column in zip(*rows, strict=True))
    assert np.abs(model.score_features(X_ND, H_ND).score - score_N).max() < 1e-5


def test_differences_of_features_are_read_in_blocks_as_often_as_asked(
    ran: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge, "BLOCK_PAIRS", 7)
    reader = FeatureReader(ran, ran.find("evaluate").recipe.parameters["backbone"])
    stored = bridge.load_pairs(ran, backbone_id=ran.find("evaluate").recipe.parameters["backbone"])
    rows = np.flatnonzero(stored.usable("validation"))[::2]
    chosen_PD, rejected_PD = (
        reader.gather("conversation", ids[rows].tolist()) for ids in (stored.chosen_ids, stored.rejected_ids)
    )
    read = bridge.feature_differences(reader, stored, rows)
    for _ in range(2):
        blocks = list(read())
        assert max(map(len, blocks)) == 7
        np.testing.assert_array_equal(np.concatenate(blocks), chosen_PD - rejected_PD)


def test_stored_coefficients_are_those_of_the_model_for_every_held_out_prompt(
    finished: Path,
) -> None:
    store = store_of(finished)
    model = RewardHead.load(finished.parent / "models" / store.find("model").artifact_id)
    rows = query(
        store,
        """
        SELECT score_chosen, c.vector,
            list(weight ORDER BY list_position($objectives, objective)),
            list(coefficient ORDER BY list_position($objectives, objective))
        FROM pair_scores JOIN preferences USING (pair_id)
        JOIN gate_coefficients USING (prompt_id)
        JOIN features AS c ON c.kind = 'conversation' AND c.id = chosen_id
        GROUP BY pair_id, score_chosen, c.vector
        """.replace("$objectives", str(list(model.objectives))),
    ).rows
    score_N, X_ND, weights_NK, coefficients_NK = (np.array(c, dtype=np.float32) for c in zip(*rows, strict=True))
    assert np.abs(weights_NK.sum(axis=1) - 1).max() < 1e-5
    assert np.abs((model.rewards(X_ND) * coefficients_NK).sum(axis=1) - score_N).max() < 1e-5
    held_out = "SELECT prompt_id FROM preferences WHERE split IN ('test', 'evaluation')"
    differing = "(({0}) EXCEPT ({1})) UNION ALL (({1}) EXCEPT ({0}))"
    assert query(store, differing.format(held_out, "SELECT prompt_id FROM gate_coefficients")).rows == []


def test_the_report_names_every_dataset_and_objective(ran: Store) -> None:
    report = load_report(ran)
    sections = {section.id: section for section in report.sections}
    assert len(sections["datasets"].rows) == len(SOURCES)
    without = sections.get("untrained")
    assert len(sections["objectives"].rows) + (len(without.rows) if without else 0) == len(OBJECTIVES)
    after = [row[3] for row in sections["decorrelation"].rows if row[3]]
    assert all(abs(float(str(correlation))) < 0.01 for correlation in after)
    assert json.dumps([section.rows for section in report.sections])


def test_a_dataset_that_is_no_longer_configured_leaves_the_snapshot(config: Path) -> None:
    from armorm.flows.ingest import ingest

    ingest(config)
    text = config.read_text()
    start = text.index("[datasets.preference-test-sets]")
    config.write_text(text[:start] + text[text.index("[split]") :])
    ingest(config)
    names = query(store_of(config), "SELECT dataset FROM datasets").rows
    assert len(names) == len(SOURCES) - 1
    assert ("preference-test-sets",) not in names


def test_texts_without_a_usable_vector_are_left_out_and_counted(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from armorm.features.embedding import backbone

    original = backbone.forward

    def forward(model: Any, last_layer: Any, pack: Pack) -> Any:
        states_WD = original(model, last_layer, pack).clone()
        for row, wanted in enumerate(pack.features):
            if len(wanted.id) == 32 and wanted.id.endswith("00"):  # no canary
                states_WD[row] = float("nan")
        return states_WD

    monkeypatch.setattr(backbone, "forward", forward)
    lines = {step.name: step.what for step in pipeline(config)}
    n_rejected = query(store_of(config), "SELECT count(*) FROM rejects WHERE dataset LIKE 'backbone/%'").rows[0][0]
    assert n_rejected > 0
    n_ratings = read_record(store_of(config), store_of(config).find("regress"), RegressionResult).rejected_ratings
    n_pairs = read_record(store_of(config), store_of(config).find("evaluate"), Evaluation).rejected_pairs
    assert (n_ratings > 0, n_pairs > 0) == (True, True)
    assert f" {n_ratings} " in lines["regress"]
    assert f" {n_pairs} pairs" in lines["evaluate"]
    left = "SELECT count(*) FROM preferences ANTI JOIN pair_scores USING (pair_id)"
    lost = f"{left} WHERE chosen_id LIKE '%00' OR rejected_id LIKE '%00' OR prompt_id LIKE '%00'"
    assert query(store_of(config), left).rows == query(store_of(config), lost).rows
    assert [step for step in pipeline(config) if step.reason] == []


class Killed(BaseException):
    """The process is no more."""


def test_a_killed_gate_goes_on_to_the_same_bits(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the very same training takes it up, and nothing is left of it in the end."""
    store = store_of(finished)
    (backbone_id,) = store.head().within("backbone")
    config = GateConfig(hidden_dim=16, steps=30, batch_size=64, seed=5, save_every_s=0, early_stopping=0)
    seen: list[int] = []

    def train(seed: int, stop: int = 0) -> str:
        def on_progress(done: int, total: int) -> None:
            seen.append(done)
            if done == stop:
                raise Killed

        seen.clear()
        with store.writing("test") as writer:
            done = gate.GATE.ensure(writer, replace(config, seed=seed), backbone_id, on_progress=on_progress)
        return done.artifact.objects["tensors"].sha256

    before = store.head().artifacts["gate"]
    with pytest.raises(Killed):
        train(seed=5, stop=17)
    number = store.head().number
    assert store.head().artifacts["gate"] == before
    killed = store.storage.read(gate.UNFINISHED)
    resumed = train(seed=5)
    assert seen == list(range(17, 31)), "what was put aside is of the step before"
    assert store.head().number == number + 1
    with pytest.raises(NotInStore):
        store.storage.read(gate.UNFINISHED)

    store.storage.replace(gate.UNFINISHED, killed)
    other = train(seed=6)
    assert seen == list(range(1, 31)), "another training does not take it up"
    store.storage.replace(gate.UNFINISHED, killed[:-1] + b"x")
    assert train(seed=5) == resumed != other
    assert seen == list(range(1, 31)), "nor is it taken up when it is damaged"


def test_correlations_are_measured_on_every_dataset(ran: Store) -> None:
    held_out = "SELECT DISTINCT dataset FROM correlations WHERE part = 'held_out'"
    rated = (
        "SELECT dataset FROM ratings WHERE split IN ('test', 'evaluation') "
        "UNION SELECT dataset FROM preferences WHERE split IN ('test', 'evaluation')"
    )
    assert query(ran, f"({rated}) EXCEPT ({held_out})").rows == []
    lengths = "SELECT count(DISTINCT nuisance), min(n_prompts) FROM correlations"
    assert query(ran, lengths).rows[0][0] == 2
    reference = (
        "SELECT max(abs(after)), max(abs(before)) FROM correlations WHERE part = 'reference' AND nuisance <> 'n_tokens'"
    )
    ((after, before),) = query(ran, reference).rows
    assert before > 0.2
    assert after < 0.03, "a step, of so few responses"
    assert {"correlation", "gate-training", "calibration"} <= {section.id for section in load_report(ran).sections}


def test_no_artifact_holds_a_sentence_and_each_has_its_line(ran: Store) -> None:
    """What a summary says are figures, names and enums; those of the backbone and of sources are other people's."""
    for artifact in ran.head().artifacts.values():
        stage = STAGES[artifact.recipe.stage]
        assert not {"line", "warning"} & artifact.summary.keys()
        assert stage.line(ran, artifact)
    shown = {slot: what for slot, _, _, what in store_status(ran, ran.head(), STAGES).rows}
    gate = read_record(ran, ran.find("gate"), GateResult).gate
    assert f"{gate.n_pairs} pairs" in shown["gate"]
    assert all(shown.values())


def test_the_length_head_takes_length_out_of_every_objective(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an objective of its own, which predicts length and has no weight, and T keeps the rank of the others."""
    monkeypatch.setenv("ARMORM_DECORRELATION__NUISANCE", LENGTH)
    monkeypatch.setenv("ARMORM_DECORRELATION__REFERENCE", ALL_ANSWERS)
    pipeline(finished)
    store = store_of(finished)
    result = read_record(store, store.find("decorrelate"), DecorrelationResult)
    assert result.length
    assert result.length.test_r2 > 0.3
    assert result.objectives[-1] == LENGTH
    (folder,) = {store.find("model").artifact_id}
    model = RewardHead.load(finished.parent / "models" / folder)
    assert np.linalg.matrix_rank(model.transform_KK) == len(model.objectives) - 1
    assert not model.transform_KK[:, -1].any()
    assert result.decorrelation.reference == ALL_ANSWERS
    after = query(store, "SELECT max(abs(after)) FROM correlations WHERE part = 'reference' AND nuisance = 'length'")
    assert after.rows[0][0] < 0.01
    gate = read_record(store, store.find("gate"), GateResult).gate
    assert gate.left_out[LENGTH] == "nuisance"
    with trace(store, store.find("decorrelate").artifact_id, stages=PIPELINE) as traced:
        assert traced.agrees
