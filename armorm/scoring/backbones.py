"""Which backbone gives the features that a model scores: the configured one, or the one in the model's own folder."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from armorm.features.embedding.fingerprint import BackboneSettings, Dtype, Fingerprint, SystemTurns, read_fingerprint
from armorm.features.errors import BackboneError
from armorm.model.head import RewardHead

DTYPES: Mapping[str, Dtype] = {"float32": "float32", "bfloat16": "bfloat16", "float16": "float16"}


def require_backbone(settings: BackboneSettings, model: RewardHead) -> Fingerprint:
    """Return the fingerprint of a backbone that has to be the one that a model was trained on.

    `system = "first_user"` may be set for it all the same: a template that refuses system turns saw none in training.

    Raises:
        BackboneError: it is another one.
    """
    fingerprint = read_fingerprint(settings)
    as_rendered = {name: value for name, value in fingerprint.record.items() if name != "system"}
    if model.backbone_id not in (fingerprint.backbone_id, replace(fingerprint, record=as_rendered).backbone_id):
        raise BackboneError(
            settings.path,
            f"got backbone {fingerprint.backbone_id}; expected {model.backbone_id}, which the model was trained on; "
            "configure that one, or train a model on this one",
        )
    return fingerprint


def own_backbone(
    folder: Path,
    config: Mapping[str, Any],
    record: Mapping[str, Any],
    device: str,
    *,
    system: SystemTurns = "template",
) -> BackboneSettings:
    """Return how the backbone in a model's folder is run: as it was for the model's features, as far as that is known.

    Args:
        record: of the backbone that the model was trained on; empty for a model that was not exported from here.
        system: where system turns go, if not the model's features say so.
    """
    stated = str(config.get("dtype") or config.get("torch_dtype"))
    return BackboneSettings(
        path=str(folder),
        dtype=DTYPES.get(record.get("dtype", stated), "float32"),
        max_tokens=record.get("max_tokens"),
        over_long=record.get("over_long", "cut_left"),
        system=record.get("system", system),
        device=device,
    )
