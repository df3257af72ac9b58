"""The results of the newest model, read back from the store."""

from pathlib import Path

from armorm.report import Report, build_report, to_markdown
from armorm.stages import evaluate
from armorm.stages import model as model_stage
from armorm.stages.common import read_record, stage_artifact
from features.store import Store, canonical_json
from features.store.storage import replace_file


def load_report(store: Store) -> Report:
    """The result tables of the newest snapshot's model."""
    snapshot = store.head()
    artifact = stage_artifact(snapshot, model_stage.STAGE)
    model = model_stage.load_model(store, artifact)
    backbone = snapshot.artifacts[f"backbone/{model.backbone_id}"].summary
    return build_report(
        title=f"Reward model {artifact.artifact_id}",
        facts=[
            f"snapshot {snapshot.snapshot_id}",
            f"backbone {model.backbone_id} ({backbone['architecture']}, hidden size {backbone['hidden_size']})",
            f"gate trained on {model.metrics['gate']['n_pairs']} pairs, beta {model.beta:.1f}",
        ],
        datasets=[ingested.summary for ingested in snapshot.within("ingest").values()],
        model=model.metrics,
        evaluation=read_record(store, stage_artifact(snapshot, evaluate.STAGE)),
    )


def report_path(store: Store, models: Path) -> Path:
    """Where the newest model's report lies."""
    return models / store.find(model_stage.STAGE).artifact_id / "report.md"


def write_report(store: Store, models: Path) -> Path:
    """Puts the evaluation's figures and the report into the model's folder, and says where the report is."""
    folder = model_stage.write_model_folder(store, models)
    record = read_record(store, stage_artifact(store.head(), evaluate.STAGE))
    replace_file(folder / "evaluation.json", canonical_json(record))
    path = report_path(store, models)
    replace_file(path, to_markdown(load_report(store)).encode())
    return path
