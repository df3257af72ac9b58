"""Puts the three stages' results together into one reward model, and writes models as folders."""

from collections.abc import Sequence
from pathlib import Path

from armorm.config import GateConfig
from armorm.model import RewardModel
from armorm.stages import decorrelate, gate, regress
from armorm.stages.common import Json, read_record, read_tensors, stage_artifact
from features.store import Artifact, Done, Made, Recipe, Snapshot, Store, Writer

STAGE = "model"
STAGE_VERSION = 3

ROW_SETS = {"regression": regress.STAGE, "decorrelation": decorrelate.STAGE, "gate": gate.STAGE}
"""Each set of rows that a model was trained on, and the stage that saw it."""


def assemble(writer: Writer, backbone_id: str) -> Done:
    """One model of the newest regression, decorrelation and gate."""
    store = writer.store
    snapshot = store.head()
    parts = {stage: stage_artifact(snapshot, stage) for stage in (regress.STAGE, decorrelate.STAGE, gate.STAGE)}
    backbone = snapshot.artifacts[f"backbone/{backbone_id}"]
    inputs = {stage: part.artifact_id for stage, part in parts.items()} | {"backbone": backbone.artifact_id}

    def make() -> Made:
        records = {stage: read_record(store, part) for stage, part in parts.items()}
        training_rows = {name: records[stage].pop("training_rows") for name, stage in ROW_SETS.items()}
        objectives, W_KD = regress.read_regression(store)
        model = RewardModel(
            objectives=objectives,
            untrained=records[regress.STAGE]["untrained"],
            W_KD=W_KD,
            transform_KK=decorrelate.read_transform(store),
            gate_state=read_tensors(store, parts[gate.STAGE]),
            gate_config=GateConfig(**parts[gate.STAGE].recipe.parameters["settings"]),
            beta=records[gate.STAGE]["gate"]["beta"],
            nuisance=records[decorrelate.STAGE]["decorrelation"]["nuisance"],
            backbone_id=backbone_id,
            backbone=dict(backbone.recipe.parameters),
            scales=_scales(snapshot, objectives),
            metrics={name: value for record in records.values() for name, value in record.items()},
            training_rows=training_rows,
            inputs={name: id for part in parts.values() for name, id in part.recipe.inputs.items()} | inputs,
        )
        tensors, description = model.to_bytes()
        objects = {
            "tensors": store.objects.put_bytes("safetensors", tensors),
            "description": store.objects.put_bytes("json", description),
        }
        return Made(objects, {"line": f"{len(objectives)} objectives over {W_KD.shape[1]} features"})

    return writer.ensure(Recipe(STAGE, STAGE, STAGE_VERSION, parameters={}, inputs=inputs), make)


def load_model(store: Store, artifact: Artifact) -> RewardModel:
    """The reward model of an artifact of this stage."""
    tensors, description = (store.objects.read_bytes(artifact.objects[name]) for name in ("tensors", "description"))
    return RewardModel.from_bytes(tensors, description)


def write_model_folder(store: Store, models: Path) -> Path:
    """Writes the newest model below `models`, under its id, and says where; a folder that is there already stays."""
    artifact = store.find(STAGE)
    folder = models / artifact.artifact_id
    load_model(store, artifact).save(folder)
    return folder


def _scales(snapshot: Snapshot, objectives: Sequence[str]) -> Json:
    """Objective to dataset to native scale: the same objective may have another scale in another dataset."""
    ingested = snapshot.within("ingest").items()
    return {
        objective: {name: a.summary["scales"][objective] for name, a in ingested if objective in a.summary["scales"]}
        for objective in objectives
    }
