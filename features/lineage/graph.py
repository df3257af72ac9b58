"""Every artifact that any snapshot holds, and what each was made from. Reads manifests only."""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from itertools import chain, pairwise
from typing import Any, Final

from armorm.features.errors import NotInStore
from armorm.features.store import Artifact, Run, Snapshot, Store
from armorm.features.store.manifests import EMPTY

ID_DIGITS: Final = 32
"""Digits of an artifact's id; the SHA-256 of a native file has 64."""


@dataclass(frozen=True, slots=True)
class Node:
    """An artifact as it was made once: the same content, made again of other inputs, is another node."""

    number: int
    artifact: Artifact
    artifact_id: str
    run: Run | None
    """Who committed it."""
    inputs: Mapping[str, int | None]
    """Name to the input's node; None for what is no artifact, such as a native file, or is gone from the store."""
    first: int
    """The oldest snapshot that holds it."""
    last: int
    """The newest one."""

    @property
    def gone(self) -> list[str]:
        """Names of inputs that are artifacts which no snapshot holds any more."""
        ids = self.artifact.recipe.inputs
        return [name for name, number in self.inputs.items() if number is None and len(ids[name]) == ID_DIGITS]

    @property
    def stage(self) -> str:
        """The stage that made it."""
        return self.artifact.recipe.stage

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        recipe = self.artifact.recipe
        return {
            "artifact": self.artifact_id,
            "slot": recipe.slot,
            "stage": recipe.stage,
            "version": recipe.version,
            "settings": dict(recipe.parameters),
            "inputs": dict(recipe.inputs),
            "created_at": self.artifact.created_at,
            "run": self.run and asdict(self.run),
            "first_snapshot": self.first,
            "last_snapshot": self.last,
        }


@dataclass(frozen=True, slots=True)
class Graph:
    """The nodes by number, in the order in which they were made."""

    nodes: Mapping[int, Node]

    def find(self, id_prefix: str) -> Node:
        """Return the artifact whose id begins so; of several that hold the same content, the newest.

        Raises:
            NotInStore: there is none, or there are several.
        """
        found = [node for node in self.nodes.values() if id_prefix and node.artifact_id.startswith(id_prefix)]
        if len(ids := {node.artifact_id: node.stage for node in found}) != 1:
            listed = ", ".join(f"{stage} {id}" for id, stage in list(ids.items())[:5])
            raise NotInStore(
                f"got artifact {id_prefix or '(nothing)'}, of which the store has {len(ids)}"
                + (f" ({listed})" if ids else "")
                + "; expected the beginning of one id; see `armorm status`"
            )
        return max(found, key=lambda node: (node.last, node.number))

    def ancestors(self, number: int, *, without: Collection[str] = ()) -> list[Node]:
        """Return the node and all that it was made from, without some stages and what only they lead to."""
        found: dict[int, Node] = {}
        open_nodes = [number]
        while open_nodes:
            if (at := open_nodes.pop()) in found:
                continue
            found[at] = self.nodes[at]
            inputs = [n for n in found[at].inputs.values() if n is not None]
            open_nodes += [n for n in inputs if self.nodes[n].stage not in without]
        return [found[at] for at in sorted(found)]


def read_graph(store: Store) -> Graph:
    """Return all snapshots, one beside its parent at a time: a history of thousands is never in memory as a whole."""
    reader = _Reader()
    for newer, older in pairwise(chain(store.history(), [EMPTY])):
        reader.take(newer, older)
    return reader.graph()


Making = tuple[str, str]
"""Artifact id and key of the recipe."""


@dataclass(slots=True)
class _Reader:
    """What the snapshots say, from the newest to the oldest."""

    seen_last: dict[str, tuple[Artifact, int]] = field(default_factory=dict)
    """Slot to what stood there in the snapshot before, and the newest snapshot of that."""
    found: dict[Making, tuple[Artifact, Run | None, Mapping[str, Making | None], int, int]] = field(
        default_factory=dict
    )

    def take(self, newer: Snapshot, older: Snapshot) -> None:
        """Note what `newer` holds, and more of what it was the first to hold."""
        self.seen_last = {slot: self._since(slot, artifact, newer.number) for slot, artifact in newer.artifacts.items()}
        for slot, artifact in newer.artifacts.items():
            if older.artifacts.get(slot) != artifact:
                self._made(newer, artifact, self.seen_last[slot][1])

    def graph(self) -> Graph:
        """Return the nodes, the oldest first."""
        makings = sorted(self.found, key=lambda making: (self.found[making][3], self.found[making][0].recipe.slot))
        numbers = {making: number for number, making in enumerate(makings)}
        by_id = {id: number for (id, _), number in numbers.items()}
        nodes = {}
        for making, number in numbers.items():
            artifact, run, inputs, first, last = self.found[making]
            ids = artifact.recipe.inputs
            # The snapshot that it was committed to may have been collected: then any making of that content will do.
            of = {name: numbers[given] if given else by_id.get(ids[name]) for name, given in inputs.items()}
            nodes[number] = Node(number, artifact, making[0], run, of, first, last)
        return Graph(nodes)

    def _since(self, slot: str, artifact: Artifact, number: int) -> tuple[Artifact, int]:
        before = self.seen_last.get(slot)
        return before if before and before[0] == artifact else (artifact, number)

    def _made(self, snapshot: Snapshot, artifact: Artifact, last: int) -> None:
        """Note what was made: a stage reads the newest snapshot and commits the next, so its inputs stand beside it."""
        run = snapshot.run if snapshot.run and snapshot.run.run_id == artifact.run_id else None
        inputs = {name: _input(snapshot, name, id) for name, id in artifact.recipe.inputs.items()}
        making = _making(artifact)
        if known := self.found.get(making):
            last = known[4]
        self.found[making] = (artifact, run, inputs, snapshot.number, last)


def _making(artifact: Artifact) -> Making:
    return artifact.artifact_id, artifact.recipe.key


def _input(snapshot: Snapshot, name: str, id: str) -> Making | None:
    """Return the artifact that an input names: by its slot, or by the folder of slots that it is the only one of."""
    for slot in (name, *(f"{name}/{rest}" for rest in snapshot.within(name))):
        artifact = snapshot.artifacts.get(slot)
        if artifact and artifact.artifact_id == id:
            return _making(artifact)
    return None
