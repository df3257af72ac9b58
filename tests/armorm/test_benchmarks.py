"""Own scores of benchmarks: small tables worked out by hand, and what must hold of any."""

from collections.abc import Sequence
from itertools import product

import numpy as np
import numpy.typing as npt
import pytest

from armorm.config import EvaluationConfig
from armorm.errors import MetricError
from armorm.features.sources.rewardbench import SECTION_WEIGHTS
from armorm.maths.benchmarks import (
    BEST_OF_FOUR,
    DIFFICULTIES,
    DOMAINS,
    GROUPS,
    JudgedPairs,
    OwnScores,
    best_of_credit,
    own_scores,
    ties_margin_terms,
    ties_score,
)
from armorm.maths.metrics import Interval, overall_score
from armorm.report.published import PUBLISHED, REWARDBENCH

CONFIG = EvaluationConfig(n_resamples=200)

Item = tuple[str, Sequence[float], Sequence[float]]
"""Subset of an item, the scores of its chosen answers, those of its rejected ones."""


def names(values: Sequence[str]) -> npt.NDArray[np.object_]:
    return np.array([*values, None], dtype=object)[:-1]


def judged(*items: Item, ordered_only: bool = False) -> JudgedPairs:
    """Every chosen answer of each item beside every rejected one."""
    rows, subsets, chosen, rejected, scores = [], [], [], [], []
    for number, (subset, good, bad) in enumerate(items):
        for (i, better), (j, worse) in product(enumerate(good), enumerate(bad)):
            rows.append(f"row {number}")
            subsets.append(subset)
            chosen.append(f"{number} good {i}")
            rejected.append(f"{number} bad {j}")
            scores.append((better, worse))
    scores_2P = np.array(scores, dtype=np.float64).reshape(-1, 2).T
    return JudgedPairs(
        rows=names(rows),
        prompts=names(rows),
        subsets=names(subsets),
        chosen=names(chosen),
        rejected=names(rejected),
        margins=scores_2P[0] - scores_2P[1],
        scores=None if ordered_only else scores_2P,
    )


def scored(kind: str, of: JudgedPairs) -> OwnScores:
    found = own_scores(kind, of, CONFIG)
    assert found is not None
    return found


def estimates(found: OwnScores) -> dict[str, float]:
    return {name: of.estimate for name, of in found.scores.items()}


def test_best_of_four_counts_the_first_place_and_shares_it() -> None:
    margins = np.array([1, 2, 3, 0, 2, 3, 0, 0, 0, 1, -1, 0, np.nan, np.nan, np.nan])
    credit = best_of_credit(margins, np.repeat(np.arange(5), 3))
    assert credit.tolist() == [1, 1 / 2, 1 / 4, 0, 1 / 4]


def test_the_terms_of_ties() -> None:
    # spread 1, gap 2, reference 3: both preferred, tanh(2 / 1 - 1); then a reference of 0.5, below the spread
    terms = ties_margin_terms(np.array([1.0, 1, 0, 0, 0]), np.array([2, 2, 1, 0, -1.0]), np.array([3, 0.5, 1, 0, 1]))
    assert terms["preferred"].tolist() == [1, 1, 1, 0, 0]
    assert terms["preferred hard"].tolist() == [1, 0, 1, 0, 0]
    np.testing.assert_allclose(terms["margin"], [np.tanh(1), np.tanh(-0.5), 1, 0, -1])
    assert ties_score(dict.fromkeys(("tied", "ref", "preferred", "preferred hard", "margin"), 1.0)) == pytest.approx(
        1.01
    )


