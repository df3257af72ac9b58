"""How a snapshot's artifacts are spread over its manifest and the parts that it shares with earlier ones.

A part is an object that holds artifacts. Those of a snapshot are what its parts hold, and then what its manifest holds
itself; of one slot the last counts. So a commit writes what is new, and, ever more rarely, ever larger parts.
"""

from collections.abc import Mapping
from typing import Final

from armorm.features.store.artifacts import Artifact, ObjectRef

Artifacts = Mapping[str, Artifact]
"""Artifacts by slot."""

MAX_OWN: Final = 8
"""So many artifacts a manifest holds itself; with more they become a part."""


def arrange(artifacts: Artifacts, parts: Mapping[ObjectRef, Artifacts]) -> tuple[list[ObjectRef], Artifacts, Artifacts]:
    """Return which parts of the parent stay, what is to be a new part after them, and what the manifest holds itself.

    A new part takes in what still counts of those that hold no more than it, the latest first. So sizes at least double
    from each part to the one before: there are as many as the logarithm of the artifacts, and so often each is written.
    A part with a slot that is gone cannot stay.
    """
    kept = {ref: part for ref, part in parts.items() if part.keys() <= artifacts.keys()}
    held = {slot: artifact for part in kept.values() for slot, artifact in part.items()}
    rest = {slot: artifact for slot, artifact in artifacts.items() if held.get(slot) != artifact}
    if len(rest) <= MAX_OWN:
        return list(kept), {}, rest
    for ref, part in reversed(kept.copy().items()):
        counting = {slot: artifact for slot, artifact in part.items() if artifacts[slot] == artifact}
        if len(counting) <= len(rest):
            rest |= counting
            del kept[ref]
    return list(kept), rest, {}
