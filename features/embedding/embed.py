"""Embedding: every distinct conversation and prompt of a snapshot gets its vector, once.

The work is cut into chunks of conversations in order of how their prompts begin, then of (prompt, conversation): those
that go on from one another lie together, and so share a forward pass. Each chunk becomes one committed shard. What a
stopped run has committed is a prefix of the chunks, so the next run's chunks are those that were left, and the vectors
come out bit for bit as if nothing had happened. Of the chunk at work a checkpoint is kept now and then (see
`unfinished`).

A text that gets no usable vector is recorded in `rejects`, with the reason, and not tried again by this backbone.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from armorm.features.catalog.views import Catalog, connect, mount, parquet_paths
from armorm.features.embedding import canary, rejected
from armorm.features.embedding.canary import Canaries, check_canaries, take_canaries
from armorm.features.embedding.chunks import TO_EMBED, Chunk, Forwarded, Forwarder, Recipes, commit, cut
from armorm.features.embedding.fingerprint import BackboneSettings, Dtype, Fingerprint, read_fingerprint
from armorm.features.embedding.predict import Prediction, missing_tokens, predict
from armorm.features.embedding.unfinished import SLOT as UNFINISHED
from armorm.features.embedding.unfinished import Unfinished
from armorm.features.embedding.vectors import Embedded, Pass, Texts, judge
from armorm.features.store import Made, Recipe, Snapshot, Store, Writer
from armorm.features.store.artifacts import why_stale
from armorm.features.store.json_records import Summary, put_record, read_summary
from armorm.features.store.stage import Stage
from armorm.features.store.summaries import BackboneSummary, Coverage, VectorSummary
from armorm.features.vectors.shards import SLOT, Name, VectorType

STAGE = "embed"
STAGE_VERSION = 1

BACKBONE_STAGE = "backbone"
COVERAGE = "coverage"

EMBED: Final = Stage(
    name=STAGE,
    version=STAGE_VERSION,
    part="embed",
    after=("ingest",),
    record=VectorSummary,
    line_of=lambda of: f"{of.rows} vectors",
)
"""An artifact a shard, and those of `BESIDE`; see `embed_missing`."""


def _beside(name: str, record: type[Summary], line_of: Callable[[Any], str]) -> Stage:
    return replace(EMBED, name=name, part=None, after=(), record=record, line_of=line_of)


BESIDE: Final = (
    _beside(BACKBONE_STAGE, BackboneSummary, lambda of: f"{of.name} ({of.architecture}, hidden size {of.hidden_size})"),
    _beside(COVERAGE, Coverage, lambda of: f"{of.conversations} conversations, {of.prompts} prompts"),
    _beside(canary.SLOT, canary.FirstCanaries, canary.line_of),
    _beside(rejected.SLOT, VectorSummary, lambda of: f"{of.rows} texts without a usable vector"),
    _beside(UNFINISHED, VectorSummary, lambda of: f"{of.rows} vectors of a shard that is not finished"),
)
"""What the embedding keeps beside vectors."""

NO_INPUTS: Final[Mapping[str, str]] = {}


@dataclass(frozen=True, slots=True)
class EmbedSettings:
    """The settings of `[embed]`: how texts are cut into passes and shards, and how vectors are kept."""

    token_budget: int = 8192
    """Tokens of a forward pass."""
    shard_conversations: int = 4096
    """Conversations of a shard."""
    save_every_s: float = 30.0
    """Seconds between checkpoints of an unfinished shard: what a killed run loses, at most, besides
    the forward pass at work."""
    vector_type: Literal["auto", "float32", "float16"] = "auto"
    """How vectors are kept: `auto` is float16 for a backbone of 16 bits and float32 for one of 32. `float16` halves the
    store, and reads back as float32; a vector with a number past 65504 is rejected by name."""
    engine: Literal["local", "ray"] = "local"
    """Where passes are run: by this process, or by workers of Ray, here or on the cluster that `RAY_ADDRESS` names."""
    workers: int = 1
    """Workers of `ray`: each has a copy of the backbone, on a GPU or a core of its own."""

    def __post_init__(self) -> None:
        for name, least in (("token_budget", 1), ("shard_conversations", 1), ("save_every_s", 0), ("workers", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: got {getattr(self, name)}; expected {least} or more")

    def vector_type_of(self, dtype: Dtype) -> VectorType:
        """Return how the vectors of a backbone of that type are kept."""
        if self.vector_type == "auto":
            return "float32" if dtype == "float32" else "float16"
        return self.vector_type


@dataclass(frozen=True, slots=True)
class EmbedResult:
    """What an embedding run did."""

    backbone_id: str
    n_conversations: int = 0
    n_prompts: int = 0
    n_tokens: int = 0
    """Tokens of the texts that were forwarded, each counted whole, a prompt as the beginning of its conversation."""
    n_forwarded: int = 0
    """Tokens that went through the backbone: shared beginnings once, padding included."""
    n_truncated: int = 0
    n_shards: int = 0
    n_present: int = 0
    """Texts that were done already: they have a vector, or were rejected."""
    rejected: Mapping[str, int] = field(default_factory=dict)
    """Reason to texts that were given no vector."""
    token_budget: int = 0
    """Tokens of a forward pass at the end: fewer than set if memory did not suffice, 0 if nothing was forwarded."""
    canary_distance: float = 0.0
    """How far the furthest canary lies from its first vector, as a share of its length."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of an embedding run."""

    texts: int
    total_texts: int
    tokens: int
    """Tokens of those texts, if they were forwarded one by one."""
    total_tokens: int
    """An estimate: texts that are not tokenised yet are taken to have as many tokens a character as the others."""
    slowdown: float | None = None
    """So many times longer products take in the backbone's dtype than in float32, on the processor that computes."""


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
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> EmbedResult:
    """Embed what the newest snapshot holds and this backbone has not seen.

    Args:
        writer: the store's writer; every full shard is a commit.
        backbone_settings: the backbone; it is loaded only when something is missing.
        settings: sizes of batches and shards, and how vectors are kept.
        on_progress: called when a shard is planned and after every forward pass.

    Raises:
        BackboneError: it cannot be loaded, or gives nothing usable for plain short texts.
        CanaryError: this machine's vectors differ from the first run's; nothing is appended.
        OutOfMemory: for one text alone; shards before it stay committed.
    """
    fingerprint = read_fingerprint(backbone_settings)
    vector_type = settings.vector_type_of(backbone_settings.dtype)
    backbone_artifact = _commit_backbone(writer, fingerprint, backbone_settings.path)
    complete = covered(writer.store.head(), fingerprint.backbone_id)
    if complete and not why_incomplete(writer.store, fingerprint.backbone_id, vector_type):
        return EmbedResult(fingerprint.backbone_id, n_present=complete.conversations + complete.prompts)
    _forget_stale_rejects(writer, fingerprint.backbone_id, vector_type)
    with connect(writer.store) as catalog:
        missing = find_missing(catalog, fingerprint.backbone_id, vector_type)
        result = EmbedResult(fingerprint.backbone_id, n_present=missing.n_present)
        if missing or not _has_canaries(writer.store.head(), fingerprint.backbone_id):
            tokens, _ = missing_tokens(catalog, fingerprint.backbone_id)
            predicted = predict(catalog.snapshot, fingerprint.backbone_id, tokens)
            n_chars = _number(catalog, f"SELECT coalesce(sum(n_chars), 0) {TO_EMBED}")
            meter = _Meter(missing.conversations + missing.prompts, n_chars, predicted, on_progress)
            result = _embed(writer, catalog, fingerprint, backbone_artifact, backbone_settings, settings, result, meter)
    _commit_coverage(writer, fingerprint.backbone_id)
    return result


