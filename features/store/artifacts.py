"""What the store keeps: objects, the recipes they were made by, and artifacts that tie both together.

Pure values and functions; nothing here touches a disk.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

Time = Annotated[str, AfterValidator(lambda text: datetime.fromisoformat(text) and text)]
"""UTC, ISO 8601."""

Whole = Annotated[int, Field(ge=0, lt=2**63)]


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """An immutable file, named by the SHA-256 of its bytes."""

    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    size_bytes: Whole
    format: Annotated[str, Field(pattern="^[a-z0-9]+$")]
    """`parquet`, `arrow`, `json` or `safetensors`; the file's suffix."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that decides an artifact's content. Equal keys mean: nothing to do."""

    slot: str
    """Where the artifact stands in a snapshot, e.g. `ingest/helpsteer`; one artifact a slot."""
    stage: str
    version: Whole
    """The stage's own version: raised when its code gives another result for the same input."""
    parameters: Mapping[str, Any]
    """The settings that matter to the result, as JSON values."""
    inputs: Mapping[str, str]
    """Name to content id of everything that is read."""

    @property
    def key(self) -> str:
        """32 hex digits over stage, version, parameters and inputs."""
        return content_id([self.stage, self.version, dict(self.parameters), dict(self.inputs)])


@dataclass(frozen=True, slots=True)
class Artifact:
    """What a stage made, with what it was made from, by which run."""

    recipe: Recipe
    objects: Mapping[str, ObjectRef]
    run_id: str
    created_at: Time
    summary: Mapping[str, Any] = field(default_factory=dict)
    """Counts and figures, so that listing needs no object; a sentence about them, `line`, in those of older stores."""
    provenance: Mapping[str, ObjectRef] = field(default_factory=dict)
    """Objects that say where the content came from (files and lines) and are no part of its identity."""

    @property
    def artifact_id(self) -> str:
        """32 hex digits over the content alone: the same content made twice has one id."""
        return content_id([self.recipe.stage, {name: ref.sha256 for name, ref in self.objects.items()}])


@dataclass(frozen=True, slots=True)
class Run:
    """One call of a command that writes."""

    run_id: str
    command: str
    started_at: str
    code_version: str


@dataclass(frozen=True, slots=True)
class Pointer:
    """A name that people give to something of the store, and may give to something else later."""

    kind: Literal["snapshot", "model", "backbone"]
    id: str
    """The id of the snapshot, of the model's artifact, or of the backbone."""
    number: Whole
    """The number of that snapshot, or of the newest one when the name was given."""
    set_at: Time


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One state of the whole store: which artifact stands in which slot, and which names point where."""

    number: int
    parent_sha256: str | None
    created_at: str
    run: Run | None
    artifacts: Mapping[str, Artifact]
    pointers: Mapping[str, Pointer] = field(default_factory=dict)
    expired: str | None = None
    """The id of a snapshot whose artifacts `gc` has taken out; it only tells what was."""
    parts: tuple[ObjectRef, ...] = ()
    """The objects that hold its artifacts, as far as its manifest does not hold them itself."""

    @property
    def snapshot_id(self) -> str:
        """32 hex digits over slots and content: neither time nor run, names nor history enter it."""
        return self.expired or content_id({slot: artifact.artifact_id for slot, artifact in self.artifacts.items()})

    def refs(self) -> Iterator[tuple[str | None, ObjectRef]]:
        """Yield every object that the snapshot names, with its artifact's slot; None for the parts."""
        yield from ((None, ref) for ref in self.parts)
        for slot, artifact in self.artifacts.items():
            yield from ((slot, ref) for ref in {**artifact.objects, **artifact.provenance}.values())

    def within(self, prefix: str) -> dict[str, Artifact]:
        """Return the artifacts whose slot is below `prefix`, by the rest of their slot's name, in order."""
        start = f"{prefix}/"
        return {s.removeprefix(start): self.artifacts[s] for s in sorted(self.artifacts) if s.startswith(start)}

    def ids_within(self, prefix: str) -> dict[str, str]:
        """Return artifact ids by slot below `prefix`, as a stage that reads them names its inputs."""
        return {f"{prefix}/{name}": artifact.artifact_id for name, artifact in self.within(prefix).items()}


def content_id(value: Any) -> str:
    """Return 32 hex digits of the SHA-256 of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(canonical_json(value)).hexdigest()[:32]


def canonical_json(value: Any) -> bytes:
    """Return JSON with sorted keys and no added spaces: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()


def why_stale(recipe: Recipe, existing: Artifact | None) -> str | None:
    """Say in words why a recipe has to be made again; return None if it need not be."""
    if existing is None:
        return "first time"
    if existing.recipe.key == recipe.key:
        return None
    before = existing.recipe
    reasons = [
        *([f"stage version {before.version} -> {recipe.version}"] if before.version != recipe.version else []),
        *_settings_changed(_flat(before.parameters), _flat(recipe.parameters)),
        *_inputs_changed(before.inputs, recipe.inputs),
    ] or ["inputs have other names"]
    shown = reasons[:3]
    return "; ".join(shown) + (f" and {len(reasons) - 3} more" if len(reasons) > 3 else "")


def _flat(parameters: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return settings by their names, those of a record within as `record.name`."""
    flat: dict[str, Any] = {}
    for name, value in parameters.items():
        nested = isinstance(value, Mapping) and value
        flat |= _flat(value, f"{prefix}{name}.") if nested else {f"{prefix}{name}": value}
    return flat


def _settings_changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    def describe(name: str) -> str:
        setting = f"setting {name.removeprefix('settings.')}"
        if name not in before:
            return f"{setting} is new"
        if name not in after:
            return f"{setting} is gone"
        return f"{setting} {before[name]} -> {after[name]}"

    return [describe(name) for name in sorted({*before, *after}) if before.get(name) != after.get(name)]


def _inputs_changed(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Say which inputs have changed; of a kind with several, such as shards, how many are new or gone."""
    kinds: dict[str, tuple[set[str], set[str]]] = {}
    for side, inputs in enumerate((before, after)):
        for name in inputs:
            kinds.setdefault(_kind(name), (set(), set()))[side].add(name)
    described = []
    for kind, (old, new) in sorted(kinds.items()):
        if len(old | new) == 1:
            (name,) = old | new
            change = "is new" if not old else "is gone" if not new else "changed"
            described += [f"input {name} {change}"] if before.get(name) != after.get(name) else []
            continue
        contents = [Counter(inputs[name] for name in names) for inputs, names in ((before, old), (after, new))]
        n_new, n_gone = (contents[1] - contents[0]).total(), (contents[0] - contents[1]).total()
        listed = [f"{n} {what}" for n, what in ((n_new, "new"), (n_gone, "gone")) if n]
        described += [f"of the {len(new)} inputs {kind}: {', '.join(listed)}"] if listed else []
    return described


def _kind(name: str) -> str:
    """Return the kind of an input: `features/<backbone>` of a shard, `file` of a numbered file, else its own name."""
    return "/".join(name.split()[0].split("/")[:2])
