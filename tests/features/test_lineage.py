"""Lineage: `trace` gives the very rows that training saw, and `impact` agrees with it on every row and artifact."""

import gzip
import json
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from armorm.config import (
    PAPERS_GATE,
    DecorrelationConfig,
    EvaluationConfig,
    GateConfig,
    PreferenceConfig,
    RegressionConfig,
)
from armorm.features.catalog.query import QueryResult
from armorm.features.checks.contamination import CONTAMINATION, ContaminationSettings
from armorm.features.checks.quality import QUALITY
from armorm.features.conversation import SplitFractions, conversation_id, single_turn
from armorm.features.embedding import rejected
from armorm.features.embedding.embed import EmbedSettings, embed_missing
from armorm.features.embedding.fingerprint import BackboneSettings
from armorm.features.embedding.vectors import Reject
from armorm.features.errors import InputError, NotInStore
from armorm.features.ingest.dataset import DatasetFiles, ingest_dataset
from armorm.features.ingest.native import read_rows, source_row_id
from armorm.features.lineage import impact as impacts_of
from armorm.features.lineage import relations as of_artifacts
from armorm.features.lineage import trace as traces
from armorm.features.lineage.graph import read_graph
from armorm.features.lineage.impact import Key, impact_of
from armorm.features.lineage.trace import needed
from armorm.features.lineage.training_rows import RowSet
from armorm.features.sample import write_sample
from armorm.features.sources import complete_options, find_source
from armorm.features.store import Made, Recipe, Store, Writer
from armorm.features.vectors.shards import FeatureReader, Name
from armorm.maths import gate
from armorm.maths.gate import train_gate as fit
from armorm.stages import model as model_stage
from armorm.stages.data import load_pairs, reward_differences
from armorm.stages.decorrelate import DECORRELATE, read_heads
from armorm.stages.evaluate import EVALUATE
from armorm.stages.gate import GATE
from armorm.stages.pipeline import PIPELINE
from armorm.stages.preference import PREFERENCE_STAGE
from armorm.stages.regress import REGRESS
from armorm.stages.statistics import STATISTICS
from tests.features import tiny

impact, relations = (partial(of, stages=PIPELINE) for of in (impacts_of.impact, of_artifacts.relations))

GOLDEN = Path(__file__).parent.parent / "golden" / "store-1.tar.xz"
NAMES = ("helpsteer", "ultrafeedback", "beavertails-30k", "hh-rlhf", "rewardbench")
GATE_CONFIG = GateConfig(**{**PAPERS_GATE, "steps": 3}, hidden_dim=4, n_hidden=1, batch_size=16)

Seen = set[tuple[int, str, str]]
"""Node, dataset and native row."""


def trace(store: Store, id_prefix: str, **asked: Any) -> Any:
    """A trace with all of its rows at once."""
    with traces.trace(store, id_prefix, stages=PIPELINE, **asked) as found:
        return replace(found, rows=QueryResult(list(found.rows.columns), list(found.rows.rows)))


def ingest(writer: Writer, name: str, path: Path) -> None:
    source = find_source(name)
    ingest_dataset(writer, DatasetFiles(source, path, complete_options(source, {})), splits=SplitFractions())


def run(writer: Writer, data: Path, backbone: Path) -> str:
    """The pipeline; gives the model's id."""
    for name in NAMES:
        ingest(writer, name, data / name)
    QUALITY.ensure(writer, {})
    CONTAMINATION.ensure(writer, ContaminationSettings())
    embedded = embed_missing(writer, BackboneSettings(str(backbone)), EmbedSettings(shard_conversations=256))
    STATISTICS.ensure(writer, None, embedded.backbone_id)
    REGRESS.ensure(writer, RegressionConfig(alphas=(1.0, 10.0)), embedded.backbone_id)
    PREFERENCE_STAGE.ensure(writer, PreferenceConfig(objective="never"), embedded.backbone_id)
    DECORRELATE.ensure(writer, DecorrelationConfig(), embedded.backbone_id)
    GATE.ensure(writer, GATE_CONFIG, embedded.backbone_id)
    model = model_stage.MODEL.ensure(writer, None, embedded.backbone_id).artifact.artifact_id
    EVALUATE.ensure(writer, EvaluationConfig(n_resamples=10), embedded.backbone_id)
    return model


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lineage")


@pytest.fixture(scope="module")
def safety(home: Path) -> Path:
    """The file that changes between the two models."""
    write_sample(home / "data", scale=0.03)
    (file,) = (path for path in (home / "data" / "beavertails-30k").rglob("*") if path.is_file())
    return file


