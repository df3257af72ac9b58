"""Evaluation of any model on a store's held-out pairs, for example a downloaded one. Nothing is stored.

What the store has vectors of is read from there, where they are of the model's own backbone. All other texts go
through the backbone, a chunk at a time, and of their vectors just rewards and gate weights are kept.
Suffixes: P pairs, A answers, U prompts, K objectives.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from armorm.config import EvaluationConfig
from armorm.features.catalog.views import connect
from armorm.features.conversation import HELD_OUT
from armorm.features.documents import encode
from armorm.features.embedding.chunks import Forwarder, cut
from armorm.features.embedding.vectors import judge
from armorm.features.errors import NotInStore
from armorm.features.store import Artifact, Store
from armorm.features.vectors.shards import Feature, FeatureReader
from armorm.maths.metrics import wins
from armorm.maths.paired import PairedTest
from armorm.maths.threads import blas_threads
from armorm.model.compare import compare_pairs, paired_section
from armorm.model.head import RewardHead
from armorm.records.evaluation import Evaluation
from armorm.release.compare import newest_evaluation, outcomes
from armorm.report.sections import Section, evaluation_line, evaluation_sections, gate_section
from armorm.stages.data import Names, StoredPairs, load_lengths, load_pairs, predict_rewards
from armorm.stages.pair_figures import Baselines, PredictedPairs, held_out_record

if TYPE_CHECKING:
    from armorm.features.embedding.backbone import Backbone

CHUNK: Final = 1024
"""Conversations whose vectors are in memory at once."""

Floats = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Evaluated:
    """The figures of a model, and how they came about."""

    record: Evaluation
    """What the stage `evaluate` keeps of the store's own models; `calibration` only where the model has a beta."""
    n_embedded: int
    """Texts that the store has no vector of: they went through the backbone."""
    against: str | None = None
    """A model of the store."""
    paired: Mapping[str, PairedTest] = field(default_factory=dict)
    """Paired tests on the held-out pairs of all datasets, and of each: another model before, this one after."""

    @property
    def line(self) -> str:
        """In a few words."""
        embedded = f"; {self.n_embedded:,} texts embedded, none of them kept" if self.n_embedded else ""
        return evaluation_line(self.record) + embedded

    @property
    def sections(self) -> list[Section]:
        """Return the figures as tables."""
        sections = [*evaluation_sections(self.record), gate_section(self.record.gate_by_kind)]
        if self.against:
            sections.append(
                paired_section(self.paired, f"Paired test: model {self.against[:12]} before, this one after")
            )
        return [section for section in sections if section.rows]

    def as_json(self) -> Json:
        """Return the figures as JSON."""
        return {
            "evaluation": encode(self.record),
            "n_embedded": self.n_embedded,
            "against": self.against,
            "paired": encode(self.paired),
        }


