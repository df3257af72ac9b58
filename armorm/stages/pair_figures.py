"""All figures that come of a model's rewards and gate weights on stored pairs, wherever the vectors came from.

Suffixes: P pairs, A distinct answers, U distinct prompts, K objectives, N some of the answers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt

from armorm.config import Correlation, EvaluationConfig
from armorm.features.conversation import HELD_OUT
from armorm.features.sources import preference_test_sets, rewardbench
from armorm.features.vectors.shards import FeatureReader
from armorm.maths import evaluation
from armorm.maths.benchmarks import JudgedPairs, OwnScores, own_scores
from armorm.maths.diagnostics import CorrelationMatrices, correlation_matrices, explain_pair, mean_by_kind, worst_pairs
from armorm.maths.probe import ProbeReport
from armorm.maths.score import coefficients, contributions, score
from armorm.model.head import RewardHead
from armorm.records.evaluation import Evaluation, GateByKind, Mistake, PairAccuracy
from armorm.stages.data import Names, StoredPairs, predict_rewards

MISTAKES = 10
"""How many of the worst are explained."""

Floats = npt.NDArray[np.floating]
Rows = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class PredictedPairs:
    """What a model makes of pairs; every distinct answer and prompt was predicted once."""

    stored: StoredPairs
    transform_KK: Floats
    rewards_AK: Floats
    """`[A, K]` raw rewards."""
    gating_UK: Floats
    """`[U, K]` the gate's weights."""
    answer_ids: Names
    prompt_ids: Names
    chosen_P: Rows
    """`[P]` rows of the answers, as `rejected_P`."""
    rejected_P: Rows
    prompt_P: Rows

    @classmethod
    def of(
        cls,
        stored: StoredPairs,
        model: RewardHead,
        answers: tuple[Names, Floats],
        prompts: tuple[Names, Floats],
    ) -> Self:
        """Put pairs and predictions together.

        Args:
            answers: `[A]` ids, sorted and distinct, with their rewards; there may be more than the pairs have.
            prompts: `[U]` ids, sorted and distinct, with the gate's weights.
        """
        (answer_ids, rewards_AK), (prompt_ids, gating_UK) = answers, prompts
        chosen_P, rejected_P = (np.searchsorted(answer_ids, ids) for ids in (stored.chosen_ids, stored.rejected_ids))
        prompt_P = np.searchsorted(prompt_ids, stored.prompt_ids)
        return cls(
            stored, model.transform_KK, rewards_AK, gating_UK, answer_ids, prompt_ids, chosen_P, rejected_P, prompt_P
        )

    def select(self, here_P: npt.NDArray[np.bool_]) -> Self:
        """Return some of the pairs; the predictions stay."""
        rows = {name: getattr(self, name)[here_P] for name in ("chosen_P", "rejected_P", "prompt_P")}
        return replace(self, stored=self.stored.select(here_P), **rows)

    @property
    def differences_PK(self) -> Floats:
        """`[P, K]` decorrelated rewards of the chosen answers less those of the rejected ones."""
        return np.asarray((self.rewards_AK[self.chosen_P] - self.rewards_AK[self.rejected_P]) @ self.transform_KK)

    @property
    def scores_2P(self) -> Floats:
        """`[2, P]` scores of the chosen and the rejected answers."""
        gating_PK = self.gating_UK[self.prompt_P]
        sides = (self.chosen_P, self.rejected_P)
        return np.stack([score(self.rewards_AK[rows_P], self.transform_KK, gating_PK) for rows_P in sides])


def predict_pairs(
    model: RewardHead, reader: FeatureReader, stored: StoredPairs, *, also: Names | None = None
) -> PredictedPairs:
    """Predictions from the store's vectors.

    Args:
        also: `[N]` more answers to predict.
    """
    answers = np.unique(np.concatenate([stored.chosen_ids, stored.rejected_ids, *([] if also is None else [also])]))
    prompts = np.unique(stored.prompt_ids)
    gating_UK = model.gating(reader.rows("prompt", prompts.tolist()))
    return PredictedPairs.of(
        stored, model, (answers, predict_rewards(reader, model.W_KD, answers)), (prompts, gating_UK)
    )


