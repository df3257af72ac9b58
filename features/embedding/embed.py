"""Embedding: every distinct conversation and prompt of a snapshot gets its vector, once.

The work is cut into chunks of conversations in order of (prompt, conversation); each chunk becomes one
committed shard. What a stopped run has committed is a prefix of the chunks, so the next run's chunks are
those that were left, and the vectors come out bit for bit as if nothing had happened.
"""

from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from features.catalog import connect
from features.conversation import Conversation
from features.embedding.fingerprint import BackboneSettings, Fingerprint, fingerprint
from features.embedding.plan import plan_batches, plan_sequences
from features.shards import SLOT, Feature, write_shard
from features.store import Made, Recipe, Store, Writer, canonical_json

if TYPE_CHECKING:
    from features.embedding.backbone import Backbone

STAGE = "embed"
STAGE_VERSION = 1
BACKBONE_STAGE = "backbone"


@dataclass(frozen=True, slots=True)
class EmbedSettings:
    """How the embedding is cut; none of it changes what a vector means."""

    token_budget: int = 8192
    """Padded tokens of a forward pass."""
    shard_conversations: int = 4096
    """Conversations of a shard: what a killed run can lose, at most."""

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
    """What a snapshot lacks for a backbone."""

    conversations: frozenset[str]
    prompts: frozenset[str]
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
        settings: sizes of batches and shards.
        on_progress: called with conversations done and conversations in all.

    Raises:
        BackboneError: it cannot be loaded, or its template is unusable.
        StoreError: a vector of it is not finite, or zero; shards before it stay committed.
    """
    marks = fingerprint(backbone_settings)
    missing = find_missing(writer.store, marks.backbone_id)
    result = EmbedResult(marks.backbone_id, n_present=missing.n_present)
    if not missing:
        return result
    from features.embedding.backbone import load  # torch and transformers, seconds to import

    backbone = load(backbone_settings, marks)
    inputs = {"backbone": _commit_backbone(writer, marks, backbone_settings.path)} | writer.store.head().ids_within(
        "ingest"
    )
    open_prompts = set(missing.prompts)
    done, total = 0, _count(writer.store, missing)
    for chunk in _chunks(writer.store, missing, settings.shard_conversations):
        features = embed_conversations(
            backbone, chunk, missing.conversations, open_prompts, token_budget=settings.token_budget
        )
        open_prompts -= {feature.id for feature in features if feature.kind == "prompt"}
        _commit_shard(writer, marks, features, inputs)
        done += len(chunk)
        on_progress(done, total)
        result = _added(result, features)
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
    features = []
    for batch in plan_batches([len(sequence.token_ids) for sequence in sequences], token_budget=token_budget):
        chosen = [sequences[index] for index in batch]
        for sequence, vectors in zip(chosen, backbone.forward(chosen), strict=True):
            features += [
                Feature(of.kind, of.id, of.n_tokens, of.truncated, vector)
                for of, vector in zip(sequence.wanted, vectors, strict=True)
            ]
    return features


def find_missing(store: Store, backbone_id: str) -> Missing:
    """Compares the snapshot's conversations and prompts with the backbone's features."""
    with connect(store) as connection:
        present: dict[str, set[str]] = {"conversation": set(), "prompt": set()}
        for kind, id in connection.execute(
            "SELECT kind, id FROM features WHERE backbone = ?", [backbone_id]
        ).fetchall():
            present[kind].add(id)
        rows = connection.execute("SELECT conversation_id, prompt_id FROM conversations").fetchall()
    conversations, prompts = {row[0] for row in rows}, {row[1] for row in rows}
    there = len(conversations & present["conversation"]) + len(prompts & present["prompt"])
    return Missing(frozenset(conversations - present["conversation"]), frozenset(prompts - present["prompt"]), there)


_TO_EMBED = (
    "FROM conversations WHERE conversation_id IN (FROM missing_conversations) OR prompt_id IN (FROM missing_prompts)"
)


def _count(store: Store, missing: Missing) -> int:
    with _connected(store, missing) as connection:
        return int(connection.execute(f"SELECT count(*) {_TO_EMBED}").fetchall()[0][0])


def _chunks(store: Store, missing: Missing, size: int) -> Iterator[list[Conversation]]:
    """Conversations in order of (prompt, conversation), so that those of one prompt lie together."""
    with _connected(store, missing) as connection:
        cursor = connection.execute(f"SELECT messages {_TO_EMBED} ORDER BY prompt_id, conversation_id")
        while rows := cursor.fetchmany(size):
            yield [tuple((turn["role"], turn["content"]) for turn in messages) for (messages,) in rows]


def _connected(store: Store, missing: Missing) -> Any:
    import pyarrow as pa

    connection = connect(store)
    connection.register("missing_conversations", pa.table({"id": sorted(missing.conversations)}))
    connection.register("missing_prompts", pa.table({"id": sorted(missing.prompts)}))
    return connection


def _commit_backbone(writer: Writer, marks: Fingerprint, name: str) -> str:
    record = dict(marks.record)

    def make() -> Made:
        return Made({"record": writer.store.objects.put_bytes("json", canonical_json(record))}, {"name": name} | record)

    slot = f"{BACKBONE_STAGE}/{marks.backbone_id}"
    return writer.ensure(Recipe(slot, BACKBONE_STAGE, STAGE_VERSION, record, inputs={}), make).artifact.artifact_id


def _commit_shard(writer: Writer, marks: Fingerprint, features: list[Feature], inputs: Mapping[str, str]) -> None:
    shard = write_shard(writer.store, marks.backbone_id, marks.record, features)
    recipe = Recipe(
        slot=f"{SLOT}/{marks.backbone_id}/{shard.sha256[:16]}",
        stage=STAGE,
        version=STAGE_VERSION,
        parameters={},
        inputs=inputs,
    )
    n_tokens = sum(feature.n_tokens for feature in features if feature.kind == "conversation")
    writer.commit(recipe, Made({"shard": shard}, {"rows": len(features), "tokens": n_tokens}))


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