def evaluate_model(
    store: Store,
    model: RewardHead,
    load_backbone: Callable[[], "Backbone"],
    config: EvaluationConfig,
    *,
    token_budget: int,
    against: Artifact | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluated:
    """Return all figures of a model on the newest snapshot's held-out pairs and benchmarks.

    Beside the mean of its objectives and the longer answer: other baselines are chosen or fitted on training pairs,
    which are not scored.

    Args:
        store: whose pairs and texts.
        model: any.
        load_backbone: gives its backbone; called where the store lacks vectors.
        config: bootstrap.
        token_budget: tokens of a forward pass.
        against: a model of the store that was evaluated, for a paired test.
        on_progress: called with texts that are done and texts in all.

    Raises:
        NotInStore: the other model was never evaluated, or there are no held-out pairs.
    """
    evaluation = newest_evaluation(store, against) if against else None
    if against and not evaluation:
        raise NotInStore(
            f"got model {against.artifact_id}, of which the store has no evaluation; expected one that was evaluated; "
            "name another"
        )
    stored = load_pairs(store, backbone_id=model.backbone_id)
    stored = stored.select(stored.usable(*HELD_OUT))
    if not len(stored.pair_ids):
        raise NotInStore(
            "got a store without held-out pairs; expected some; configure a preference dataset and ingest it"
        )
    texts = _Texts.of_store(store, model, stored)
    if n_missing := texts.n_missing:
        texts.embed(store, model, load_backbone(), token_budget, lambda done: on_progress(done, n_missing))
    predicted = texts.predicted(model, stored)
    with blas_threads(model.W_KD.shape[1]):
        record = held_out_record(model, predicted, Baselines(), config, lengths_of=texts.lengths_of)
    if not against or not evaluation:
        return Evaluated(record, n_missing)
    return Evaluated(record, n_missing, against.artifact_id, _paired(predicted, outcomes(store, evaluation)))


@dataclass(frozen=True, slots=True)
class _Texts:
    """What a model makes of the distinct answers and prompts of pairs; NaN in the rows of those not predicted yet."""

    answer_ids: Names
    prompt_ids: Names
    rewards_AK: Floats
    gating_UK: Floats
    n_tokens_A: Floats
    """`[A]` of the answers alone; NaN where that is not known."""
    prompt_A: npt.NDArray[np.intp]
    """`[A]` rows of the answers' prompts."""

    @classmethod
    def of_store(cls, store: Store, model: RewardHead, stored: StoredPairs) -> "_Texts":
        """Return the texts, as far as the store has vectors of the model's backbone."""
        answers, first = np.unique(np.concatenate([stored.chosen_ids, stored.rejected_ids]), return_index=True)
        prompts, prompt_P = np.unique(stored.prompt_ids, return_inverse=True)
        reader = FeatureReader(store, model.backbone_id)
        known_A, known_U = (
            np.isin(ids, reader.ids(kind).to_numpy()) for kind, ids in (("conversation", answers), ("prompt", prompts))
        )
        texts = cls(
            answers,
            prompts,
            rewards_AK=np.full((len(answers), len(model.objectives)), np.nan, np.float32),
            gating_UK=np.full((len(prompts), len(model.objectives)), np.nan, np.float32),
            n_tokens_A=load_lengths(store, answers, backbone_id=model.backbone_id)[1].copy(),
            prompt_A=np.tile(prompt_P, 2)[first],
        )
        if known_A.any():
            texts.rewards_AK[known_A] = predict_rewards(reader, model.W_KD, answers[known_A])
        if known_U.any():
            texts.gating_UK[known_U] = model.gating(reader.rows("prompt", prompts[known_U].tolist()))
        return texts

    @property
    def known_A(self) -> Bools:
        """`[A]` the answers that have rewards."""
        return np.asarray(np.isfinite(self.rewards_AK[:, 0]))

    @property
    def known_U(self) -> Bools:
        """`[U]` the prompts that have weights."""
        return np.asarray(np.isfinite(self.gating_UK[:, 0]))

    @property
    def n_missing(self) -> int:
        """Answers and prompts that have none."""
        return int((~self.known_A).sum() + (~self.known_U).sum())

    def embed(
        self,
        store: Store,
        model: RewardHead,
        backbone: "Backbone",
        token_budget: int,
        on_progress: Callable[[int], None],
    ) -> None:
        """Fill in what is missing, but for texts that get no vector."""
        n_done, n_tokens_U = 0, np.full(len(self.prompt_ids), np.nan)
        missing = self.answer_ids[~self.known_A], self.prompt_ids[~self.known_U]
        for features in _embedded(store, backbone, *missing, token_budget):
            answers, prompts = ([of for of in features if of.kind == kind] for kind in ("conversation", "prompt"))
            if prompts:
                rows = np.searchsorted(self.prompt_ids, [of.id for of in prompts])
                self.gating_UK[rows] = model.gating(np.stack([of.vector for of in prompts]))
                n_tokens_U[rows] = [of.n_tokens for of in prompts]
            if answers:
                rows = np.searchsorted(self.answer_ids, [of.id for of in answers])
                self.rewards_AK[rows] = model.rewards(np.stack([of.vector for of in answers]))
                self.n_tokens_A[rows] = [of.n_tokens for of in answers]
            n_done += len(features)
            on_progress(n_done)
        whole_A = np.isin(self.answer_ids, missing[0])
        self.n_tokens_A[whole_A] -= n_tokens_U[self.prompt_A[whole_A]]

    def lengths_of(self, answer_ids: Names) -> Floats:
        """Return `[N]` tokens of some answers."""
        return np.asarray(self.n_tokens_A[np.searchsorted(self.answer_ids, answer_ids)])

    def predicted(self, model: RewardHead, stored: StoredPairs) -> PredictedPairs:
        """Return the pairs of which all texts could be predicted; the others are counted as rejected."""
        answers, prompts = (self.answer_ids, self.rewards_AK), (self.prompt_ids, self.gating_UK)
        of_all = PredictedPairs.of(stored, model, answers, prompts)
        both_P = self.known_A[of_all.chosen_P] & self.known_A[of_all.rejected_P]
        known_P = both_P & self.known_U[of_all.prompt_P]
        n_rejected = stored.n_rejected + int((~known_P).sum())
        predicted = of_all.select(known_P)
        return replace(predicted, stored=replace(predicted.stored, n_rejected=n_rejected))


def _embedded(
    store: Store, backbone: "Backbone", answers: Names, prompts: Names, token_budget: int
) -> Iterator[list[Feature]]:
    """Yield the features of answers and prompts, a forward pass at a time, those of one beginning together."""
    forwarder = Forwarder(backbone, token_budget)
    with connect(store) as catalog:
        for name, ids in (("missing_conversations", answers), ("missing_prompts", prompts)):
            catalog.connection.register(name, pa.table({"id": pa.array(ids, pa.string())}))
        for chunk in cut(catalog, CHUNK):
            for one in forwarder.forward(chunk, {}).passes:
                yield judge(one.vectors, "float32").features


def _paired(predicted: PredictedPairs, known: Mapping[str, bool]) -> Mapping[str, PairedTest]:
    """On the pairs that both have scored."""
    here = predicted.select(np.array([id in known for id in predicted.stored.pair_ids], dtype=bool))
    chosen_P, rejected_P = here.scores_2P
    return compare_pairs(
        np.array([known[id] for id in here.stored.pair_ids], dtype=bool),
        wins(chosen_P - rejected_P),
        datasets_P=here.stored.datasets,
        prompts_P=here.stored.prompt_ids,
        benchmark_P=here.stored.split_P == "evaluation",
    )
