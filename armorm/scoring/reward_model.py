"""A reward model with a backbone: conversations in, scores and what made them out.

Suffixes: N conversations, D feature size, K objectives.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from armorm.config import NO_NUISANCE
from armorm.errors import ModelError, ModelFolderError
from armorm.features.conversation import Conversation, MalformedConversation, conversation_id, prompt_id
from armorm.features.embedding.fingerprint import BackboneSettings, Fingerprint, read_fingerprint
from armorm.features.embedding.folder import refuse_other_formats
from armorm.features.embedding.vectors import Reject, embed_conversations
from armorm.features.errors import InputError
from armorm.features.objectives import OBJECTIVES, Scale
from armorm.features.sources import SOURCES
from armorm.features.sources.given import Given, one_conversation
from armorm.maths.steering import Steering
from armorm.model.head import DESCRIPTION_FILE, TENSORS_FILE, RewardHead, Scores
from armorm.scoring.backbones import own_backbone, require_backbone

if TYPE_CHECKING:
    from armorm.features.embedding.backbone import Backbone

Floats = NDArray[np.floating]
Json = dict[str, Any]

TOKEN_BUDGET: Final = 8192
"""Tokens of a forward pass, where none is said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationScores(Scores):
    """What a model makes of N conversations, and what it says of them besides."""

    native: Floats
    """`[N, K]` the rewards in the units that the objective was rated in; NaN where its datasets have several."""
    truncated: NDArray[np.bool_]
    """`[N]` True for a text that lost its beginning, being longer than the backbone allows."""


class Unscored(InputError):
    """A conversation that gets no vector, by its place among those given."""

    def __init__(self, place: int, detail: str) -> None:
        super().__init__(f"conversation {place}: no vector of it: {detail}")
        self.place = place
        self.detail = detail


@dataclass(frozen=True, eq=False, kw_only=True)
class RewardModel(RewardHead):
    """A reward model that was loaded, with the backbone that it scores conversations by, if there is one."""

    backbone_settings: BackboneSettings | None = None
    """The settings of the backbone: that of its own folder, or as given."""
    fingerprint: Fingerprint | None = None
    """The fingerprint of that backbone."""

    def __post_init__(self) -> None:
        RewardHead.__post_init__(self)
        try:
            native_units(np.empty((0, len(self.objectives))), self.objectives, self.scales)
        except (TypeError, ValueError, AttributeError) as error:
            raise ModelError(
                f"got scales that are malformed ({error}); expected the files of an export; copy it again"
            ) from error

    @classmethod
    def load(cls, folder: str | Path, *, backbone: str | BackboneSettings | None = None, device: str = "cpu") -> Self:
        """Read the heads of a saved model: armorm's own two files, or a folder in the published model's layout.

        The layout is read without remote code, so the released ArmoRM can be loaded, too. The backbone itself is loaded
        at the first conversation.

        Args:
            folder: of `armorm run`, of `armorm export`, or downloaded.
            backbone: for a folder without one: a folder or Hub id, or all settings; it has to be the one that the model
                was trained on. In the layout, the folder's own is taken, and of settings where system turns go.

        Raises:
            ModelFolderError: a file is missing, damaged, or of another format version.
            BackboneError: the backbone is not to be found, or not the model's.
        """
        from armorm.export import layout  # torch and transformers, seconds to import

        folder = Path(folder)
        if not layout.is_layout(folder):
            refuse_other_formats(folder)
            model = super().load(folder)
            if backbone is None:
                return model
            settings = BackboneSettings(path=backbone, device=device) if isinstance(backbone, str) else backbone
            return replace(model, backbone_settings=settings, fingerprint=require_backbone(settings, model))
        found = layout.read_layout(folder)
        record = (found.description or {}).get("backbone", {})
        system = backbone.system if isinstance(backbone, BackboneSettings) else "template"
        settings = own_backbone(folder, found.config, record, device, system=system)
        fingerprint = read_fingerprint(settings)
        layout.require_unchanged(folder, found, {**fingerprint.record["weights"], **fingerprint.record["tokenizer"]})
        described = found.description or _described(found, fingerprint)
        beta = np.array([found.config.get("beta", np.nan)], np.float32)  # not all publish it
        try:
            model = cls.from_parts({**found.heads, "beta": beta}, described)
        except ModelError as error:
            raise ModelFolderError(folder, str(error)) from error
        return replace(model, backbone_settings=settings, fingerprint=fingerprint)

    @cached_property
    def loaded_backbone(self) -> "Backbone":
        """The backbone with its tokenizer.

        Raises:
            ModelFolderError: the model has none.
        """
        from armorm.features.embedding.backbone import load  # torch and transformers, seconds to import

        if self.backbone_settings is None or self.fingerprint is None:
            raise ModelError(
                f"got a model without a backbone ({TENSORS_FILE} and {DESCRIPTION_FILE} alone); expected one to read "
                "conversations with; load it with backbone=.., or load a folder of `armorm export`"
            )
        return load(self.backbone_settings, self.fingerprint)

    def score(
        self,
        conversations: Sequence[Given],
        *,
        steering: Steering | None = None,
        lower: float | None = None,
        token_budget: int = TOKEN_BUDGET,
    ) -> ConversationScores:
        """Score conversations, in passes over many of them at once.

        Args:
            conversations: each a list of messages, a `(prompt, response)` of texts, or a mapping with `messages`, or
                with `prompt` and `response`.
            steering: overrides the gate's weights.
            lower: the probability with which a score may be below its lower bound, such as 0.05; None for no bound.
            token_budget: tokens of a forward pass.

        Raises:
            InputError: one is no conversation, or gets no vector.
            ModelError: the model has no errors of its rewards, which a bound needs.
        """
        read: list[Conversation] = []
        for place, given in enumerate(conversations):
            try:
                read.append(one_conversation(given))
            except MalformedConversation as malformed:
                raise InputError(f"conversation {place}: {malformed}") from malformed
        return score_conversations(
            self, self.loaded_backbone, read, steering=steering, lower=lower, token_budget=token_budget
        )


