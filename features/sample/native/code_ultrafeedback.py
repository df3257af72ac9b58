"""CodeUltraFeedback: four responses to a coding task, all rated 1..5 on one preference, which the row names."""

from collections.abc import Mapping
from typing import Final

from numpy.random import Generator

from armorm.features.conversation import single_turn
from armorm.features.sample.native.base import Dataset, Files
from armorm.features.sample.world.defects import (
    DUPLICATE,
    Defect,
    Line,
    Row,
    altered,
    dropped,
    in_first,
    in_part,
    rejected,
    with_value,
)
from armorm.features.sample.world.files import write_parquet
from armorm.features.sample.world.truth import Rated, from_ratings, is_whole
from armorm.features.sample.world.world import FEWEST_ROWS, Group, Judge, World

JUDGES: Final[Mapping[str, Judge]] = {
    "instruction-following": Judge(1, 5, {"helpfulness": 0.6}, halo=0.9, length=0.3),
    "readability": Judge(1, 5, {"style": 1.0}, halo=0.4, length=0.3),
    "complexity": Judge(1, 5, {"complexity": 1.1}, halo=0.2, length=0.4),
    "style": Judge(1, 5, {"style": 1.2, "correctness": 0.2}, length=0.3),
    "explanation": Judge(1, 5, {"helpfulness": 0.8, "complexity": 0.4}, halo=0.3, length=0.5),
}
"""The judges by preference; tasks take the preferences in turn."""

MODELS: Final = ("quill-7b", "sparrow-13b", "lantern-34b", "harbour-70b", "pebble-2b", "willow-8b")

API_ERROR: Final = "An error occurred: OpenAI could not process the prompt."


def files(world: World) -> Files:
    """Return one row a task."""
    rng = world.rng("code-ultrafeedback ratings")
    groups = world.groups("code-ultrafeedback", 250, 4, mix={"code": 1.0}, fewest=FEWEST_ROWS)
    preferences = list(JUDGES)
    rows = [_row(rng, preferences[n % len(preferences)], group) for n, group in enumerate(groups)]
    return {"code-ultrafeedback/data/train-00000-of-00001.parquet": rows}


def _row(rng: Generator, preference: str, group: Group) -> Row:
    """Return a row, its annotations in the judge's own order."""
    models = [MODELS[i] for i in rng.permutation(len(MODELS))[: len(group.answers)]]
    annotations = [
        _annotation(model, f"{JUDGES[preference].rate(rng, group, answer):.0f}")
        for model, answer in zip(models, group.answers, strict=True)
    ]
    return {
        "instruction": group.question,
        "preference": preference,
        "models": models,
        "responses": [
            {"model": model, "response": answer.text} for model, answer in zip(models, group.answers, strict=True)
        ],
        "annotations": [annotations[i] for i in rng.permutation(len(annotations))],
    }


def _annotation(model: str, rating: str) -> Row:
    return {"model": model, "rating": rating, "rationale": f"This one earns a {rating}."}


def _rated(row: Row) -> list[Rated]:
    """Return the rated conversations, joined by model; the first of two equal responses counts."""
    ratings = {annotation["model"]: annotation["rating"] for annotation in reversed(row["annotations"])}
    answers = {
        response["response"]: ratings.get(response["model"], "N/A")
        for response in reversed(row["responses"])
        if response["response"] not in ("", API_ERROR)
    }
    objective = f"code-{row['preference']}"
    return [
        (single_turn(row["instruction"], answer), {objective: float(rating)} if is_whole(rating, 1, 5) else {})
        for answer, rating in answers.items()
    ]


def _annotated_again(row: Row) -> list[Row]:
    first = row["annotations"][0]
    return [*row["annotations"], _annotation(first["model"], "1" if first["rating"] != "1" else "5")]


def _same_rating(row: Row) -> list[Row]:
    return [_annotation(annotation["model"], "3") for annotation in row["annotations"]]


def _same_answer(row: Row) -> tuple[Line, ...]:
    """Return two equal responses, rated alike."""
    first, second, *others = row["responses"]
    responses = [first, second | {"response": first["response"]}, *others]
    return (row | {"responses": responses, "annotations": _same_rating(row)},)


DATASET: Final = Dataset(
    "code-ultrafeedback",
    files,
    write_parquet,
    from_ratings(_rated, ranked_by=[f"code-{preference}" for preference in JUDGES]),
    (
        DUPLICATE,
        Defect("value_null", 0.004, with_value("instruction", None), rejected("wrong_type")),
        Defect("unknown_preference", 0.004, with_value("preference", "brevity"), rejected("unknown_preference")),
        Defect("no_annotations", 0.01, with_value("annotations", []), dropped("no_annotations")),
        Defect("few_annotations", 0.01, altered("annotations", lambda row: row["annotations"][:2])),
        Defect("not_applicable", 0.02, in_first("annotations", rating="N/A")),
        Defect(
            "nothing_applicable",
            0.004,
            altered("annotations", lambda row: [one | {"rating": "N/A"} for one in row["annotations"]]),
            rejected("no_rating"),
        ),
        Defect("rating_not_a_number", 0.004, in_first("annotations", rating="good"), in_part("rating_not_a_number")),
        Defect("rating_out_of_range", 0.004, in_first("annotations", rating="7"), in_part("rating_out_of_range")),
        Defect("unknown_model", 0.004, in_first("annotations", model="nobody-1b"), in_part("unknown_model")),
        Defect("annotated_again", 0.004, altered("annotations", _annotated_again), in_part("repeated_annotation")),
        Defect("api_error", 0.01, in_first("responses", response=API_ERROR), in_part("api_error")),
        Defect("empty_answer", 0.004, in_first("responses", response=""), in_part("empty_turn")),
        Defect("same_answer", 0.004, _same_answer, in_part("repeated_completion")),
        Defect("tied_answers", 0.01, altered("annotations", _same_rating)),
    ),
)