def _embed(
    writer: Writer,
    catalog: Catalog,
    fingerprint: Fingerprint,
    backbone_artifact: str,
    backbone_settings: BackboneSettings,
    settings: EmbedSettings,
    result: EmbedResult,
    meter: "_Meter",
) -> EmbedResult:
    backbone_id, vector_type = fingerprint.backbone_id, settings.vector_type_of(fingerprint.record["dtype"])
    inputs = {"backbone": backbone_artifact} | writer.store.head().ids_within("ingest")
    recipes = Recipes(_shard_recipe(backbone_id, inputs), _reject_recipe(backbone_id, vector_type, inputs))
    moved = [0.0]

    def check(canaries: Canaries) -> None:
        moved.append(check_canaries(writer, canaries, fingerprint, backbone_artifact))
        if settings.engine == "local":  # else others compute, and not this machine
            meter.begin(backbone_settings)

    def begin(chunk: Chunk) -> Begun:
        slot = f"{UNFINISHED}/{backbone_id}/{chunk.id(settings.token_budget)}"
        every_s = settings.save_every_s if settings.engine == "local" else math.inf  # a worker gives a whole chunk
        return chunk, Unfinished(writer, slot, inputs, every_s)

    begun = map(begin, cut(catalog, settings.shard_conversations))
    result = replace(result, token_budget=settings.token_budget)
    ended = time.monotonic()
    for chunk, unfinished, forwarded in _forward_all(begun, backbone_settings, fingerprint, settings, check, meter):
        started = max(ended, forwarded.started)
        embedded, result = _run_passes(chunk, unfinished, forwarded, vector_type, result, meter)
        commit(writer, fingerprint, embedded, chunk, recipes, vector_type, unfinished, meter.of_shard, started)
        result = _added(result, embedded)
        ended = time.monotonic()
    return replace(result, canary_distance=max(moved))