@dataclass(frozen=True, slots=True)
class Baselines:
    """What a model is compared with, besides the mean of its objectives and the longer answer."""

    best_objective: str | None = None
    """The objective that alone ranks most training pairs correctly; None where they were not scored."""
    probe: ProbeReport | None = None
    """What is known of the probe; None without one."""
    probe_differences: Callable[[StoredPairs], Floats] | None = None
    """`[P]` of some pairs, by the probe."""


def held_out_record(
    model: RewardHead,
    predicted: PredictedPairs,
    baselines: Baselines,
    config: EvaluationConfig,
    *,
    lengths_of: Callable[[Names], Floats],
) -> Evaluation:
    """Return all figures on the held-out pairs and the benchmark, without the contaminated ones.

    Args:
        predicted: what it makes of pairs, others than held-out ones among them or not.
        lengths_of: `[N]` tokens of answers by their ids; NaN where they are not known.
    """
    counted = predicted.select(predicted.stored.usable(*HELD_OUT))
    stored, scores_2P = counted.stored, counted.scores_2P
    probe, trained = baselines.probe_differences, model.training.gate
    ranked = evaluation.rank(
        counted.differences_PK,
        scores_2P[0] - scores_2P[1],
        stored.n_chars_difference_P,
        probe(stored) if probe else None,
        objectives=model.objectives,
        best_objective=baselines.best_objective,
        mixture=trained.mixture if trained else {},
    )
    test_P, benchmark_P = stored.split_P == "test", benchmark_pairs(stored)
    here, of_benchmark = ({n: by_P[rows_P] for n, by_P in ranked.items()} for rows_P in (test_P, benchmark_P))
    of_test = stored.select(test_P)
    rows = evaluation.held_out_accuracy(here, datasets_P=of_test.datasets, prompts_P=of_test.prompt_ids, config=config)
    calibrated = np.isfinite(model.beta) and model.beta > 0
    return Evaluation(
        pairs=PairAccuracy(
            rows,
            baselines.best_objective,
            baselines.probe,
            evaluation.against(here, prompts_P=of_test.prompt_ids, config=config),
        ),
        length=evaluation.length_accuracy(
            here, of_test.n_chars_difference_P, prompts_P=of_test.prompt_ids, config=config
        ),
        rewardbench=rewardbench_scores(stored.select(benchmark_P), of_benchmark, config),
        benchmarks=benchmark_scores(stored, scores_2P[0] - scores_2P[1], config, scores_2P=scores_2P),
        calibration=evaluation.calibration(
            here["gate"],
            beta=model.beta,
            datasets_P=of_test.datasets,
            beta_by_dataset=trained.beta_by_dataset if trained else {},
        )
        if calibrated
        else None,
        rejected_pairs=stored.n_rejected,
        reward_correlations=_reward_correlations(model, counted, lengths_of),
        gate_by_kind=_gate_by_kind(model, counted),
        mistakes=_mistakes(model, counted.select(test_P)),
    )


def rewardbench_scores(
    stored: StoredPairs, ranked: evaluation.Ranked, config: EvaluationConfig
) -> evaluation.Benchmark:
    """Return RewardBench's own scores of the gate, and of baselines, on its pairs."""
    published = {name: (of.section, of.n_rows, float(of.weight)) for name, of in _subsets().items()}
    return evaluation.benchmark_scores(
        ranked,
        stored.subsets,
        prompts_P=stored.prompt_ids,
        published=published,
        section_weights=rewardbench.SECTION_WEIGHTS,
        prior_section=rewardbench.PRIOR_SECTION,
        config=config,
    )