REWARD_BENCH_2: list[Item] = [
    ("Factuality", [3], [1, 2, 0]),  # right
    ("Factuality", [3], [1, 3, 0]),  # shared with one: 1/2
    ("Precise IF", [0], [1, 2, 3]),  # wrong
    ("Math", [1], [0, 0, 0]),
    ("Safety", [1], [1, 1, 1]),  # shared with all: 1/4
    ("Focus", [5], [1, 1, 1]),
    ("Ties/ref:1", [4], [1, 0]),  # gap 3
    ("Ties/tied:1", [5, 4], [2, 1]),  # gap 2, spread 1: preferred, hard too, tanh(1)
    ("Ties/ref:2", [1], [2]),  # wrong; gap -1
    ("Ties/tied:2", [5, 2], [1, 1]),  # right; gap 1, spread 3: not preferred, tanh(-1 / 3 - 1)
]


def test_reward_bench_2_by_hand() -> None:
    found = scored("rewardbench-2", judged(*REWARD_BENCH_2))
    ties = 0.3 * 1 + 0.3 * 0.5 + 0.2 * 0.5 + 0.2 * 0.5 + 0.01 * (np.tanh(1) + np.tanh(-4 / 3)) / 2
    by_hand = {"Factuality": 0.75, "Precise IF": 0, "Math": 1, "Safety": 0.25, "Focus": 1, "Ties": ties}
    assert estimates(found) == pytest.approx(by_hand | {"overall": sum(by_hand.values()) / 6}, abs=1e-15)
    assert list(found.scores) == [*BEST_OF_FOUR, "Ties", "overall"]
    assert not found.missing


def test_a_judge_that_only_orders_has_no_score_of_ties_and_says_so() -> None:
    found = scored("rewardbench-2", judged(*REWARD_BENCH_2, ordered_only=True))
    assert found.missing == {"Ties": "it needs a score of each answer, and this judge only orders answers"}
    assert list(found.scores) == [*BEST_OF_FOUR, "overall without Ties"]
    assert found.scores["overall without Ties"].estimate == pytest.approx(3 / 5)


def test_what_of_reward_bench_2_is_not_there_is_named() -> None:
    found = scored("rewardbench-2", judged(("Math", [1], [0, 0, 2]), ("Ties", [1], [0])))
    assert estimates(found) == {"Math": 0, "overall without Factuality, Precise IF, Safety, Focus, Ties": 0}
    assert found.missing["Ties"] == "its pairs do not name their question; ingest the dataset again"
    assert found.missing["Focus"] == "the dataset has no pair of it"
    alone = scored("rewardbench-2", judged(("Ties/tied:1", [1, 1], [0]), ("Ties/ref:2", [1], [0])))
    assert alone.missing["Ties"] == "no question has both a version with several right answers and its reference"
    assert alone.scores == {}


def test_an_answer_of_ties_without_a_score_makes_its_question_a_miss() -> None:
    complete = [("Ties/ref:1", [4.0], [1.0]), ("Ties/tied:1", [5.0, 4.0], [1.0])]
    assert scored("rewardbench-2", judged(*complete)).scores["Ties"].estimate > 1
    broken = judged(complete[0], ("Ties/tied:1", [5.0, np.nan], [1.0]))
    assert scored("rewardbench-2", broken).scores["Ties"].estimate == pytest.approx(0.3)


def test_rm_bench_by_hand() -> None:
    # chat: chosen answers at 1, 2, 3, rejected ones at 0, 2, 4 (concise, detailed, markdown)
    items: list[Item] = []
    for domain, good, bad in (
        ("chat", (1, 2, 3), (0, 2, 4)),
        ("math", (1, 1, 1), (0, 0, 0)),
        ("code", (0, 0, 0), (0, 0, 0)),
        ("safety-refuse", (1, 1, 1), (0, 0, 0)),
        ("safety-response", (0, 0, 0), (1, 1, 1)),
    ):
        for (i, better), (j, worse) in product(enumerate(good), enumerate(bad)):
            level = "hard" if i < j else "easy" if i > j else "normal"
            items.append((f"{domain}/{level}", [better], [worse]))
    found = scored("rm-bench", judged(*items))
    chat = {"hard": 0, "normal": 1 / 3, "easy": 1}  # 1 > 2, 4; 2 > 4: none. 1 > 0; 2 > 2; 3 > 4. 2, 3 > 0; 3 > 2.
    by_hand = {"chat": 4 / 9, "math": 1, "code": 0, "safety": 0.5}
    by_hand |= {level: (chat[level] + 1 + 0 + 0.5) / 4 for level in DIFFICULTIES}
    assert estimates(found) == pytest.approx(by_hand | {"overall": (4 / 9 + 1 + 0.5) / 4})
    assert list(found.scores) == [*DOMAINS, *DIFFICULTIES, "overall"]


