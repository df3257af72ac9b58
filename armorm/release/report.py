"""The results of the newest model, read back from the store."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from armorm.features.catalog.views import connect
from armorm.features.documents import encode
from armorm.features.lineage.graph import Node, read_graph
from armorm.features.store import Store, canonical_json
from armorm.features.store.json_records import read_record, read_summary
from armorm.features.store.storage import replace_file
from armorm.features.store.summaries import BackboneSummary, ingests
from armorm.features.vectors.shards import SLOT as FEATURES
from armorm.model.head import RewardHead
from armorm.records.evaluation import Evaluation
from armorm.report.page import Texts, build_chapters, to_html
from armorm.report.sections import (
    Report,
    Section,
    build_report,
    coverage_section,
    own_published_sections,
    published_section,
    sources_section,
    to_markdown,
)
from armorm.stages import evaluate
from armorm.stages import model as model_stage
from armorm.stages.common import stage_artifact

MARKDOWN, PAGE = "report.md", "report.html"


def load_report(store: Store) -> Report:
    """Return the result tables of the newest snapshot's model."""
    snapshot = store.head()
    artifact = stage_artifact(snapshot, model_stage.STAGE)
    model = model_stage.load_model(store, artifact)
    backbone = read_summary(snapshot.artifacts[f"backbone/{model.backbone_id}"], BackboneSummary)
    return build_report(
        title=f"Reward model {artifact.artifact_id}",
        facts=[
            f"snapshot {snapshot.snapshot_id}",
            f"backbone {model.backbone_id} ({backbone.architecture}, hidden size {backbone.hidden_size})",
            f"gate trained on {model.training.gate.n_pairs if model.training.gate else 0} pairs, beta {model.beta:.1f}",
        ],
        datasets=ingests(snapshot),
        model=model.training,
        evaluation=read_record(store, stage_artifact(snapshot, evaluate.STAGE), Evaluation),
    )


def load_page(store: Store) -> str:
    """Return the same as one HTML file, with plots, the worst mistakes, and where the model comes from."""
    snapshot = store.head()
    model = model_stage.load_model(store, stage_artifact(snapshot, model_stage.STAGE))
    evaluated = stage_artifact(snapshot, evaluate.STAGE)
    evaluation = read_record(store, evaluated, Evaluation)
    report = load_report(store)
    sections = [
        sources_section(ingests(snapshot)),
        *report.sections,
        coverage_section(model.training, evaluation),
        published_section(evaluation.rewardbench),
        *own_published_sections(evaluation.benchmarks),
        _lineage_section(store, evaluated.artifact_id),
        _rows_section(model),
    ]
    report = replace(report, sections=[section for section in sections if section.rows])
    texts = _load_texts(store, [of.pair_id for of in evaluation.mistakes])
    return to_html(report, build_chapters(report, model=model.training, evaluation=evaluation, texts=texts))


def report_path(store: Store, models: Path) -> Path:
    """Return the path of the newest model's HTML report; the Markdown report is beside it."""
    return models / store.find(model_stage.STAGE).artifact_id / PAGE


def write_report(store: Store, models: Path) -> Path:
    """Put the evaluation's figures and the report into the model's folder, and say where the report is."""
    folder = model_stage.write_model_folder(store, models)
    record = read_record(store, stage_artifact(store.head(), evaluate.STAGE), Evaluation)
    replace_file(folder / "evaluation.json", canonical_json(encode(record)))
    replace_file(folder / MARKDOWN, to_markdown(load_report(store)).encode())
    replace_file(folder / PAGE, load_page(store).encode())
    return folder / PAGE


def _load_texts(store: Store, pair_ids: Sequence[str]) -> dict[str, Texts]:
    """Prompt and answers of pairs, by id."""
    with connect(store) as connection:
        rows = connection.execute(
            """
            WITH
                asked AS MATERIALIZED (
                    SELECT pair_id, chosen_id, rejected_id FROM preferences WHERE list_contains(?, pair_id)
                ),
                told AS (
                    SELECT conversation_id, any_value(messages) AS messages FROM texts
                    WHERE conversation_id IN (SELECT unnest([chosen_id, rejected_id]) FROM asked)
                    GROUP BY conversation_id
                )
            SELECT pair_id, chosen.messages[-2].content, chosen.messages[-1].content, rejected.messages[-1].content,
                len(chosen.messages) - 1
            FROM asked
            JOIN told AS chosen ON chosen.conversation_id = chosen_id
            JOIN told AS rejected ON rejected.conversation_id = rejected_id
            """,
            [list(pair_ids)],
        ).fetchall()
    return {pair_id: Texts(*of) for pair_id, *of in rows}


def _lineage_section(store: Store, artifact_id: str) -> Section:
    """Every artifact behind an evaluation, in the order in which they were made; shards of vectors are counted."""
    graph = read_graph(store)
    nodes = graph.ancestors(graph.find(artifact_id).number)
    shards = [node for node in nodes if node.artifact.recipe.slot.startswith(f"{FEATURES}/")]
    rows = [_lineage_row(node) for node in nodes if node not in shards]
    note = f"and {len(shards)} shards of vectors; `armorm trace` leads from each id to native files and lines"
    return Section("lineage", "Lineage", ["artifact", "id", "version", "made (UTC)", "by", "armorm"], rows, note)


def _lineage_row(node: Node) -> tuple[str | int, ...]:
    recipe, run = node.artifact.recipe, node.run
    by = (run.command, run.code_version) if run else ("", "")
    return (recipe.slot, node.artifact_id, recipe.version, node.artifact.created_at[:19], *by)


def _rows_section(model: RewardHead) -> Section:
    """Return the digests of the rows that training saw."""
    rows = [(name, of.n_rows, of.sha256) for name, of in (model.training_rows or {}).items()]
    return Section("training-rows", "Lineage: rows of training", ["stage", "rows", "SHA-256 of their keys"], rows)
