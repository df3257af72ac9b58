"""The content-addressed store: objects, recipes, artifacts, snapshots."""

from armorm.features.store.artifacts import (
    Artifact,
    ObjectRef,
    Pointer,
    Recipe,
    Run,
    Snapshot,
    canonical_json,
    content_id,
)
from armorm.features.store.store import Done, Made, Observer, Store, Writer

__all__ = [
    "Artifact",
    "Done",
    "Made",
    "ObjectRef",
    "Observer",
    "Pointer",
    "Recipe",
    "Run",
    "Snapshot",
    "Store",
    "Writer",
    "canonical_json",
    "content_id",
]