def test_a_pair_that_stands_for_several_counts_for_each() -> None:
    found = scored(
        "rm-bench", judged(("chat/easy+easy+hard", [1], [0]), ("chat/easy", [0], [1]), ("chat/normal", [0], [1]))
    )
    assert found.scores["chat"].estimate == pytest.approx((2 / 3 + 0 + 1) / 3)
    assert found.missing == dict.fromkeys(("math", "code", "safety"), "the dataset has no pair of it")
    assert list(found.scores)[-1] == "overall without math, code, safety"


def test_pairs_of_rm_bench_without_their_styles_are_not_scored() -> None:
    found = scored("rm-bench", judged(("chat", [1], [0]), ("safety-refuse", [1], [0])))
    assert found.scores == {}
    assert (
        found.missing["chat"]
        == found.missing["safety"]
        == "its pairs do not name their styles; ingest the dataset again"
    )


def in_orders(*of_pairs: tuple[str, float, float]) -> JudgedPairs:
    subsets, *orders = zip(*of_pairs, strict=True)
    ids = names([str(number) for number in range(len(subsets))])
    orders_2P = np.array(orders, dtype=np.float64)
    return JudgedPairs(ids, ids, names(subsets), ids, ids, orders_2P[0], None, orders_2P)


def test_judge_bench_by_hand() -> None:
    nan = float("nan")
    of = in_orders(
        ("mmlu-pro-law", 1, 1),  # right in both orders
        ("mmlu-pro-math", 1, -1),  # always the first answer: wrong
        ("mmlu-pro-other", 0.1, 0),  # right, and a tie: right
        ("mmlu-pro-physics", nan, 1),  # right, and no verdict: right
        ("livebench-math", 5, -1),  # the size does not count
        ("livebench-reasoning", 0, 0),
        ("livecodebench", nan, nan),
        ("livecodebench", 1, 1),
    )
    by_hand = {"mmlu-pro": 3 / 4, "livebench-reasoning": 0, "livebench-math": 0, "livecodebench": 1 / 2}
    assert estimates(scored("judgebench", of)) == by_hand | {"overall": 4 / 8}
    once = JudgedPairs(of.rows, of.prompts, of.subsets, of.chosen, of.rejected, of.margins)
    by_hand = {"mmlu-pro": 3 / 4, "livebench-reasoning": 0, "livebench-math": 1, "livecodebench": 1 / 2}
    assert estimates(scored("judgebench", once)) == by_hand | {"overall": 5 / 8}


def test_a_group_of_judge_bench_that_is_not_there_is_named() -> None:
    found = scored("judgebench", in_orders(("livecodebench", 1, 1)))
    assert list(found.scores) == ["livecodebench", "overall without mmlu-pro, livebench-reasoning, livebench-math"]
    assert list(found.missing) == [*GROUPS[:3]]


def random_items(seed: int, n: int = 40) -> list[Item]:
    rng = np.random.default_rng(seed)

    def some(size: int, mean: float = 0.0) -> list[float]:
        return [float(score) for score in rng.normal(mean, size=size)]

    items: list[Item] = [(name, some(1), some(3)) for name in BEST_OF_FOUR for _ in range(n)]
    for number in range(n):
        items += [(f"Ties/ref:{number}", some(1, 3), some(4)), (f"Ties/tied:{number}", some(3, 3), some(2))]
    return items


