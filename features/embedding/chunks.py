"""The pieces that embedding is cut into: the texts of one shard, their forward passes, the commit of their vectors.

Where a chunk ends follows from the texts that have no vector, and from nothing else. Whoever runs it, its vectors and
its shard are the same.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from armorm.features.catalog.views import Catalog
from armorm.features.conversation import Conversation
from armorm.features.embedding import rejected
from armorm.features.embedding.unfinished import Unfinished
from armorm.features.embedding.vectors import Embedded, Pass, Texts, plan_texts, run_passes
from armorm.features.store import Made, Recipe, Store, Writer, content_id
from armorm.features.store.store import with_measured
from armorm.features.store.summaries import VectorSummary
from armorm.features.vectors.shards import Feature, Name, Vector, VectorType, slot_of, write_shard

if TYPE_CHECKING:
    from armorm.features.embedding.backbone import Backbone
    from armorm.features.embedding.fingerprint import Fingerprint

TO_EMBED = (
    "FROM conversations WHERE conversation_id IN (FROM missing_conversations) OR prompt_id IN (FROM missing_prompts)"
)
"""The conversations that are to be read, in a catalogue with the tables of what is missing."""

BEGINNING: Final = "left(array_to_string([turn.content FOR turn IN messages[1:len(messages) - 1]], chr(10)), 256)"
"""The beginning of the prompt alone, so that conversations of one prompt stay together; cut to bound the sort."""


@dataclass(frozen=True, slots=True)
class Work:
    """A conversation that is to be read, for a vector of its own or for one of its prompt."""

    conversation_id: str
    prompt_id: str
    messages: Conversation
    is_missing: bool
    prompt_is_missing: bool


@dataclass(frozen=True, slots=True)
class Chunk:
    """The conversations of one shard, and the prompts whose vector belongs into it."""

    works: list[Work]
    prompt_ids: Set[str]

    @property
    def conversation_ids(self) -> Set[str]:
        """Whose vectors belong into it; the others are read for their prompt's."""
        return {work.conversation_id for work in self.works if work.is_missing}

    def id(self, token_budget: int) -> str:
        """Return the name of the same work in any run: the same texts, in passes of the same size."""
        return content_id([token_budget, sorted(self.conversation_ids), sorted(self.prompt_ids)])[:16]

    @property
    def messages(self) -> dict[Name, Conversation]:
        """What each text says."""
        found: dict[Name, Conversation] = {("conversation", work.conversation_id): work.messages for work in self.works}
        return found | {("prompt", work.prompt_id): work.messages[:-1] for work in self.works}


@dataclass(frozen=True, slots=True)
class Recipes:
    """The recipes of a chunk's shard and of its rejects; each gets a slot of its own, below the recipe's."""

    shard: Recipe
    rejects: Recipe


@dataclass(frozen=True, slots=True)
class Forwarded:
    """What a backbone makes of a chunk."""

    started: float
    """When the chunk was begun, by the monotonic clock."""
    texts: Texts
    passes: Iterable[Pass]
    """Each is run when it is asked for, or was run elsewhere."""


def cut(catalog: Catalog, size: int) -> Iterator[Chunk]:
    """Yield conversations in order of `BEGINNING`, prompt and conversation; those of one prompt lie together."""
    cursor = catalog.execute(
        "SELECT conversation_id, prompt_id, messages, conversation_id IN (FROM missing_conversations), "
        f"prompt_id IN (FROM missing_prompts) {TO_EMBED} ORDER BY {BEGINNING}, prompt_id, conversation_id"
    )
    before: Set[str] = frozenset()
    while rows := cursor.fetchmany(size):
        works = [
            Work(conversation, prompt, tuple((turn["role"], turn["content"]) for turn in messages), *missing)
            for conversation, prompt, messages, *missing in rows
        ]
        prompts = {work.prompt_id for work in works if work.prompt_is_missing}
        # in order of prompts, so that only the last one may go on in the next chunk
        yield Chunk(works, frozenset(prompts - before))
        before = prompts


class Forwarder:
    """A loaded backbone that takes chunk after chunk; after one that memory did not suffice for, in smaller passes."""

    def __init__(self, backbone: "Backbone", token_budget: int) -> None:
        self._backbone, self._token_budget = backbone, token_budget

    def forward(self, chunk: Chunk, done: Mapping[Name, Vector]) -> Forwarded:
        """Plan the passes of a chunk, without those that give only what is `done`."""
        started, works = time.monotonic(), chunk.works
        texts = plan_texts(self._backbone, [work.messages for work in works], chunk.conversation_ids, chunk.prompt_ids)
        return Forwarded(started, texts, self._passes(texts, done))

    def _passes(self, texts: Texts, done: Mapping[Name, Vector]) -> Iterator[Pass]:
        for one in run_passes(self._backbone, texts.sequences, token_budget=self._token_budget, done=done):
            self._token_budget = one.token_budget
            yield one


def commit(
    writer: Writer,
    fingerprint: "Fingerprint",
    embedded: Embedded,
    chunk: Chunk,
    recipes: Recipes,
    vector_type: VectorType,
    unfinished: Unfinished,
    spent: Mapping[str, float],
    started: float,
) -> None:
    """Commit a shard and its rejected texts, and remove its checkpoints; `spent` is kept beside the shard's time."""
    changes = []
    if embedded.features:
        changes.append(
            _shard(
                writer.store,
                fingerprint,
                embedded.features,
                recipes.shard,
                vector_type,
                done=unfinished.done,
                spent=spent,
                started=started,
            )
        )
    if embedded.rejects:
        changes.append(
            rejected.change_of(
                writer.store, recipes.rejects, embedded.rejects, chunk.messages, backbone_id=fingerprint.backbone_id
            )
        )
    writer.commit_all(changes, remove=unfinished.slots)


def _shard(
    store: Store,
    fingerprint: "Fingerprint",
    features: list[Feature],
    recipe: Recipe,
    vector_type: VectorType,
    *,
    done: Mapping[Name, Vector],
    spent: Mapping[str, float],
    started: float,
) -> tuple[Recipe, Made]:
    """Return a shard; what an earlier run has kept of it, `done`, counts for no time of this one's."""
    objects = write_shard(store, fingerprint.backbone_id, fingerprint.record, features, vector_type=vector_type)
    computed = [feature for feature in features if (feature.kind, feature.id) not in done]
    work = {"rows": len(computed), "tokens": _n_tokens(computed), "bytes": objects["shard"].size_bytes}
    summary = VectorSummary(len(features), _n_tokens(features), len(features[0].vector))
    own = replace(recipe, slot=slot_of(fingerprint.backbone_id, objects["shard"]))
    return own, with_measured(Made(objects, summary), time.monotonic() - started, {**work, **spent})


def _n_tokens(features: Iterable[Feature]) -> int:
    """Return the tokens of the conversations."""
    return sum(feature.n_tokens for feature in features if feature.kind == "conversation")
