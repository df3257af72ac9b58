"""Puts the three stages' results together into one reward model, and writes models as folders."""

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from armorm.config import GateConfig
from armorm.errors import ModelError, ModelFolderError
from armorm.features.documents import encode
from armorm.features.errors import StoreError
from armorm.features.store import Artifact, Made, Recipe, Snapshot, Store
from armorm.features.store.json_records import Summary, read_record
from armorm.features.store.stage import Computed, OnProgress, Stage
from armorm.features.store.storage import file_sha256, replace_file
from armorm.features.store.summaries import ingests
from armorm.model.head import DESCRIPTION_FILE, TENSORS_FILE, UNCERTAINTY_FILE, RewardHead
from armorm.records.decorrelation import DecorrelationResult
from armorm.records.gate import GateResult
from armorm.records.regression import RegressionResult
from armorm.records.training import Training
from armorm.stages import decorrelate, gate, regress
from armorm.stages.common import Json, read_tensors, stage_artifact

STAGE = "model"
STAGE_VERSION = 5

FILES: Final = {TENSORS_FILE: "tensors", DESCRIPTION_FILE: "description", UNCERTAINTY_FILE: "uncertainty"}
"""The files of a model's folder, and the objects that they are copies of; an older model lacks the last."""

IS_MODEL: Final = re.compile("[0-9a-f]{32}")
"""The name of a model's folder, not of one that was left unfinished."""

PARTS: Final = (regress.STAGE, decorrelate.STAGE, gate.STAGE)
"""The stages that a model is put together from."""


@dataclass(frozen=True, slots=True)
class Size(Summary):
    """How large a model is."""

    objectives: int
    features: int


def _inputs(snapshot: Snapshot, backbone_id: str) -> dict[str, str]:
    """Return the parts of a model, and its backbone, to the ids of their artifacts."""
    parts = {stage: stage_artifact(snapshot, stage).artifact_id for stage in PARTS}
    return parts | {"backbone": snapshot.artifacts[f"backbone/{backbone_id}"].artifact_id}


def _recipe(stage: Stage, snapshot: Snapshot, backbone_id: str, settings: None) -> Recipe:
    inputs = _inputs(snapshot, backbone_id)
    return Recipe(stage.name, stage.name, stage.version, parameters={}, inputs=inputs)


def _make(store: Store, backbone_id: str, settings: None, on_progress: OnProgress) -> Made:
    snapshot = store.head()
    parts = {stage: stage_artifact(snapshot, stage) for stage in PARTS}
    regressed = read_record(store, parts[regress.STAGE], RegressionResult)
    decorrelated = read_record(store, parts[decorrelate.STAGE], DecorrelationResult)
    trained = read_record(store, parts[gate.STAGE], GateResult)
    seen = {
        regress.ROWS: regressed.training_rows,
        decorrelate.ROWS: decorrelated.training_rows,
        gate.STAGE: trained.training_rows,
    }
    heads = decorrelate.read_heads(store)
    uncertainty = parts[decorrelate.STAGE].objects["errors"]
    inputs = {name: id for part in parts.values() for name, id in part.recipe.inputs.items()}
    model = RewardHead(
        objectives=heads.objectives,
        untrained=regressed.untrained,
        W_KD=heads.W_KD,
        transform_KK=heads.transform_KK,
        gate_state=read_tensors(store, parts[gate.STAGE]),
        gate_config=GateConfig.of_record(parts[gate.STAGE].recipe.parameters["settings"]),
        beta=trained.gate.beta,
        nuisance=decorrelated.decorrelation.nuisance,
        backbone_id=backbone_id,
        backbone=dict(snapshot.artifacts[f"backbone/{backbone_id}"].recipe.parameters),
        scales=_scales(snapshot, heads.objectives),
        metrics=encode(Training.of(regressed, decorrelated, trained)),
        training_rows={name: rows for name, rows in seen.items() if rows},
        inputs=inputs | _inputs(snapshot, backbone_id),
        uncertainty_sha256=uncertainty.sha256,
    )
    tensors, description = model.to_bytes()
    objects = {
        "tensors": store.objects.put_bytes("safetensors", tensors),
        "description": store.objects.put_bytes("json", description),
        "uncertainty": uncertainty,
    }
    return Made(objects, Size(*heads.W_KD.shape))