Begun = tuple[Chunk, Unfinished]


def _forward_all(
    begun: Iterable[Begun],
    backbone_settings: BackboneSettings,
    fingerprint: Fingerprint,
    settings: EmbedSettings,
    check: Callable[[Canaries], None],
    meter: "_Meter",
) -> Iterator[tuple[Chunk, Unfinished, Forwarded]]:
    """Yield what the backbone makes of chunk after chunk, in their order, by the engine that is set.

    The canaries of whoever runs a pass are checked before anything that comes of it is given on.
    """
    if settings.engine == "ray":
        from armorm.features.embedding.on_ray import forward_on_ray

        yield from forward_on_ray(
            begun,
            backbone_settings,
            fingerprint,
            token_budget=settings.token_budget,
            workers=settings.workers,
            check=check,
            at_work=meter.at_work,
        )
        return
    from armorm.features.embedding.backbone import load  # torch and transformers, seconds to import

    backbone = load(backbone_settings, fingerprint)
    check(take_canaries(backbone, token_budget=settings.token_budget))
    forwarder = Forwarder(backbone, settings.token_budget)
    for chunk, unfinished in begun:
        yield chunk, unfinished, forwarder.forward(chunk, unfinished.done)


def _run_passes(
    chunk: Chunk,
    unfinished: Unfinished,
    forwarded: Forwarded,
    vector_type: VectorType,
    result: EmbedResult,
    meter: "_Meter",
) -> tuple[Embedded, EmbedResult]:
    """Return the vectors of a chunk, with what has come of it before the run that began it was stopped."""
    of = {(wanted.kind, wanted.id): wanted for sequence in forwarded.texts.sequences for wanted in sequence.wanted}
    vectors = {name: vector for name, vector in unfinished.done.items() if name in of}
    meter.plan(chunk, forwarded.texts, vectors.keys())
    for one in forwarded.passes:
        vectors |= {(wanted.kind, wanted.id): vector for wanted, vector in one.vectors}
        result = replace(
            result,
            n_tokens=result.n_tokens + one.n_tokens,
            n_forwarded=result.n_forwarded + one.n_forwarded,
            token_budget=min(result.token_budget, one.token_budget),
        )
        unfinished.add(one.vectors)
        meter.ran(one)
    judged = judge([(of[name], vector) for name, vector in vectors.items()], vector_type)
    return Embedded(judged.features, forwarded.texts.rejects + judged.rejects), result