def test_the_order_of_pairs_and_a_monotone_change_of_all_scores_change_nothing(seed: int) -> None:
    of = judged(*random_items(seed))
    before = scored("rewardbench-2", of)
    shuffled = judged(*random_items(seed)[::-1])
    assert estimates(scored("rewardbench-2", shuffled)) == pytest.approx(estimates(before), abs=1e-12)
    assert of.scores is not None
    doubled = JudgedPairs(of.rows, of.prompts, of.subsets, of.chosen, of.rejected, of.margins * 2, of.scores * 2 + 7)
    assert estimates(scored("rewardbench-2", doubled)) == pytest.approx(estimates(before), abs=1e-9)


def test_intervals_hold_the_estimate_and_narrow_with_more_prompts(seed: int) -> None:
    def width(of: Interval) -> float:
        return of.high - of.low

    few, many = (scored("rewardbench-2", judged(*random_items(seed, n))) for n in (20, 320))
    assert all(of.low <= of.estimate <= of.high for of in many.scores.values())
    assert all(width(of) > 0 for of in many.scores.values())
    assert width(many.scores["overall"]) < width(few.scores["overall"]) / 2


def test_questions_and_their_references_are_drawn_together() -> None:
    # Of each question both versions are right or both are wrong: drawn apart, the accuracies would vary less together.
    items: list[Item] = []
    for number in range(40):
        good = 2.0 if number % 2 else 0.0
        items += [(f"Ties/ref:{number}", [good], [1]), (f"Ties/tied:{number}", [good, good], [1])]
    of = scored("rewardbench-2", judged(*items)).scores["Ties"]
    spread = 1.01 * np.sqrt(0.25 / 40) * 2 * 1.96  # of a mean of 40, each 1.01 or -0.01
    assert (of.high - of.low) == pytest.approx(spread, rel=0.25)


def test_other_benchmarks_have_no_own_score() -> None:
    assert own_scores("ppe-human-preference", judged(("", [1], [0])), CONFIG) is None


def test_columns_of_different_lengths_are_refused() -> None:
    of = judged(("Math", [1], [0, 0, 0]))
    with pytest.raises(MetricError, match="got 1 margins beside columns of 3; expected as many of each"):
        JudgedPairs(of.rows, of.prompts, of.subsets, of.chosen, of.rejected, np.zeros(1))


def test_a_dataset_without_pairs_has_no_scores() -> None:
    for kind in ("rewardbench-2", "rm-bench", "judgebench"):
        found = scored(kind, judged())
        assert not found.scores
        assert set(found.missing.values()) == {"the dataset has no pair of it"}


@pytest.mark.parametrize("model", REWARDBENCH)
def test_published_rows_of_rewardbench_follow_its_formula(model: str) -> None:
    sections = dict(REWARDBENCH[model])
    assert sections.pop("overall") == pytest.approx(overall_score(sections, SECTION_WEIGHTS), abs=0.0011)


@pytest.mark.parametrize(("kind", "model"), [(kind, model) for kind, of in PUBLISHED.items() for model in of.scores])
def test_published_rows_follow_the_rule_of_their_benchmark(kind: str, model: str) -> None:
    """Their digits agree with the rule: a typing error of more than a rounding would show."""
    scores = PUBLISHED[kind].scores[model]
    means = {
        "rewardbench-2": [dict.fromkeys((*BEST_OF_FOUR, "Ties"), 1)],
        "rm-bench": [dict.fromkeys(DOMAINS, 1), dict.fromkeys(DIFFICULTIES, 1)],
        "judgebench": [dict(zip(GROUPS, (154, 98, 56, 42), strict=True))],
    }
    for weights in means[kind]:
        mean = sum(scores[name] * weight for name, weight in weights.items()) / sum(weights.values())
        assert scores["overall"] == pytest.approx(mean, abs=0.0011 if kind != "judgebench" else 0.0001)
    assert list(scores) == list(PUBLISHED[kind].columns)
