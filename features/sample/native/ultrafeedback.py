"""UltraFeedback: four completions a prompt, each rated 1..5 on four aspects and 1..10 overall."""

from collections.abc import Callable, Mapping

from numpy.random import Generator

from armorm.features.conversation import single_turn
from armorm.features.sample.native.base import ABSENT, Dataset, Defect, Files, Row, in_first
from armorm.features.sample.native.truth import Rated, from_ratings, is_whole
from armorm.features.sample.world.text import Answer, pick
from armorm.features.sample.world.words import Kind
from armorm.features.sample.world.world import Group, Judge, World

ASPECTS = {
    "instruction_following": Judge(1, 5, {"helpfulness": 0.5, "correctness": 0.3}, halo=0.9, length=0.35),
    "honesty": Judge(1, 5, {"correctness": 0.6}, halo=0.8, length=0.3),
    "truthfulness": Judge(1, 5, {"correctness": 0.8}, halo=0.7, length=0.3),
    "helpfulness": Judge(1, 5, {"helpfulness": 0.7}, halo=0.9, length=0.4),
}
OVERALL_SCORE = "ultrafeedback-overall_score"
OVERALL = Judge(1, 10, {"helpfulness": 0.4, "correctness": 0.4}, halo=0.8, length=0.5)

SUBSETS: Mapping[str, tuple[int, Mapping[Kind, float]]] = {
    "evol_instruct": (130, {"code": 0.5, "maths": 0.5}),
    "false_qa": (50, {"chat": 0.5, "maths": 0.5}),
    "flan": (200, {"chat": 0.4, "maths": 0.3, "code": 0.3}),
    "sharegpt": (200, {"chat": 0.5, "code": 0.4, "safety": 0.1}),
    "truthful_qa": (40, {"chat": 1.0}),
    "ultrachat": (140, {"chat": 0.7, "maths": 0.2, "safety": 0.1}),
}
"""How many prompts each subset has, and what they are about."""

MODELS = ("quill-7b", "sparrow-13b", "lantern-34b", "harbour-70b", "pebble-2b", "willow-8b")
PRINCIPLES = ("helpfulness", "honesty", "truthfulness", "verbalized_calibration")


def files(world: World) -> Files:
    """Return one row a prompt, one file a subset."""
    return {f"ultrafeedback/{subset}.jsonl": _rows(world, subset) for subset in SUBSETS}


def draw_models(rng: Generator, group: Group) -> list[str]:
    """Return who wrote each answer."""
    return [MODELS[i] for i in rng.permutation(len(MODELS))[: len(group.answers)]]


def _rows(world: World, subset: str) -> list[Row]:
    n_prompts, mix = SUBSETS[subset]
    rng = world.rng(f"ultrafeedback {subset} ratings")
    return [_row(rng, subset, group) for group in world.groups(f"ultrafeedback {subset}", n_prompts, 4, mix=mix)]


def _row(rng: Generator, subset: str, group: Group) -> Row:
    models = draw_models(rng, group)
    return {
        "source": subset,
        "instruction": group.question,
        "models": models,
        "completions": [_completion(rng, group, *pair) for pair in zip(models, group.answers, strict=True)],
        "correct_answers": ["None"],
        "incorrect_answers": ["None"],
    }


def _completion(rng: Generator, group: Group, model: str, answer: Answer) -> Row:
    """Return a completion. A clean 10 has aspects above 4, else it would pass for a 1 that upstream parsed as 10."""
    ratings = {aspect: int(judge.rate(rng, group, answer)) for aspect, judge in ASPECTS.items()}
    overall, average = OVERALL.rate(rng, group, answer, step=0.5), sum(ratings.values()) / len(ratings)
    principle = pick(rng, PRINCIPLES)
    return {
        "annotations": {aspect: _annotation(aspect, rating) for aspect, rating in ratings.items()},
        "custom_system_prompt": f"Whatever you are asked, mind your {principle}.",
        "model": model,
        "principle": principle,
        "response": answer.text,
        "critique": "Some of it is good and some of it could be better.",
        "overall_score": overall if average > 4 else min(overall, 9.5),
        "fine-grained_score": average,
    }