MODEL: Final[Computed[None]] = Computed(
    name=STAGE,
    version=STAGE_VERSION,
    part="train",
    after=(gate.STAGE, decorrelate.STAGE, regress.STAGE),
    record=Size,
    line_of=lambda of: f"{of.objectives} objectives over {of.features} features",
    recipe_of=_recipe,
    make=_make,
)
"""One model of the newest regression, decorrelation and gate."""


def load_model(store: Store, artifact: Artifact) -> RewardHead:
    """Return the reward model of an artifact of this stage."""
    tensors, description = (store.objects.read_bytes(artifact.objects[name]) for name in ("tensors", "description"))
    model, kept = RewardHead.from_bytes(tensors, description), artifact.objects.get("uncertainty")
    return model if kept is None else replace(model, read_uncertainty=partial(store.objects.read_bytes, kept))


def write_model_folder(store: Store, models: Path) -> Path:
    """Write the newest model below `models`, under its id, and say where; a folder that is there already stays."""
    artifact = store.find(STAGE)
    folder = models / artifact.artifact_id
    load_model(store, artifact).save(folder)
    return folder


@dataclass(frozen=True, slots=True)
class FolderDamage:
    """A published model folder that is not the model of its name."""

    folder: str
    """Its name below `models/`: the model's id."""
    problem: str
    artifact: Artifact | None
    """What the folder can be written again from; None where the store has no such model, or not whole."""


def check_model_folders(store: Store, models: Path) -> list[FolderDamage]:
    """Compare every model folder below `models` with the artifact that it was made from.

    A folder whose model the store holds no more is held against its own digests.
    """
    known: dict[str, Artifact] = {}
    for number in store.manifests.numbers():
        with suppress(StoreError):  # of a damaged snapshot `verify` tells by itself
            known |= {
                a.artifact_id: a for a in store.manifests.read(number).artifacts.values() if a.recipe.stage == STAGE
            }
    folders = sorted(path for path in models.iterdir() if IS_MODEL.fullmatch(path.name)) if models.is_dir() else []
    return [damage for folder in folders if (damage := _damage(store, folder, known.get(folder.name)))]


def rewrite_model_folders(store: Store, models: Path, damages: Sequence[FolderDamage]) -> list[str]:
    """Write again what of damaged folders the store holds; returns their names. Other files of them stay."""
    rewritten = [damage for damage in damages if damage.artifact]
    for damage in rewritten:
        assert damage.artifact is not None
        for name, of in _files(damage.artifact).items():
            path = models / damage.folder / name
            if path.is_dir():
                raise ModelFolderError(path, "got a folder; expected a file; take it away")
            path.parent.mkdir(exist_ok=True)
            replace_file(path, store.objects.read_bytes(damage.artifact.objects[of]))
    return [damage.folder for damage in rewritten]


def _damage(store: Store, folder: Path, artifact: Artifact | None) -> FolderDamage | None:
    if artifact is None:
        try:
            loaded = RewardHead.load(folder)
            if loaded.uncertainty_sha256:
                loaded.require_bound(0.5)
        except ModelError as error:
            return FolderDamage(folder.name, str(error), None)
        return None
    files = _files(artifact)
    actual = {name: _sha256(folder / name) for name in files}
    wrong = [name for name, of in files.items() if actual[name] != artifact.objects[of].sha256]
    if not wrong:
        return None
    got = " and ".join(f"{'another' if actual[name] else 'no'} {name}" for name in wrong)
    problem = f"{folder}: got {got}; expected the files of the store's model; "
    try:
        load_model(store, artifact)
    except (StoreError, ModelError, OSError) as error:
        return FolderDamage(folder.name, f"{problem}the store's own are damaged as well: {error}", None)
    return FolderDamage(folder.name, f"{problem}see `armorm verify --repair`", artifact)


def _files(artifact: Artifact) -> dict[str, str]:
    return {name: of for name, of in FILES.items() if of in artifact.objects}


def _sha256(path: Path) -> str | None:
    try:
        return file_sha256(path) if path.is_file() else None
    except OSError:
        return None


def _scales(snapshot: Snapshot, objectives: Sequence[str]) -> Json:
    """Objective to dataset to native scale: the same objective may have another scale in another dataset."""
    known = ingests(snapshot)
    return {
        objective: {of.dataset: encode(of.scales[objective]) for of in known if objective in of.scales}
        for objective in objectives
    }