@pytest.fixture(scope="module")
def history(home: Path, safety: Path) -> tuple[Store, str, str]:
    """A store, the model of its first run, and that of its second, for which a dataset lost every third row."""
    store, backbone = Store(home / "store"), tiny.write_backbone(home / "backbone")
    with store.writing("first") as writer:
        first = run(writer, home / "data", backbone)
    lines = gzip.decompress(safety.read_bytes()).splitlines(keepends=True)
    safety.write_bytes(gzip.compress(b"".join(line for number, line in enumerate(lines) if number % 3)))
    with store.writing("second") as writer:
        second = run(writer, home / "data", backbone)
    assert first != second
    return store, first, second


def test_trace_reproduces_what_each_model_names(history: tuple[Store, str, str]) -> None:
    """Also of a model that no slot of the newest snapshot holds."""
    store, *models = history
    found = [trace(store, model, n_rows=0) for model in models]
    for of in found:
        assert {check.name: check.agrees for check in of.checks} == dict.fromkeys(
            ("regression", "decorrelation", "gate"), True
        )
        assert all(check.found.n_rows for check in of.checks)
        assert {"regress", "decorrelate", "gate", "embed", "backbone", "ingest"} < {n.stage for n in of.made_from}
        assert [record["hidden_size"] for record in of.backbones] == [32]
        for node in of.made_from:
            if node.stage in ("regress", "decorrelate", "gate"):
                (check,) = trace(store, node.artifact_id, n_rows=0).checks
                assert check.agrees
    first, second = ({check.name: check.found for check in of.checks} for of in found)
    assert first["regression"] != second["regression"]
    assert first["decorrelation"] == second["decorrelation"]


def test_trace_leads_to_the_line_of_the_file(history: tuple[Store, str, str], safety: Path) -> None:
    store, first, second = history
    objective = "beavertails-is_safe"
    rows = trace(store, second, objective=objective, texts=True).rows.records
    native = {row.line: row for row in read_rows(safety)}
    assert rows
    for row in rows:
        line = native[row["line"]]
        assert line.data
        assert (row["dataset"], row["objective"]) == ("beavertails-30k", objective)
        assert row["file"].endswith(safety.name)
        assert row["source_row"] == source_row_id(line.raw)
        assert row["messages"][-1]["content"] == line.data["response"]
        assert (row["raw"], row["usage"] in ("train", "validation")) == (float(line.data["is_safe"]), True)
    assert len(trace(store, first, objective=objective).rows.rows) > len(rows)
    licences = {row["dataset"]: row["licence"] for row in trace(store, second, n_rows=0).datasets.records}
    assert licences["helpsteer"] == find_source("helpsteer").licence


def traced(store: Store) -> Seen:
    """What `trace` says: asked of each artifact, over the tables that it needs."""
    graph = read_graph(store)
    found: Seen = set()
    for node in graph.nodes.values():
        with relations(store, needed(graph, node)) as connection:
            sql = "SELECT DISTINCT node, dataset, native_row FROM seen WHERE node = ?"
            found |= set(connection.execute(sql, [node.number]).fetchall())
    return found


def impacts(store: Store, every: int) -> tuple[Seen, set[str]]:
    """What `impact` says: asked of each row, or of every so manieth; and which rows these were."""
    graph = read_graph(store)
    found: Seen = set()
    with relations(store, graph.nodes.values()) as connection:
        sql = "SELECT DISTINCT source_row FROM stored_native_rows ORDER BY 1"
        asked = [row for (row,) in connection.execute(sql).fetchall()][::every]
        for row in asked:
            of = impact_of(connection, graph, Key("row", row))
            datasets = {place["dataset"] for place in of.places.records}
            found |= {(one.node.number, dataset, row) for one in of.affected for dataset in datasets}
    return found, set(asked)


def agreement(store: Store, every: int) -> None:
    by_artifact = traced(store)
    by_row, asked = impacts(store, every)
    assert by_row == {(node, dataset, row) for node, dataset, row in by_artifact if row in asked}
    assert {node for node, _, _ in by_artifact} == {
        node.number for node in read_graph(store).nodes.values() if node.stage not in ("backbone", "canary", "coverage")
    }


def test_trace_and_impact_agree(history: tuple[Store, str, str]) -> None:
    agreement(history[0], every=40)


@pytest.mark.slow
def test_trace_and_impact_agree_on_every_row_and_artifact(history: tuple[Store, str, str]) -> None:
    agreement(history[0], every=1)