def _annotation(aspect: str, rating: int) -> Row:
    annotation: Row = {"Rating": str(rating), "Rationale": f"The answer earns a {rating}."}
    if aspect in ("truthfulness", "helpfulness"):
        annotation |= {"Type": ["1"] if rating < 5 else "None", "Rationale For Rating": f"It is worth a {rating}."}
    return annotation


def _rated(row: Row) -> list[Rated]:
    """Return the rated conversations; the first of two equal completions counts."""
    completions = {one["response"]: one for one in reversed(row["completions"]) if one["response"]}
    return [(single_turn(row["instruction"], response), _ratings(one)) for response, one in completions.items()]


def _ratings(completion: Row) -> dict[str, float]:
    """Return the usable ratings. An overall 10 counts as 1 if the aspects' mean is at most 2, as none up to 4."""
    given = {aspect: annotation["Rating"] for aspect, annotation in completion["annotations"].items()}
    ratings = {f"ultrafeedback-{aspect}": float(rating) for aspect, rating in given.items() if is_whole(rating, 1, 5)}
    overall, average = completion["overall_score"], completion["fine-grained_score"]
    if overall < 10 or average > 4:
        ratings[OVERALL_SCORE] = overall
    elif average <= 2:
        ratings[OVERALL_SCORE] = 1.0
    return ratings


def _given(rating: str, *aspects: str, **values: float | None) -> Callable[[Row], Row]:
    """Return the first completion with another rating of some aspects, and other values."""

    def changes(row: Row) -> Row:
        annotations = row["completions"][0]["annotations"]
        rated = annotations | {aspect: annotations[aspect] | {"Rating": rating} for aspect in aspects}
        return in_first("completions", annotations=rated, **values)(row)

    return changes


def _overall_ten(aspects: int) -> Callable[[Row], Row]:
    """Return an overall 10 where every aspect is rated `aspects`."""
    annotations = {aspect: _annotation(aspect, aspects) for aspect in ASPECTS}
    scores = {"overall_score": 10.0, "fine-grained_score": float(aspects)}
    return in_first("completions", annotations=annotations, **scores)


def _same_response(row: Row) -> Row:
    return in_first("completions", response=row["completions"][1]["response"])(row)


def _tied(row: Row) -> Row:
    """Return every completion rated like the first."""
    first = row["completions"][0]
    same = {name: first[name] for name in ("annotations", "overall_score", "fine-grained_score")}
    return {"completions": [completion | same for completion in row["completions"]]}


NO_ASPECT = {"overall_score": 6.5, "fine-grained_score": None}
DEFECTS = (
    Defect("missing_column", 0.002, {"completions": ABSENT}, "rejected"),
    Defect("no_completions", 0.004, {"completions": []}, "dropped"),
    Defect("one_completion", 0.005, lambda row: {"completions": row["completions"][:1]}),
    Defect("rating_not_applicable", 0.04, _given("N/A", "honesty")),
    Defect("nothing_applicable", 0.004, _given("N/A", *ASPECTS, **NO_ASPECT)),
    Defect("rating_not_a_number", 0.004, _given("high", "helpfulness"), "in part"),
    Defect("rating_out_of_range", 0.004, _given("7", "truthfulness"), "in part"),
    Defect("overall_score_bug", 0.005, _overall_ten(aspects=1)),
    Defect("overall_score_in_doubt", 0.005, _overall_ten(aspects=3), "in part", "overall_score_parse_bug"),
    Defect("identical_completions", 0.005, _same_response, "in part", "repeated_completion"),
    Defect("empty_answer", 0.004, in_first("completions", response=""), "in part", "empty_turn"),
    Defect("tied_completions", 0.01, _tied),
)
TRUTH = from_ratings(_rated, ranked_by=[f"ultrafeedback-{aspect}" for aspect in ASPECTS])
DATASET = Dataset("ultrafeedback", "lines", files, TRUTH, DEFECTS)
