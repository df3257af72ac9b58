"""Which model is meant: a folder, an id or the beginning of one, the promoted one, the newest."""

from pathlib import Path

from armorm.features.errors import NotInStore
from armorm.features.store import Artifact, Store
from armorm.features.store.pointers import promoted
from armorm.model.head import RewardHead
from armorm.scoring.reward_model import RewardModel
from armorm.stages.model import STAGE, load_model


def find_model(name: str, store: Store) -> Artifact:
    """Return a model of the store by id or the beginning of one; else the promoted one, or the newest.

    Raises:
        NotInStore: there is none.
    """
    return store.find(STAGE, name or promoted(store, "model") or "")


def open_model(name: str, store: Store, models: Path) -> RewardHead:
    """Return a model of the store, or one below the folder of models that the store does not know.

    Raises:
        NotInStore: there is none.
        ModelFolderError: the folder is damaged.
    """
    try:
        return load_model(store, find_model(name, store))
    except NotInStore:
        folders = sorted(models.iterdir()) if name and models.is_dir() else []
        known = [folder for folder in folders if folder.name.startswith(name) and folder.is_dir()]
        if len(known) != 1:
            raise
        return RewardModel.load(known[0])
