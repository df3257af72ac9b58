"""Embedding: every distinct conversation and prompt of a snapshot gets its vector, once.

The work is cut into chunks of conversations in order of (prompt, conversation); each chunk becomes one
committed shard. What a stopped run has committed is a prefix of the chunks, so the next run's chunks are
those that were left, and the vectors come out bit for bit as if nothing had happened.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING

from features.catalog import Catalog, connect
from features.conversation import Conversation
from features.embedding.fingerprint import BackboneSettings, Fingerprint, fingerprint
from features.embedding.plan import plan_sequences
from features.records import encode_record
from features.shards import SLOT, Feature, VectorType, slot_of, write_shard
from features.store import Made, Recipe, Snapshot, Store, Writer
from features.store.artifacts import why_stale
from features.store.store import with_measured

if TYPE_CHECKING:
    from features.embedding.backbone import Backbone

STAGE = "embed"
STAGE_VERSION = 1
BACKBONE_STAGE = "backbone"
COVERAGE = "coverage"


@dataclass(frozen=True, slots=True)
class EmbedSettings:
    """How the embedding is cut and kept."""

    token_budget: int = 8192
    """Padded tokens of a forward pass."""
    shard_conversations: int = 4096
    """Conversations of a shard: what a killed run can lose, at most."""
    vector_type: VectorType = "float32"
    """How vectors are kept; `float16` halves the store, and reads back as float32."""

    def __post_init__(self) -> None:
        for name in ("token_budget", "shard_conversations"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}; expected 1 or more")


@dataclass(frozen=True, slots=True)
class EmbedResult:
    """What an embedding run did."""

    backbone_id: str
    n_conversations: int = 0
    n_prompts: int = 0
    n_tokens: int = 0
    """Forwarded, without padding."""
    n_truncated: int = 0
    n_shards: int = 0
    n_present: int = 0
    """Features that were there already."""


@dataclass(frozen=True, slots=True)
class Missing:
    """What a snapshot lacks for a backbone: how many texts."""

    conversations: int
    prompts: int
    n_present: int

    def __bool__(self) -> bool:
        return bool(self.conversations or self.prompts)


def embed_missing(
    writer: Writer,
    backbone_settings: BackboneSettings,
    settings: EmbedSettings,
    *,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> EmbedResult:
    """Embeds what the newest snapshot holds and this backbone has not seen.

    Args:
        writer: the store's writer; every full shard is a commit.
        backbone_settings: the backbone; it is loaded only when something is missing.
        settings: sizes of batches and shards, and how vectors are kept.
        on_progress: called with conversations done and conversations in all.

    Raises:
        BackboneError: it cannot be loaded, or its template is unusable.
        StoreError: a vector of it is not finite, or zero; shards before it stay committed.
    """
    marks = fingerprint(backbone_settings)
    backbone_artifact = _commit_backbone(writer, marks, backbone_settings.path)
    complete = writer.store.head().artifacts.get(f"{COVERAGE}/{marks.backbone_id}")
    if complete and not why_incomplete(writer.store, marks.backbone_id):
        return EmbedResult(marks.backbone_id, n_present=complete.summary["conversations"] + complete.summary["prompts"])
    with connect(writer.store) as catalog:
        missing = find_missing(catalog, marks.backbone_id)
        result = EmbedResult(marks.backbone_id, n_present=missing.n_present)
        if missing:
            result = _embed(writer, catalog, marks, backbone_artifact, backbone_settings, settings, result, on_progress)
    _commit_coverage(writer, marks.backbone_id, result)
    return result


def _embed(
    writer: Writer,
    catalog: Catalog,
    marks: Fingerprint,
    backbone_artifact: str,
    backbone_settings: BackboneSettings,
    settings: EmbedSettings,
    result: EmbedResult,
    on_progress: Callable[[int, int], None],
) -> EmbedResult:
    from features.embedding.backbone import load  # torch and transformers, seconds to import

    backbone = load(backbone_settings, marks)
    inputs = {"backbone": backbone_artifact} | writer.store.head().ids_within("ingest")
    done, total = 0, _count(catalog)
    before: Set[str] = frozenset()
    started = time.monotonic()
    for chunk in _chunks(catalog, settings.shard_conversations):
        prompts = {work.prompt_id for work in chunk if work.prompt_is_missing}
        features = embed_conversations(
            backbone,
            [work.messages for work in chunk],
            {work.conversation_id for work in chunk if work.is_missing},
            prompts - before,  # in order of prompts, so that only the last one may go on in the next chunk
            token_budget=settings.token_budget,
        )
        before = prompts
        if features:
            _commit_shard(writer, marks, features, inputs, settings.vector_type, started)
            result = _added(result, features)
        started = time.monotonic()
        done += len(chunk)
        on_progress(done, total)
    return result


def embed_conversations(
    backbone: "Backbone",
    conversations: list[Conversation],
    wanted_conversations: Set[str],
    wanted_prompts: Set[str],
    *,
    token_budget: int,
) -> list[Feature]:
    """The wanted features of some conversations: render, plan, forward."""
    from features.embedding.render import render

    sequences = plan_sequences(
        render(backbone.tokenizer, conversations),
        conversations=wanted_conversations,
        prompts=wanted_prompts,
        max_tokens=backbone.fingerprint.max_tokens,
    )
    return [
        Feature(of.kind, of.id, of.n_tokens, of.truncated, vector)
        for of, vector in backbone.embed(sequences, token_budget=token_budget)
    ]


def find_missing(catalog: Catalog, backbone_id: str) -> Missing:
    """Compares a snapshot with the backbone's features; leaves what is missing as two tables in the catalogue."""
    counts = {}
    for kind, column in (("conversation", "conversation_id"), ("prompt", "prompt_id")):
        catalog.execute(
            f"""
            CREATE TEMP TABLE missing_{kind}s AS SELECT DISTINCT {column} AS id FROM stored_conversations
            ANTI JOIN (SELECT id AS {column} FROM features WHERE backbone = ? AND kind = ?) USING ({column})
            """,
            [backbone_id, kind],
        )
        counts[kind] = _number(catalog, f"SELECT count(*) FROM missing_{kind}s")
    there = _number(
        catalog, "SELECT count(DISTINCT conversation_id) + count(DISTINCT prompt_id) FROM stored_conversations"
    )
    return Missing(counts["conversation"], counts["prompt"], there - sum(counts.values()))


