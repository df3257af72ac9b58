"""Which judges are meant: names of the configuration, models, folders and files."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from armorm.features.embedding.fingerprint import BackboneSettings
from armorm.features.embedding.folder import CONFIG, read_json
from armorm.features.errors import InputError, NotInStore
from armorm.features.store import Artifact, Store
from armorm.judges.judge import Judge
from armorm.judges.models import find_model
from armorm.judges.settings import (
    ClassifierSettings,
    EndpointSettings,
    FileSettings,
    ImplicitSettings,
    JudgeSettings,
    PairwiseSettings,
)
from armorm.scoring.backbones import require_backbone
from armorm.scoring.reward_model import RewardModel
from armorm.stages.data import load_pairs
from armorm.stages.model import load_model

if TYPE_CHECKING:
    from armorm.features.embedding.backbone import Backbone
    from armorm.judges.reward_models import Vectors
    from armorm.model.head import RewardHead


class Judges:
    """Opens judges over one store; those of one backbone share its vectors."""

    def __init__(
        self,
        store: Store,
        configured: Mapping[str, JudgeSettings],
        backbone: BackboneSettings,
        *,
        token_budget: int,
    ) -> None:
        self._store = store
        self._configured = configured
        self._backbone = backbone
        self._token_budget = token_budget
        self._vectors: dict[str, Vectors] = {}

    def open(self, names: Sequence[str]) -> list[Judge]:
        """Return the judges that are named; none: the promoted or newest model, and all that are configured.

        Raises:
            InputError: there is none of a name.
        """
        if names:
            return [self._named(name) for name in names]
        try:
            find_model("", self._store)
        except NotInStore:
            own: list[Judge] = []
        else:
            own = [self._of_store("")]
        return [*own, *(self._named(name) for name in self._configured)]

    def of_model(self, artifact: Artifact, name: str) -> Judge:
        """Return a model of the store, by a name of one's own."""
        return self._reward_model(name, load_model(self._store, artifact), None)

    def _named(self, name: str) -> Judge:
        if name in self._configured:
            return self._of_settings(name, self._configured[name])
        path = Path(name)
        if path.is_file() and path.suffix != ".gguf":
            return self._of_settings(path.stem, FileSettings(path=name))
        if path.is_dir():
            return self._of_folder(path)
        try:
            return self._of_store(name)
        except NotInStore as error:
            known = ", ".join(self._configured) or "none"
            raise InputError(
                f"got judge {name}; expected a name of [judges] ({known}), a model's id, a folder, or a file of "
                "verdicts; correct it"
            ) from error

    def _of_store(self, name: str) -> Judge:
        artifact = find_model(name, self._store)
        return self.of_model(artifact, f"model {artifact.artifact_id[:8]}")

    def _of_folder(self, folder: Path) -> Judge:
        """Return a reward classifier, or a model of armorm or in the published layout."""
        config = read_json(folder, CONFIG) if (folder / CONFIG).is_file() else {}
        kinds = [str(kind) for kind in config.get("architectures") or ()]
        gated = any(name == "num_objectives" or name.startswith("gating_") for name in config)
        if kinds and not gated and all(kind.endswith("ForSequenceClassification") for kind in kinds):
            return self._of_settings(folder.name, ClassifierSettings(path=str(folder)))
        given = RewardModel.load(folder, backbone=self._backbone, device=self._backbone.device)
        return self._reward_model(folder.name, given, lambda: given.loaded_backbone)

    def _reward_model(self, name: str, model: "RewardHead", load: "Callable[[], Backbone] | None") -> Judge:
        from armorm.judges.reward_models import RewardModelJudge, Vectors

        def configured() -> "Backbone":
            from armorm.features.embedding.backbone import load as load_backbone

            return load_backbone(self._backbone, require_backbone(self._backbone, model))

        vectors = self._vectors.setdefault(
            model.backbone_id, Vectors(self._store, model.backbone_id, load or configured, self._token_budget)
        )
        return RewardModelJudge(name, model, vectors)

    def _of_settings(self, name: str, settings: JudgeSettings) -> Judge:
        if isinstance(settings, EndpointSettings):
            from armorm.judges.endpoint import Endpoint

            return Endpoint(name, settings)
        if isinstance(settings, FileSettings):
            from armorm.judges.verdict_file import VerdictFile

            stored = load_pairs(self._store, backbone_id="")
            ids = zip(stored.chosen_ids, stored.rejected_ids, strict=True)
            return VerdictFile(name, Path(settings.path), dict(zip(stored.pair_ids, ids, strict=True)))
        from armorm.judges.language_models import Classifier, ImplicitReward, Pairwise

        if isinstance(settings, ClassifierSettings):
            return Classifier(name, settings, self._token_budget)
        if isinstance(settings, ImplicitSettings):
            return ImplicitReward(name, settings, self._token_budget)
        assert isinstance(settings, PairwiseSettings)
        return Pairwise(name, settings, self._token_budget)