def find_missing(catalog: Catalog, backbone_id: str, vector_type: VectorType) -> Missing:
    """Compare a snapshot with the backbone's features; leave what is missing as two tables in the catalogue.

    A text that was rejected is not missing, unless it was under another version or another type of vector.
    """
    fresh, _ = rejected.split_by_age(catalog.snapshot, _reject_recipe(backbone_id, vector_type))
    mount(catalog, "known_rejects", "rejects", parquet_paths(catalog.store, fresh, "rejects"))
    counts = {}
    for kind, column in (("conversation", "conversation_id"), ("prompt", "prompt_id")):
        catalog.execute(
            f"""
            CREATE TEMP TABLE missing_{kind}s AS SELECT DISTINCT {column} AS id FROM stored_conversations
            ANTI JOIN (SELECT id AS {column} FROM features WHERE backbone = ? AND kind = ?) USING ({column})
            ANTI JOIN (SELECT source_row AS {column} FROM known_rejects WHERE scope = ?) USING ({column})
            """,
            [backbone_id, kind, kind],
        )
        counts[kind] = _number(catalog, f"SELECT count(*) FROM missing_{kind}s")
    there = _number(
        catalog, "SELECT count(DISTINCT conversation_id) + count(DISTINCT prompt_id) FROM stored_conversations"
    )
    return Missing(counts["conversation"], counts["prompt"], there - sum(counts.values()))


def why_incomplete(store: Store, backbone_id: str, vector_type: VectorType) -> str | None:
    """Return why a backbone may lack vectors of the newest snapshot, from manifests alone; None when it lacks none.

    A text that was rejected counts as done.
    """
    head = store.head()
    if rejected.split_by_age(head, _reject_recipe(backbone_id, vector_type))[1]:
        return "texts were rejected under other settings"
    return why_stale(_coverage(head, backbone_id), head.artifacts.get(f"{COVERAGE}/{backbone_id}"))


def _has_canaries(snapshot: Snapshot, backbone_id: str) -> bool:
    """Return whether the canaries are stored; if they are missing, recompute them."""
    return f"{canary.SLOT}/{backbone_id}" in snapshot.artifacts


def _shard_recipe(backbone_id: str, inputs: Mapping[str, str]) -> Recipe:
    return Recipe(f"{SLOT}/{backbone_id}", STAGE, STAGE_VERSION, {}, inputs)


def _reject_recipe(backbone_id: str, vector_type: VectorType, inputs: Mapping[str, str] = NO_INPUTS) -> Recipe:
    """Return how texts come to be rejected; under another version or another type they are tried again."""
    slot = f"{rejected.SLOT}/{backbone_id}"
    return Recipe(slot, rejected.SLOT, STAGE_VERSION, {"vector_type": vector_type}, inputs)


def _forget_stale_rejects(writer: Writer, backbone_id: str, vector_type: VectorType) -> None:
    _, stale = rejected.split_by_age(writer.store.head(), _reject_recipe(backbone_id, vector_type))
    if stale:
        writer.commit_all([], remove=[artifact.recipe.slot for artifact in stale])


def covered(snapshot: Snapshot, backbone_id: str) -> Coverage | None:
    """Return what was embedded with a backbone when nothing was left to do; None before that."""
    artifact = snapshot.artifacts.get(f"{COVERAGE}/{backbone_id}")
    return read_summary(artifact, Coverage) if artifact else None


def _coverage(snapshot: Snapshot, backbone_id: str) -> Recipe:
    return Recipe(
        slot=f"{COVERAGE}/{backbone_id}",
        stage=COVERAGE,
        version=STAGE_VERSION,
        parameters={},
        inputs=snapshot.ids_within("ingest")
        | snapshot.ids_within(f"{SLOT}/{backbone_id}")
        | snapshot.ids_within(f"{rejected.SLOT}/{backbone_id}")
        | {slot: id for slot, id in snapshot.ids_within(canary.SLOT).items() if slot.endswith(backbone_id)}
        | {slot: id for slot, id in snapshot.ids_within(BACKBONE_STAGE).items() if slot.endswith(backbone_id)},
    )