def score_conversations(
    model: RewardHead,
    backbone: "Backbone",
    conversations: Sequence[Conversation],
    *,
    steering: Steering | None = None,
    lower: float | None = None,
    token_budget: int = TOKEN_BUDGET,
) -> ConversationScores:
    """Score conversations; each distinct text is embedded once.

    Raises:
        Unscored: one gets no vector: a score without it would be made up.
    """
    if lower is not None:
        model.require_bound(lower)
    distinct = {conversation_id(messages): messages for messages in conversations}
    prompts = {prompt_id(messages) for messages in distinct.values()}
    embedded = embed_conversations(backbone, list(distinct.values()), set(distinct), prompts, token_budget=token_budget)
    _refuse(conversations, embedded.rejects)
    found = {(feature.kind, feature.id): feature for feature in embedded.features}
    features = [found["conversation", conversation_id(messages)] for messages in conversations]
    prompt_features = [found["prompt", prompt_id(messages)] for messages in conversations]
    empty_0D = np.empty((0, model.W_KD.shape[1]), np.float32)
    X_ND, H_ND = (np.vstack([empty_0D, *(f.vector for f in of)]) for of in (features, prompt_features))
    scores = model.score_features(X_ND, H_ND, steering, lower=lower)
    truncated = [f.truncated or p.truncated for f, p in zip(features, prompt_features, strict=True)]
    return ConversationScores(
        **{name: getattr(scores, name) for name in Scores.__dataclass_fields__},
        native=native_units(scores.rewards, model.objectives, model.scales),
        truncated=np.array(truncated, dtype=bool),
    )


def native_units(rewards_NK: Floats, objectives: Sequence[str], scales: Mapping[str, Any]) -> Floats:
    """Return `[N, K]` rewards on the scale that the objective was rated on; NaN where that is not one scale."""
    ends_2K = np.full((2, len(objectives)), np.nan)
    for column, objective in enumerate(objectives):
        if scale := native_scale(scales.get(objective, {})):
            ends_2K[:, column] = scale.to_raw(0.0), scale.to_raw(1.0)
    return np.asarray(ends_2K[0] + rewards_NK * (ends_2K[1] - ends_2K[0]))


def native_scale(scales: Mapping[str, Any]) -> Scale | None:
    """Return the scale that an objective was rated on; None where its datasets have several, or none."""
    known = {Scale(**scale) for scale in scales.values()}
    return known.pop() if len(known) == 1 else None


def _refuse(conversations: Sequence[Conversation], rejects: Sequence[Reject]) -> None:
    why = {(reject.kind, reject.id): reject.detail for reject in rejects}
    for place, messages in enumerate(conversations):
        detail = why.get(("conversation", conversation_id(messages))) or why.get(("prompt", prompt_id(messages)))
        if detail:
            raise Unscored(place, detail)


def _described(found: Any, fingerprint: Fingerprint) -> Json:
    """Return what can be told of a model in the published layout that was not exported from here."""
    from armorm.export.layout import gate_shape

    n_objectives = len(found.heads["regression_layer.weight"])
    numbered = [f"objective-{number}" for number in range(1, n_objectives + 1)]
    names = found.config.get("objectives") or (OBJECTIVES if n_objectives == len(OBJECTIVES) else numbered)
    return {
        "format_version": 1,
        "objectives": list(names),
        "untrained": {},
        "gate": gate_shape(found.config),
        "nuisance": nuisance_of(found.heads["reward_transform_matrix"], names),
        "backbone_id": fingerprint.backbone_id,
        "backbone": dict(fingerprint.record),
        "scales": {name: _known_scales(name) for name in names},
        "metrics": {},
        "inputs": {},
    }


def nuisance_of(transform_KK: Floats, objectives: Sequence[str]) -> str | list[str]:
    """Return the objectives whose predictions a transform takes out of others, by name; `none` where there are none.

    Args:
        transform_KK: `[K, K]` T with `r' = r T`.
        objectives: names of its rows.
    """
    taken_out_K = np.asarray((transform_KK - np.diag(np.diag(transform_KK))).any(axis=1))
    found = [name for name, is_taken_out in zip(objectives, taken_out_K, strict=True) if is_taken_out]
    return found if len(found) > 1 else found[0] if found else NO_NUISANCE


def _known_scales(objective: str) -> Json:
    return {name: asdict(of.scales[objective]) for name, of in SOURCES.items() if objective in of.scales}