def test_a_trace_needs_little_memory(history: tuple[Store, str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows do not carry the records of the stages that read them, and what has no room is spilled."""
    monkeypatch.setattr("armorm.features.lineage.relations.MEMORY", "96MB")
    found = [trace(history[0], model, texts=True) for model in history[1:]]
    assert all(one.agrees and one.rows.rows for one in found)


def test_impact_names_the_models_that_were_trained_on_a_row(history: tuple[Store, str, str]) -> None:
    store, first, second = history
    objective = "beavertails-is_safe"
    before, after = (
        {r["source_row"] for r in trace(store, m, objective=objective).rows.records} for m in (first, second)
    )
    gone, kept = min(before - after), min(before & after)
    assert [node.artifact_id for node in impact(store, gone).retrain] == [first]
    assert [node.artifact_id for node in impact(store, kept[:12]).retrain] == [first, second]
    (place,) = impact(store, gone).places.records
    assert (place["dataset"], place["outcome"]) == ("beavertails-30k", "kept")
    assert place["last_snapshot"] < store.head().number
    stages = [one.node.stage for one in impact(store, kept).affected]
    assert {"ingest", "quality", "contamination", "embed", "statistics", "regress", "model", "evaluate"} <= set(stages)


def use_of(store: Store, sql: str) -> dict[str, set[str]]:
    """Stage to the ways in which it saw the one row that a query gives."""
    with relations(store, read_graph(store).nodes.values()) as connection:
        ((id,),) = connection.execute(f"{sql} LIMIT 1").fetchall()
    ways: dict[str, set[str]] = {}
    for one in impact(store, id).affected:
        ways.setdefault(one.node.stage, set()).update(one.ways)
    return ways


def test_a_row_that_nothing_was_trained_on_is_told_from_one_that_something_was(history: tuple[Store, str, str]) -> None:
    store = history[0]
    rejected = use_of(store, "SELECT source_row FROM stored_native_rows WHERE outcome = 'rejected' ORDER BY 1")
    assert rejected == {"ingest": {"ingest rejected"}, "quality": {"quality checked"}}
    measured = use_of(
        store, "SELECT source_row FROM stored_ratings WHERE split = 'test' AND dataset = 'beavertails-30k' ORDER BY 1"
    )
    assert measured["model"] == {"regress test"}
    benchmark = use_of(store, "SELECT pair_id FROM stored_preferences WHERE dataset = 'rewardbench' ORDER BY 1")
    assert benchmark["evaluate"] == {"evaluate scored"}
    assert "model" not in benchmark
    left_out = use_of(
        store,
        """
        SELECT source_row FROM stored_ratings SEMI JOIN stored_contamination USING (prompt_id)
        WHERE dataset = 'beavertails-30k' AND split = 'train' ORDER BY 1
        """,
    )
    assert left_out["contamination"] == {"contamination left out"}
    assert not {"regress", "model"} & set(left_out)


@pytest.mark.parametrize("out_of_fold", [False, True])
def test_the_papers_gate_is_trained_on_the_rewards_of_the_final_weights(
    out_of_fold: bool, history: tuple[Store, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(history[0].place, tmp_path / "store")
    store, seen = Store(tmp_path / "store"), []
    monkeypatch.setattr(
        gate, "train_gate", lambda pairs, *given, **named: seen.append(pairs) or fit(pairs, *given, **named)
    )
    with store.writing("test") as writer:
        (backbone_id,) = store.head().within("backbone")
        GATE.ensure(writer, replace(GATE_CONFIG, steps=1, out_of_fold=out_of_fold), backbone_id)
    stored = load_pairs(store, backbone_id=backbone_id)
    training = stored.select(stored.usable("train"))
    expected_PK = reward_differences(FeatureReader(store, backbone_id), read_heads(store).W_KD, training)
    (pairs,) = seen
    assert np.allclose(pairs.differences_PK, expected_PK, atol=1e-6) is not out_of_fold


def test_pairs_that_may_end_a_training_are_of_it(history: tuple[Store, str, str], tmp_path: Path) -> None:
    """A validation pair gives a curve alone, until `early_stopping` lets it decide which gate is the result."""
    shutil.copytree(history[0].place, tmp_path / "store")
    store = Store(tmp_path / "store")
    with store.writing("test") as writer:
        (backbone_id,) = store.head().within("backbone")
        GATE.ensure(writer, replace(GATE_CONFIG, early_stopping=2), backbone_id)
        model = model_stage.MODEL.ensure(writer, None, backbone_id).artifact.artifact_id
    of_all_steps, stopped = ({check.name: check for check in trace(store, m).checks} for m in (history[2], model))
    assert all(check.agrees for check in (*of_all_steps.values(), *stopped.values()))
    assert stopped["gate"].found.n_rows > of_all_steps["gate"].found.n_rows
    rows = [r for r in trace(store, model).rows.records if (r["stage"], r["usage"]) == ("gate", "validation")]
    deciding = {(r["dataset"], r["source_row"], r["pair_id"]) for r in rows if r["trained_on"]}
    assert len(deciding) == stopped["gate"].found.n_rows - of_all_steps["gate"].found.n_rows
    for *_, pair_id in sorted(deciding)[::8]:
        found = impact(store, pair_id)
        assert [node.artifact_id for node in found.retrain] == [model]
        assert [{*one.ways} for one in found.affected if one.node.artifact_id == model] == [{"gate validation"}]


def test_what_a_backbone_rejects_was_not_trained_on(history: tuple[Store, str, str], tmp_path: Path) -> None:
    """Neither a model nor what is recomputed from its inputs holds such a row, and both still agree."""
    shutil.copytree(history[0].place, tmp_path / "store")
    store = Store(tmp_path / "store")
    (backbone_id,) = store.head().within("backbone")
    before = {check.name: check.found for check in trace(store, history[2], n_rows=0).checks}
    traced_rows = [row for row in trace(store, history[2]).rows.records if row["trained_on"]]
    rated = next(row for row in traced_rows if row["usage"] == "train" and row["dataset"] == "beavertails-30k")
    reference = next(row for row in traced_rows if row["usage"] == "reference")
    pairs = [row for row in traced_rows if row["pair_id"] and row["dataset"] == "hh-rlhf"]
    with relations(store, read_graph(store).nodes.values()) as connection:
        sql = "SELECT min(prompt_id) FROM items WHERE pair_id = ?"
        ((prompt,),) = connection.execute(sql, [pairs[1]["pair_id"]]).fetchall()
    lost: list[Name] = [
        ("conversation", rated["conversation_id"]),
        ("conversation", reference["conversation_id"]),
        ("conversation", pairs[0]["other_id"]),
        ("prompt", prompt),
    ]
    rejects = [Reject(kind, id, "not_finite", "") for kind, id in lost]
    with store.writing("test") as writer:
        ingested = store.head().ids_within("ingest")
        recipe = Recipe(f"rejected/{backbone_id}", "rejected", 1, {"vector_type": "float32"}, ingested)
        writer.commit_all(
            [rejected.change_of(store, recipe, rejects, dict.fromkeys(lost, ()), backbone_id=backbone_id)]
        )
        STATISTICS.ensure(writer, None, backbone_id)
        REGRESS.ensure(writer, RegressionConfig(alphas=(1.0, 10.0)), backbone_id)
        PREFERENCE_STAGE.ensure(writer, PreferenceConfig(objective="never"), backbone_id)
        DECORRELATE.ensure(writer, DecorrelationConfig(), backbone_id)
        GATE.ensure(writer, GATE_CONFIG, backbone_id)
        model = model_stage.MODEL.ensure(writer, None, backbone_id).artifact.artifact_id
        EVALUATE.ensure(writer, EvaluationConfig(n_resamples=10), backbone_id)
    found = trace(store, model)
    assert {check.name: check.agrees for check in found.checks} == dict.fromkeys(before, True)
    assert all(check.found.n_rows < before[check.name].n_rows for check in found.checks)
    ids = {id for _, id in lost}
    of_pairs = [row for row in found.rows.records if row["pair_id"]]
    assert not ids & {row["conversation_id"] for row in found.rows.records}
    assert not ids & {row["other_id"] for row in of_pairs}
    assert not {pairs[0]["pair_id"], pairs[1]["pair_id"]} & {row["pair_id"] for row in of_pairs}
    affected = impact(store, rated["conversation_id"]).affected
    assert "embed rejected" in {way for one in affected if one.node.stage == "rejected" for way in one.ways}
    assert model not in [one.node.artifact_id for one in affected]
    agreement(store, every=40)


def test_a_conversation_a_prompt_and_a_pair_lead_to_their_rows(history: tuple[Store, str, str]) -> None:
    store, _, second = history
    pairs = [row for row in trace(store, second).rows.records if row["stage"] == "gate" and row["trained_on"]]
    pair = next(row for row in pairs if row["dataset"] == "helpsteer")
    found = {id: impact(store, pair[id]) for id in ("pair_id", "conversation_id", "other_id")}
    rows = {id: {place["source_row"] for place in of.places.records} for id, of in found.items()}
    assert rows["pair_id"] == set(pair["source_row"].split("+"))
    assert [of.key.kind for of in found.values()] == ["pair", "conversation", "conversation"]
    for of in found.values():
        assert second in [node.artifact_id for node in of.retrain]


def test_a_pair_comes_from_all_rows_that_rate_its_answers(store: Store, writer: Writer, tmp_path: Path) -> None:
    """Their mean decides which answer is preferred, but one of them alone gives the pair its name."""

    def row(response: str, raw: int) -> dict[str, Any]:
        names = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
        return {"prompt": "p", "response": response} | dict.fromkeys(names, raw)

    lines = [row("a", 4), row("a", 3), row("b", 1), row("c", 1)]
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    ingest(writer, "helpsteer", tmp_path / "rows.jsonl")
    found = impact(store, conversation_id(single_turn("p", "a")))
    (ingested,) = found.affected
    assert ingested.ways == {"ingest kept": 2 * 5 + 2}, "the ratings of two rows, and two pairs"
    with relations(store, read_graph(store).nodes.values()) as connection:
        pairs = connection.execute("SELECT pair_id FROM stored_preferences").fetchall()
    assert len(pairs) == 2
    for (pair,) in pairs:
        assert {1, 2} < {place["line"] for place in impact(store, pair).places.records}


def test_a_model_that_names_other_rows_is_found_out(history: tuple[Store, str, str], tmp_path: Path) -> None:
    shutil.copytree(history[0].place, tmp_path / "store")
    store, second = Store(tmp_path / "store"), history[2]
    artifact = store.find("model", second)
    model = model_stage.load_model(store, artifact)
    assert model.training_rows
    other = replace(model, training_rows={**model.training_rows, "gate": RowSet(1, "00")})
    tensors, description = other.to_bytes()
    objects = {
        "tensors": store.objects.put_bytes("safetensors", tensors),
        "description": store.objects.put_bytes("json", description),
    }
    with store.writing("test") as writer:
        forged = writer.commit(replace(artifact.recipe, slot="forged"), Made(objects)).artifact_id
        writer.commit_all([], remove=["forged"])
    found = trace(store, forged)
    assert [check.name for check in found.checks if not check.agrees] == ["gate"]
    assert not found.agrees
    assert trace(store, second).agrees


def test_what_was_collected_is_named(history: tuple[Store, str, str], tmp_path: Path) -> None:
    """Only some of the snapshots may be kept: what they hold is traced, and what is missing is said."""
    store, first, second = history
    shutil.copytree(store.place, tmp_path / "store")
    kept = {node.artifact_id: node for node in read_graph(store).nodes.values() if node.stage == "model"}
    for path in (tmp_path / "store" / "snapshots").glob("*.json"):
        if int(path.stem) not in (kept[first].last, store.head().number):
            path.unlink()
    found = trace(Store(tmp_path / "store"), second, n_rows=0)
    assert (found.agrees, found.gone) == (True, [])
    older = trace(Store(tmp_path / "store"), first, n_rows=0)
    assert not older.agrees
    assert "regress" in older.gone


def test_a_store_of_the_first_format_can_be_traced(tmp_path: Path) -> None:
    with tarfile.open(GOLDEN) as archive:
        archive.extractall(tmp_path, filter="data")
    store = Store(tmp_path / "store")
    found = trace(store, store.find("model").artifact_id)
    assert [(check.recorded, check.agrees) for check in found.checks] == [(None, None)] * 3
    assert found.agrees
    assert found.rows.rows


@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (lambda store: impact(store, "abc"), InputError, "got key abc; expected 8 to 32 hex digits"),
        (lambda store: impact(store, "ABCDEF0123"), InputError, "expected 8 to 32 hex digits"),
        (lambda store: impact(store, "0" * 32), NotInStore, "of which the store has 0"),
        (lambda store: trace(store, "x"), NotInStore, "got artifact x, of which the store has 0"),
        (lambda store: trace(store, ""), NotInStore, r"got artifact \(nothing\)"),
        (lambda store: trace(store, store.find("gate").artifact_id, objective="x"), NotInStore, "got objective x"),
    ],
)
def test_what_is_not_there_is_said(
    history: tuple[Store, str, str], ask: Callable[[Store], Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        ask(history[0])


def test_several_ids_with_one_beginning_are_named(store: Store, writer: Writer) -> None:
    from tests.features.canonical import Dataset

    mine = Dataset("mine")
    for row in ("a" * 31 + "1", "a" * 31 + "2"):
        mine.rate(row, single_turn("p", row), 3)
    mine.commit(writer)
    with pytest.raises(NotInStore, match=r"has 2 \(row a{31}1, row a{31}2\); expected one; give more digits"):
        impact(store, "a" * 10)
    assert impact(store, "a" * 31 + "2").key == Key("row", "a" * 31 + "2")
