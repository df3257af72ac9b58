"""The own scores of published benchmarks, by the rules of their published code, as pure functions over arrays.

Each benchmark is a set of means, over items that it defines, and a formula over the means. An interval comes of the
same means over prompts that are drawn with replacement. A pair without a verdict counts as a tie, and a tie as each
benchmark has it.
Suffixes: P pairs, I items, F columns, R resamples.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from armorm.config import EvaluationConfig
from armorm.errors import MetricError
from armorm.maths.metrics import Interval, bootstrap_sums, interval

Floats = npt.NDArray[np.floating]
Names = npt.NDArray[np.object_]
Means = Mapping[str, Any]
"""Name to a mean, or to its resamples."""

BEST_OF_FOUR: Final = ("Factuality", "Precise IF", "Math", "Safety", "Focus")
"""The subsets of RewardBench 2 in which one answer is better than three others."""

TIES: Final = "Ties"
"""The subset of RewardBench 2 in which many answers are right."""

DOMAINS: Final = ("chat", "math", "code", "safety")
"""The domains of RM-Bench; what their names begin is part of them, as `safety-refuse` is."""

DIFFICULTIES: Final = ("hard", "normal", "easy")
"""The difficulties of RM-Bench's pairs, by the styles of their answers."""

GROUPS: Final = ("mmlu-pro", "livebench-reasoning", "livebench-math", "livecodebench")
"""The groups of JudgeBench's sources; what their names begin is part of them."""

OVERALL: Final = "overall"

_NO_PAIR: Final = "the dataset has no pair of it"
_TIES_ID: Final = re.compile(rf"{TIES}/(ref|tied):(.+)")


@dataclass(frozen=True, slots=True)
class JudgedPairs:
    """What a judge makes of the pairs of one benchmark."""

    rows: Names
    """`[P]` native row of each pair: all pairs of a row are one item."""
    prompts: Names
    """`[P]` what the bootstrap resamples."""
    subsets: Names
    """`[P]` as the benchmark's recipe makes them."""
    chosen: Names
    """`[P]` ids of the chosen answers, as `rejected`."""
    rejected: Names
    margins: Floats
    """`[P]` how much better the chosen answer is; NaN where the judge gave no verdict."""
    scores: Floats | None = None
    """`[2, P]` scores of the chosen and the rejected answers; None of a judge that orders answers and scores none."""
    orders: Floats | None = None
    """`[2, P]` margins with the chosen answer shown first, and second; None of a judge that was not asked twice."""

    def __post_init__(self) -> None:
        n_pairs = len(self.margins)
        lengths = [len(of) for of in (self.rows, self.prompts, self.subsets, self.chosen, self.rejected)]
        lengths += [of.shape[-1] for of in (self.scores, self.orders) if of is not None]
        if {*lengths} != {n_pairs}:
            raise MetricError(f"got {n_pairs} margins beside columns of {max(lengths)}; expected as many of each")

    def select(self, here_P: npt.NDArray[np.bool_]) -> Self:
        """Return some of the pairs."""
        columns = {of.name: getattr(self, of.name) for of in fields(self)}
        return replace(self, **{name: of[..., here_P] for name, of in columns.items() if of is not None})


@dataclass(frozen=True, slots=True)
class OwnScores:
    """A benchmark's own scores, in 0..1; a mean without some of its parts says so in its name."""

    kind: str
    """The recipe that the benchmark was read by."""
    scores: Mapping[str, Interval]
    """Scores by the name of what they measure; the overall score is the last."""
    missing: Mapping[str, str]
    """What could not be scored, and why."""


def own_scores(kind: str, judged: JudgedPairs, config: EvaluationConfig) -> OwnScores | None:
    """Return a benchmark's own scores with 95 % bootstrap intervals; None of a benchmark that has none.

    Args:
        kind: the recipe that the benchmark was read by.
        judged: its pairs.
        config: number of resamples, seed.
    """
    if kind not in _RULES:
        return None
    blocks, figures, missing = _RULES[kind](judged)
    return OwnScores(kind, _scored(blocks, figures, config), missing)


