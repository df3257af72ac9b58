"""CodeUltraFeedback: four responses to a coding task, all rated 1..5 on one preference, which the row names."""

from numpy.random import Generator

from armorm.features.conversation import single_turn
from armorm.features.sample.native.base import Dataset, Defect, Files, Row, in_first
from armorm.features.sample.native.truth import Rated, from_ratings, is_whole
from armorm.features.sample.native.ultrafeedback import draw_models
from armorm.features.sample.world.world import FEWEST_ROWS, Group, Judge, World

JUDGES = {
    "instruction-following": Judge(1, 5, {"helpfulness": 0.6}, halo=0.9, length=0.3),
    "readability": Judge(1, 5, {"style": 1.0}, halo=0.4, length=0.3),
    "complexity": Judge(1, 5, {"complexity": 1.1}, halo=0.2, length=0.4),
    "style": Judge(1, 5, {"style": 1.2, "correctness": 0.2}, length=0.3),
    "explanation": Judge(1, 5, {"helpfulness": 0.8, "complexity": 0.4}, halo=0.3, length=0.5),
}
"""The judges by preference; tasks take the preferences in turn."""

API_ERROR = "An error occurred: OpenAI could not process the prompt."


def files(world: World) -> Files:
    """Return one row a task."""
    rng = world.rng("code-ultrafeedback ratings")
    groups = world.groups("code-ultrafeedback", 250, 4, mix={"code": 1.0}, fewest=FEWEST_ROWS)
    preferences = list(JUDGES)
    rows = [_row(rng, preferences[n % len(preferences)], group) for n, group in enumerate(groups)]
    return {"code-ultrafeedback/data/train-00000-of-00001.parquet": rows}


def _row(rng: Generator, preference: str, group: Group) -> Row:
    """Return a row, its annotations in the judge's own order."""
    models = draw_models(rng, group)
    by_model = dict(zip(models, group.answers, strict=True))
    ratings = {model: JUDGES[preference].rate(rng, group, answer) for model, answer in by_model.items()}
    annotations = [_annotation(model, f"{rating:.0f}") for model, rating in ratings.items()]
    return {
        "instruction": group.question,
        "preference": preference,
        "models": models,
        "responses": [{"model": model, "response": answer.text} for model, answer in by_model.items()],
        "annotations": [annotations[i] for i in rng.permutation(len(annotations))],
    }


def _annotation(model: str, rating: str) -> Row:
    return {"model": model, "rating": rating, "rationale": f"This one earns a {rating}."}


def _rated(row: Row) -> list[Rated]:
    """Return the rated conversations, joined by model; the first of two equal responses counts."""
    ratings = {annotation["model"]: annotation["rating"] for annotation in reversed(row["annotations"])}
    answers = {one["response"]: ratings.get(one["model"], "N/A") for one in reversed(row["responses"])}
    objective = f"code-{row['preference']}"
    return [
        (single_turn(row["instruction"], answer), {objective: float(rating)} if is_whole(rating, 1, 5) else {})
        for answer, rating in answers.items()
        if answer not in ("", API_ERROR)
    ]


def _not_applicable(row: Row) -> Row:
    return {"annotations": [annotation | {"rating": "N/A"} for annotation in row["annotations"]]}


def _annotated_again(row: Row) -> Row:
    first = row["annotations"][0]
    again = _annotation(first["model"], "1" if first["rating"] != "1" else "5")
    return {"annotations": [*row["annotations"], again]}


def _same_rating(row: Row) -> Row:
    return {"annotations": [_annotation(annotation["model"], "3") for annotation in row["annotations"]]}


def _same_answer(row: Row) -> Row:
    """Return two equal responses, rated alike."""
    first, second, *others = row["responses"]
    return {"responses": [first, second | {"response": first["response"]}, *others], **_same_rating(row)}


DEFECTS = (
    Defect("value_null", 0.004, {"instruction": None}, "rejected", "wrong_type"),
    Defect("unknown_preference", 0.004, {"preference": "brevity"}, "rejected"),
    Defect("no_annotations", 0.01, {"annotations": []}, "dropped"),
    Defect("few_annotations", 0.01, lambda row: {"annotations": row["annotations"][:2]}),
    Defect("not_applicable", 0.02, in_first("annotations", rating="N/A")),
    Defect("nothing_applicable", 0.004, _not_applicable, "rejected", "no_rating"),
    Defect("rating_not_a_number", 0.004, in_first("annotations", rating="good"), "in part"),
    Defect("rating_out_of_range", 0.004, in_first("annotations", rating="7"), "in part"),
    Defect("unknown_model", 0.004, in_first("annotations", model="nobody-1b"), "in part"),
    Defect("annotated_again", 0.004, _annotated_again, "in part", "repeated_annotation"),
    Defect("api_error", 0.01, in_first("responses", response=API_ERROR), "in part"),
    Defect("empty_answer", 0.004, in_first("responses", response=""), "in part", "empty_turn"),
    Defect("same_answer", 0.004, _same_answer, "in part", "repeated_completion"),
    Defect("tied_answers", 0.01, _same_rating),
)
TRUTH = from_ratings(_rated, ranked_by=[f"code-{preference}" for preference in JUDGES])
DATASET = Dataset("code-ultrafeedback", "parquet", files, TRUTH, DEFECTS)