def _commit_coverage(writer: Writer, backbone_id: str) -> None:
    """Record that every text has a vector or was rejected, and that there are canaries: nothing is left to do.

    Parts of shards that will never be finished, since the texts have changed meanwhile, go.
    """
    of_backbone = f"{UNFINISHED}/{backbone_id}"
    if left := [f"{of_backbone}/{name}" for name in writer.store.head().within(of_backbone)]:
        writer.commit_all([], remove=left)

    def make() -> Made:
        with connect(writer.store) as catalog:
            ((conversations, prompts),) = catalog.execute(
                "SELECT count(DISTINCT conversation_id), count(DISTINCT prompt_id) FROM stored_conversations"
            ).fetchall()
        counts = Coverage(conversations, prompts)
        return Made({"record": put_record(writer.store, counts)}, counts)

    writer.ensure(_coverage(writer.store.head(), backbone_id), make)


class _Meter:
    """A meter that adds up what is done and planned, and reports it."""

    def __init__(
        self, total_texts: int, total_chars: int, predicted: Prediction, report: Callable[[Progress], None]
    ) -> None:
        self._total_texts, self._total_chars, self._report = total_texts, max(total_chars, 1), report
        self._predicted = predicted
        self._slowdown: float | None = None
        self._texts = self._tokens = self._planned_tokens = self._planned_chars = 0
        self.of_shard: dict[str, float] = {}
        """What was forwarded for the shard at work, and what the plan predicted for it."""

    def begin(self, backbone: BackboneSettings) -> None:
        """Note that passes are about to run on this machine."""
        from armorm.features.embedding.slowdown import slowdown

        self._slowdown = slowdown(backbone.dtype, backbone.device)

    def plan(self, chunk: Chunk, texts: Texts, known: Set[Name]) -> None:
        """Count a shard that is to be made: some vectors may be known, and some texts are rejected at once."""
        n_chars = sum(len(content) for work in chunk.works for _, content in work.messages)
        self._planned_tokens += sum(len(one.token_ids) for one in texts.sequences)
        self._planned_chars += n_chars
        share = n_chars / self._total_chars
        self.of_shard = {"forwarded": 0, "predicted_tokens": round(share * self._predicted.tokens, 1)}
        if self._predicted.seconds is not None:
            self.of_shard["predicted_seconds"] = round(share * self._predicted.seconds, 3)
        done = [one for one in texts.sequences if all((of.kind, of.id) in known for of in one.wanted)]
        self._add(len(known) + len(texts.rejects), sum(len(one.token_ids) for one in done))

    def ran(self, one: Pass) -> None:
        """Count a forward pass."""
        self.of_shard["forwarded"] += one.n_forwarded
        self._add(len(one.vectors), one.n_tokens)

    def at_work(self, n_texts: int, n_tokens: int) -> None:
        """Report what is done elsewhere of shards that are not given back yet."""
        share = self._planned_chars / self._total_chars
        total = self._planned_tokens / share if share else self._predicted.tokens
        texts, tokens = self._texts + n_texts, self._tokens + n_tokens
        total = max(round(total), tokens)
        self._report(Progress(texts, self._total_texts, tokens, total, self._slowdown))

    def _add(self, n_texts: int, n_tokens: int) -> None:
        self._texts, self._tokens = self._texts + n_texts, self._tokens + n_tokens
        self.at_work(0, 0)


def _number(catalog: Catalog, sql: str) -> int:
    return int(catalog.execute(sql).fetchall()[0][0])


def _commit_backbone(writer: Writer, fingerprint: Fingerprint, name: str) -> str:
    record = dict(fingerprint.record)

    def make() -> Made:
        return Made({"record": put_record(writer.store, record)}, {"name": name} | record)

    slot = f"{BACKBONE_STAGE}/{fingerprint.backbone_id}"
    return writer.ensure(Recipe(slot, BACKBONE_STAGE, STAGE_VERSION, record, inputs={}), make).artifact.artifact_id


def _added(result: EmbedResult, embedded: Embedded) -> EmbedResult:
    conversations = [feature for feature in embedded.features if feature.kind == "conversation"]
    reasons = [reject.reason for reject in embedded.rejects]
    return replace(
        result,
        n_conversations=result.n_conversations + len(conversations),
        n_prompts=result.n_prompts + len(embedded.features) - len(conversations),
        n_truncated=result.n_truncated + sum(feature.truncated for feature in embedded.features),
        n_shards=result.n_shards + bool(embedded.features),
        rejected=Counter(result.rejected) + Counter(reasons),
    )