def benchmark_scores(
    stored: StoredPairs,
    margins_P: Floats,
    config: EvaluationConfig,
    *,
    scores_2P: Floats | None = None,
    orders_2P: Floats | None = None,
) -> dict[str, OwnScores]:
    """Return the scores of each benchmark that has a rule of its own, by the dataset; see `JudgedPairs`."""
    both = {"scores": scores_2P, "orders": orders_2P}
    judged = JudgedPairs(
        rows=stored.source_rows,
        prompts=stored.prompt_ids,
        subsets=stored.subsets,
        chosen=stored.chosen_ids,
        rejected=stored.rejected_ids,
        margins=margins_P.astype(np.float64),
        **{name: None if of is None else of.astype(np.float64) for name, of in both.items()},
    )
    found = {
        dataset: own_scores(kind, judged.select(stored.datasets == dataset), config)
        for dataset, kind in stored.benchmarks.items()
        if dataset in stored.datasets
    }
    return {dataset: scores for dataset, scores in found.items() if scores}


def _subsets() -> Mapping[str, rewardbench.Subset]:
    return {**rewardbench.SUBSETS, **rewardbench.PRIOR_SETS}


def benchmark_pairs(stored: StoredPairs) -> npt.NDArray[np.bool_]:
    """Return `[P]` which pairs are RewardBench's, its prior sets among them."""
    return np.isin(stored.datasets, [rewardbench.SOURCE.name, preference_test_sets.SOURCE.name])


def _reward_correlations(
    model: RewardHead, counted: PredictedPairs, lengths_of: Callable[[Names], Floats]
) -> CorrelationMatrices:
    """Over the distinct answers of held-out pairs, the benchmark's included."""
    rows_N = np.unique(np.concatenate([counted.chosen_P, counted.rejected_P]))
    return correlation_matrices(
        counted.rewards_AK[rows_N],
        model.transform_KK,
        lengths_of(counted.answer_ids[rows_N]),
        objectives=model.objectives,
        correlation=correlation_of(model),
    )


def correlation_of(model: RewardHead) -> Correlation:
    """Return what a model was decorrelated by; the paper's, where it does not say."""
    return model.training.decorrelation.correlation if model.training.decorrelation else "spearman"


def _gate_by_kind(model: RewardHead, counted: PredictedPairs) -> GateByKind:
    """Mean coefficients of the raw rewards: held-out prompts by dataset, the benchmark's by section and subset."""
    stored, coefficients_UK = counted.stored, coefficients(model.transform_KK, counted.gating_UK)
    benchmark_P, test_P = benchmark_pairs(stored), stored.split_P == "test"
    section_of = {name: subset.section for name, subset in _subsets().items()}
    sections_P = np.array([section_of.get(name) for name in stored.subsets], dtype=object)
    rows = [
        of
        for kind, names, names_P, here_P in (
            ("dataset", sorted(set(stored.datasets[test_P])), stored.datasets, test_P),
            ("section", list(rewardbench.SECTION_WEIGHTS), sections_P, benchmark_P),
            ("subset", list(section_of), stored.subsets, benchmark_P),
        )
        for of in mean_by_kind(kind, names, names_P[here_P], counted.prompt_P[here_P], coefficients_UK)
    ]
    return GateByKind(model.objectives, tuple(rows))


def _mistakes(model: RewardHead, of_test: PredictedPairs) -> tuple[Mistake, ...]:
    """Return the worst of the held-out pairs."""
    stored, scores_2P = of_test.stored, of_test.scores_2P
    gating_PK = of_test.gating_UK[of_test.prompt_P]
    contributions_2PK = np.stack(
        [
            contributions(of_test.rewards_AK[rows_P], model.transform_KK, gating_PK, model.decorrelated_K)
            for rows_P in (of_test.chosen_P, of_test.rejected_P)
        ]
    )
    return tuple(
        Mistake(
            pair_id=stored.pair_ids[p],
            dataset=stored.datasets[p],
            source_row=stored.source_rows[p],
            score_chosen=float(scores_2P[0, p]),
            score_rejected=float(scores_2P[1, p]),
            wrong_by=float(scores_2P[1, p] - scores_2P[0, p]),
            objectives=explain_pair(
                model.terms(contributions_2PK[0, p]),
                model.terms(contributions_2PK[1, p]),
                dict(zip(model.objectives, of_test.gating_UK[of_test.prompt_P[p]].tolist(), strict=True)),
            ),
        )
        for p in worst_pairs(scores_2P[0] - scores_2P[1], MISTAKES)
    )
