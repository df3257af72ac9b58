"""HelpSteer: five ratings 0..4 an answer, up to four answers a prompt, of which many tie, as upstream."""

from armorm.features.conversation import single_turn
from armorm.features.sample.native.base import ABSENT, Dataset, Defect, Files, Row
from armorm.features.sample.native.truth import Rated, from_ratings, is_whole
from armorm.features.sample.world.world import Judge, World

JUDGES = {
    "helpfulness": Judge(0, 4, {"helpfulness": 0.8}, halo=0.9, length=0.35),
    "correctness": Judge(0, 4, {"correctness": 0.8}, halo=0.7, length=0.35),
    "coherence": Judge(0, 4, {"style": 1.2}, length=0.4),
    "complexity": Judge(0, 4, {"complexity": 1.0}, length=0.6),
    "verbosity": Judge(0, 4, {}, length=1.2, noise=0.3),
}


def files(world: World) -> Files:
    """Return one row an answer, those of a prompt together; one prompt in ten has three answers, the others four."""
    groups = world.groups("helpsteer", 600, 4, mix={"chat": 0.45, "code": 0.25, "maths": 0.25, "safety": 0.05})
    rng = world.rng("helpsteer ratings")
    rows = [
        {"prompt": group.question, "response": answer.text}
        | {name: int(judge.rate(rng, group, answer)) for name, judge in JUDGES.items()}
        for group in groups
        for answer in group.answers[: 3 if rng.random() < 0.1 else 4]
    ]
    return {"helpsteer/train.jsonl.gz": rows}


def _rated(row: Row) -> list[Rated]:
    ratings = {f"helpsteer-{name}": float(row[name]) for name in JUDGES if is_whole(row.get(name), 0, 4)}
    return [(single_turn(row["prompt"], row["response"]), ratings)]


DEFECTS = (
    Defect("missing_column", 0.002, {"coherence": ABSENT}, "in part"),
    Defect("rating_out_of_range", 0.002, {"helpfulness": 7}, "in part"),
    Defect("rating_not_a_number", 0.002, {"correctness": "N/A"}, "in part"),
    Defect("rating_null", 0.002, {"complexity": None}, "in part", "rating_not_a_number"),
    Defect("empty_answer", 0.002, {"response": ""}, "rejected", "empty_turn"),
    Defect("short_answer", 0.003, {"response": "Yes."}),
    Defect("tied_answers", 0.003, lambda row: {"response": f"{row['response']} That is all."}, beside=True),
)
RANKED_BY = ("helpsteer-helpfulness", "helpsteer-correctness")
TRUTH = from_ratings(_rated, ranked_by=RANKED_BY, together=lambda row: row["prompt"])
DATASET = Dataset("helpsteer", "lines", files, TRUTH, DEFECTS)