def why_incomplete(store: Store, backbone_id: str) -> str | None:
    """Why a backbone may lack vectors of the newest snapshot, from manifests alone; None when it lacks none."""
    head = store.head()
    return why_stale(_coverage(head, backbone_id), head.artifacts.get(f"{COVERAGE}/{backbone_id}"))


def _coverage(snapshot: Snapshot, backbone_id: str) -> Recipe:
    return Recipe(
        slot=f"{COVERAGE}/{backbone_id}",
        stage=COVERAGE,
        version=STAGE_VERSION,
        parameters={},
        inputs=snapshot.ids_within("ingest")
        | snapshot.ids_within(f"{SLOT}/{backbone_id}")
        | {slot: id for slot, id in snapshot.ids_within(BACKBONE_STAGE).items() if slot.endswith(backbone_id)},
    )


def _commit_coverage(writer: Writer, backbone_id: str, result: EmbedResult) -> None:
    """Records that everything has its vector, so that the next run need not compare."""

    def make() -> Made:
        with connect(writer.store) as catalog:
            ((conversations, prompts),) = catalog.execute(
                "SELECT count(DISTINCT conversation_id), count(DISTINCT prompt_id) FROM stored_conversations"
            ).fetchall()
        counts = {"conversations": conversations, "prompts": prompts}
        record = writer.store.objects.put_bytes("json", encode_record(counts))
        return Made({"record": record}, counts | {"line": f"{conversations} conversations, {prompts} prompts"})

    writer.ensure(_coverage(writer.store.head(), backbone_id), make)


_TO_EMBED = (
    "FROM conversations WHERE conversation_id IN (FROM missing_conversations) OR prompt_id IN (FROM missing_prompts)"
)


@dataclass(frozen=True, slots=True)
class _Work:
    """A conversation that is to be read, for a vector of its own or for one of its prompt."""

    conversation_id: str
    prompt_id: str
    messages: Conversation
    is_missing: bool
    prompt_is_missing: bool


def _number(catalog: Catalog, sql: str) -> int:
    return int(catalog.execute(sql).fetchall()[0][0])


def _count(catalog: Catalog) -> int:
    return _number(catalog, f"SELECT count(*) {_TO_EMBED}")


def _chunks(catalog: Catalog, size: int) -> Iterator[list[_Work]]:
    """Conversations in order of (prompt, conversation), so that those of one prompt lie together."""
    cursor = catalog.execute(
        "SELECT conversation_id, prompt_id, messages, conversation_id IN (FROM missing_conversations), "
        f"prompt_id IN (FROM missing_prompts) {_TO_EMBED} ORDER BY prompt_id, conversation_id"
    )
    while rows := cursor.fetchmany(size):
        yield [
            _Work(conversation, prompt, tuple((turn["role"], turn["content"]) for turn in messages), *missing)
            for conversation, prompt, messages, *missing in rows
        ]


def _commit_backbone(writer: Writer, marks: Fingerprint, name: str) -> str:
    record = dict(marks.record)

    def make() -> Made:
        return Made({"record": writer.store.objects.put_bytes("json", encode_record(record))}, {"name": name} | record)

    slot = f"{BACKBONE_STAGE}/{marks.backbone_id}"
    return writer.ensure(Recipe(slot, BACKBONE_STAGE, STAGE_VERSION, record, inputs={}), make).artifact.artifact_id


def _commit_shard(
    writer: Writer,
    marks: Fingerprint,
    features: list[Feature],
    inputs: Mapping[str, str],
    vector_type: VectorType,
    started: float,
) -> None:
    objects = write_shard(writer.store, marks.backbone_id, marks.record, features, vector_type=vector_type)
    recipe = Recipe(
        slot=slot_of(marks.backbone_id, objects["shard"]),
        stage=STAGE,
        version=STAGE_VERSION,
        parameters={},
        inputs=inputs,
    )
    n_tokens = sum(feature.n_tokens for feature in features if feature.kind == "conversation")
    work = {"rows": len(features), "tokens": n_tokens, "bytes": objects["shard"].size_bytes}
    made = Made(objects, {"rows": len(features), "tokens": n_tokens, "width": len(features[0].vector)})
    writer.commit(recipe, with_measured(made, time.monotonic() - started, work))


def _added(result: EmbedResult, features: list[Feature]) -> EmbedResult:
    conversations = [feature for feature in features if feature.kind == "conversation"]
    return EmbedResult(
        result.backbone_id,
        n_conversations=result.n_conversations + len(conversations),
        n_prompts=result.n_prompts + len(features) - len(conversations),
        n_tokens=result.n_tokens + sum(feature.n_tokens for feature in conversations),
        n_truncated=result.n_truncated + sum(feature.truncated for feature in features),
        n_shards=result.n_shards + 1,
        n_present=result.n_present,
    )