def best_of_credit(margins_P: Floats, item_P: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
    """Return `[I]` what an item adds to the accuracy: one over the answers that share the first place.

    It is 0 where another answer is better than the chosen one, 1 where none is as good, and 1/2 where one is as good.

    Args:
        margins_P: `[P]` the chosen answer less each rejected one; NaN counts as 0.
        item_P: `[P]` item of each pair, from 0.

    Source: `reroll_and_score_dataset` in rewardbench/utils.py of allenai/reward-bench, and `(0 in winners) /
    len(winners)` of its scripts/run_generative_v2.py, where an answer without a verdict is one of a tie of all.
    """
    sound_P = np.nan_to_num(margins_P)
    beaten_I, level_I = (np.bincount(item_P, weights=of_P) for of_P in (sound_P < 0, sound_P == 0))
    return np.where(beaten_I > 0, 0.0, 1 / (1 + level_I))


@dataclass(frozen=True, slots=True)
class TiesPrompts:
    """What the scores of some questions' answers say, right and wrong ones."""

    accurate: npt.NDArray[np.bool_]
    """`[I]` whether every right answer scores higher than every wrong one."""
    several: npt.NDArray[np.bool_]
    """`[I]` whether there is more than one right answer."""
    spread: Floats
    """`[I]` the best right answer less the worst one."""
    gap: Floats
    """`[I]` the worst right answer less the best wrong one."""


def ties_prompts(scores_2P: Floats, chosen_P: Names, item_P: npt.NDArray[np.intp]) -> TiesPrompts:
    """Return what each question's answers say; an answer without a score makes the question a miss.

    Args:
        scores_2P: `[2, P]` of each right answer beside each wrong one.
        chosen_P: `[P]` the right answers.
        item_P: `[P]` question of each pair, from 0.

    Source: `_compute_prompt_stats` in rewardbench/utils.py of allenai/reward-bench.
    """
    order = np.argsort(item_P, kind="stable")
    starts = np.flatnonzero(np.diff(item_P[order], prepend=-1))
    right_P, wrong_P = np.asarray(scores_2P, dtype=np.float64)[:, order]
    best_I, worst_I = np.maximum.reduceat(right_P, starts), np.minimum.reduceat(right_P, starts)
    gap_I = worst_I - np.maximum.reduceat(wrong_P, starts)
    several_I = np.array([len({*of}) > 1 for of in np.split(chosen_P[order], starts[1:])])
    return TiesPrompts(gap_I > 0, several_I, best_I - worst_I, gap_I)


def ties_margin_terms(spread_I: Floats, tied_gap_I: Floats, ref_gap_I: Floats) -> dict[str, npt.NDArray[np.float64]]:
    r"""Return `[I]` terms of questions that are asked with many right answers (tied) and with one (reference).

    With the spread s of right answers, the gap g_t between right and wrong ones, and that of the reference, g_r:
    `preferred` is [g_t > s], `preferred hard` [min(g_r, g_t) > s], and `margin` tanh(min(g_r, g_t) / s - 1), of which
    0 / 0 counts as 0.

    Source: `process_single_model` in rewardbench/utils.py of allenai/reward-bench.
    """
    least_I = np.minimum(ref_gap_I, tied_gap_I)
    with np.errstate(divide="ignore", invalid="ignore"):
        margin_I = np.nan_to_num(np.tanh(least_I / spread_I - 1), nan=0.0)
    preferred = {"preferred": tied_gap_I > spread_I, "preferred hard": least_I > spread_I}
    return {name: of_I.astype(np.float64) for name, of_I in preferred.items()} | {"margin": margin_I}


def ties_score(means: Means) -> Any:
    """Return the weighted score of the subset Ties from the means of its terms.

    0.3 accuracy of tied questions + 0.3 accuracy of references + 0.2 preferred + 0.2 preferred hard + 0.01 margin: at
    most 1.01.

    Source: `process_single_model` in rewardbench/utils.py of allenai/reward-bench.
    """
    weights = {"tied": 0.3, "ref": 0.3, "preferred": 0.2, "preferred hard": 0.2, "margin": 0.01}
    return sum(weight * means[name] for name, weight in weights.items())


def agreed(judged: JudgedPairs) -> npt.NDArray[np.bool_]:
    """Return `[P]` whether a judge is right of each pair, in both orders where it was asked in both.

    Each order counts 1 if it prefers the chosen answer, -1 if the other, 0 for a tie or no verdict. A pair is right if
    the sum is above 0: right in one order and a tie in the other is right, and right in one and wrong in the other not.

    Source: `compute_final_metrics` in utils/metrics.py of ScalerLab/JudgeBench.
    """
    counted_P = judged.margins if judged.orders is None else np.sign(np.nan_to_num(judged.orders)).sum(axis=0)
    return np.asarray(counted_P > 0)


Block = tuple[Names, Mapping[str, Floats]]
"""`[I]` prompts of some items, and by the name of each mean that they are part of `[I, 2]` their values and weights."""


Rule = tuple[Sequence[Block], Callable[[Means], dict[str, Any]], Mapping[str, str]]
"""Items of a benchmark, the formula of its figures over their means, and what is missing, with the reason."""


def _block(prompts_I: Names, values: Mapping[str, Floats], weights: Mapping[str, Floats] | None = None) -> Block:
    """Return items with their values in some means; without weights each counts once where its value is a number."""
    weighed = weights or {name: np.isfinite(of_I).astype(np.float64) for name, of_I in values.items()}
    return prompts_I, {
        name: np.stack([np.nan_to_num(of_I) * weighed[name], weighed[name]], axis=1) for name, of_I in values.items()
    }


def _scored(
    blocks: Sequence[Block], figures: Callable[[Means], dict[str, Any]], config: EvaluationConfig
) -> dict[str, Interval]:
    """Return the formula's figures of the means, with intervals; a mean of which nothing was drawn keeps its value."""
    names = list(dict.fromkeys(name for _, of in blocks for name, of_I2 in of.items() if of_I2[:, 1].any()))
    if not names:
        return {}
    sums_IF2 = np.concatenate(
        [np.stack([of.get(n, np.zeros((len(prompts_I), 2))) for n in names], axis=1) for prompts_I, of in blocks]
    )
    drawn_RF = bootstrap_sums(
        sums_IF2.reshape(len(sums_IF2), -1),
        np.concatenate([prompts_I for prompts_I, _ in blocks]),
        n_resamples=config.n_resamples,
        seed=config.seed,
    )
    sums_F, weights_F = sums_IF2.sum(axis=0).T
    sums_RF, weights_RF = np.moveaxis(drawn_RF.reshape(-1, len(names), 2), 2, 0)
    drawn = weights_RF > 0
    resampled_RF = np.where(drawn, sums_RF / np.where(drawn, weights_RF, 1), sums_F / weights_F)
    resampled = figures(dict(zip(names, resampled_RF.T, strict=True)))
    found = figures(dict(zip(names, sums_F / weights_F, strict=True)))
    return {name: interval(float(value), resampled[name]) for name, value in found.items()}


def _items(*keys: Names) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return `[I]` the first pair of each item, pairs of equal keys being one item, and `[P]` the item of each pair."""
    codes_P = np.zeros(len(keys[0]), dtype=np.intp)
    for of_P in keys:
        _, code_P = np.unique(of_P.astype(str), return_inverse=True)
        codes_P = codes_P * (code_P.max(initial=0) + 1) + code_P
    _, first_I, item_P = np.unique(codes_P, return_index=True, return_inverse=True)
    return first_I, item_P


def _mean(of: Means) -> Any:
    return sum(of.values()) / len(of)


def _without(name: str, missing: Mapping[str, str]) -> str:
    """Return the name of a mean of all parts, with those that it is without."""
    return f"{name} without {', '.join(missing)}" if missing else name


def _reward_bench_2(judged: JudgedPairs) -> Rule:
    """Return the accuracy of best of four in each subset, the score of Ties, and the mean of all six.

    Sources: scripts/run_v2.py of allenai/reward-bench for the subsets; arXiv 2506.01937 for their plain mean.
    """
    best = judged.select(np.isin(judged.subsets, BEST_OF_FOUR))
    first_I, item_P = _items(best.subsets, best.rows, best.chosen)
    credit_I, subset_I = best_of_credit(best.margins, item_P), best.subsets[first_I]
    of_subsets = {name: np.where(subset_I == name, credit_I, np.nan) for name in BEST_OF_FOUR}
    missing = {name: _NO_PAIR for name in BEST_OF_FOUR if name not in subset_I}
    ties, why = _ties(judged)
    if why:
        missing[TIES] = why

    def figures(means: Means) -> dict[str, Any]:
        of = {name: means[name] for name in BEST_OF_FOUR if name in means}
        of |= {} if why else {TIES: ties_score(means)}
        return of | {_without(OVERALL, missing): _mean(of)}

    blocks = [_block(best.prompts[first_I], of_subsets), *([ties] if ties else [])]
    return blocks, figures, missing


def _ties(judged: JudgedPairs) -> tuple[Block | None, str]:
    """Return the terms of the questions of Ties, one item for each with its reference; or why there are none."""
    found = [_TIES_ID.fullmatch(subset) for subset in judged.subsets]
    of = judged.select(np.array([match is not None for match in found], dtype=bool))
    if not len(of.margins):
        unnamed = any(subset.startswith(TIES) for subset in judged.subsets)
        return None, "its pairs do not name their question; ingest the dataset again" if unnamed else _NO_PAIR
    if of.scores is None:
        return None, "it needs a score of each answer, and this judge only orders answers"
    first_I, item_P = _items(of.subsets)
    prompts = ties_prompts(of.scores, of.chosen, item_P)
    kind_I, number_I = np.array([match.groups() for match in found if match], dtype=object)[first_I].T
    numbers_C, question_I = np.unique(number_I.astype(str), return_inverse=True)
    places = {kind: np.full(len(numbers_C), -1) for kind in ("tied", "ref")}
    for kind, place_C in places.items():
        place_C[question_I[kind_I == kind]] = np.flatnonzero(kind_I == kind)
    tied_C, ref_C = places.values()
    both_C = (tied_C >= 0) & (ref_C >= 0) & prompts.several[tied_C]
    if not both_C.any():
        return None, "no question has both a version with several right answers and its reference"
    terms = ties_margin_terms(prompts.spread[tied_C], prompts.gap[tied_C], prompts.gap[ref_C])
    values = {name: np.where(both_C, of_C, np.nan) for name, of_C in terms.items()} | {
        kind: np.where(place_C >= 0, prompts.accurate[place_C], np.nan) for kind, place_C in places.items()
    }
    return _block(np.array([f"{TIES}/{number}" for number in numbers_C], dtype=object), values), ""


def _rm_bench(judged: JudgedPairs) -> Rule:
    """Return the accuracy of each domain and difficulty, and the mean over domains.

    The nine pairs of a prompt are hard where the chosen answer has the plainer style, easy where it has the more
    elaborate one, normal where both have the same. A domain's score is the mean of its three difficulties.

    Source: `compute_accuracy` in scripts/utils.py of THU-KEG/RM-Bench.
    """
    names, name_P = np.unique(judged.subsets.astype(str), return_inverse=True)
    cells = [f"{domain} {difficulty}" for domain in DOMAINS for difficulty in DIFFICULTIES]
    counts_UF = np.array([_cells_of(name, cells) for name in names]).reshape(-1, len(cells))
    weights = dict(zip(cells, counts_UF[name_P].T, strict=True))
    won_P = (judged.margins > 0).astype(np.float64)
    has = {domain: all(weights[f"{domain} {of}"].any() for of in DIFFICULTIES) for domain in DOMAINS}
    missing = {
        domain: "its pairs do not name their styles; ingest the dataset again"
        if any(name.startswith(domain) for name in names)
        else _NO_PAIR
        for domain in DOMAINS
        if not has[domain]
    }
    domains = [domain for domain in DOMAINS if has[domain]]

    def figures(means: Means) -> dict[str, Any]:
        of = {name: _mean({d: means[f"{name} {d}"] for d in DIFFICULTIES}) for name in domains}
        difficult = {
            _without(d, missing): _mean({name: means[f"{name} {d}"] for name in domains}) for d in DIFFICULTIES
        }
        return of | difficult | {_without(OVERALL, missing): _mean(of)} if of else {}

    return [_block(judged.prompts, dict.fromkeys(cells, won_P), weights)], figures, missing


def _cells_of(subset: str, cells: Sequence[str]) -> list[float]:
    """Return how often a pair of a subset, such as `safety-refuse/hard+normal`, stands in each of the cells."""
    domain, _, difficulties = subset.partition("/")
    own = [f"{name} {of}" for name in DOMAINS if domain.startswith(name) for of in difficulties.split("+")]
    return [float(own.count(cell)) for cell in cells]


def _judge_bench(judged: JudgedPairs) -> Rule:
    """Return the accuracy on each group of sources, and on all pairs.

    Source: run_judge.py and `compute_final_metrics` in utils/metrics.py of ScalerLab/JudgeBench.
    """
    right_P = agreed(judged).astype(np.float64)
    within = {name: np.array([of.startswith(name) for of in judged.subsets], dtype=bool) for name in GROUPS}
    missing = {name: _NO_PAIR for name, here_P in within.items() if not here_P.any()}
    values = {name: np.where(here_P, right_P, np.nan) for name, here_P in within.items()}
    values[_without(OVERALL, missing)] = right_P
    return [_block(judged.prompts, values)], dict, missing


_RULES: Final[Mapping[str, Callable[[JudgedPairs], Rule]]] = {
    "rewardbench-2": _reward_bench_2,
    "rm-bench": _rm_bench,
    "judgebench": _judge_bench,
}
"""Recipe to the rule of the benchmark's own scores."""
