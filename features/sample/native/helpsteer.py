"""HelpSteer: five ratings 0..4 an answer. Its pairs are made of the ratings, ties included, as upstream."""

from typing import Final

from features.sample.defects import Defect, holding, torn, twice, without
from features.sample.native.base import Dataset, Files
from features.sample.world import Judge, World

JUDGES: Final = {
    "helpfulness": Judge(0, 4, {"helpfulness": 0.8}, halo=0.9, length=0.35),
    "correctness": Judge(0, 4, {"correctness": 0.8}, halo=0.7, length=0.35),
    "coherence": Judge(0, 4, {"style": 1.2}, length=0.4),
    "complexity": Judge(0, 4, {"complexity": 1.0}, length=0.6),
    "verbosity": Judge(0, 4, {}, length=1.2, noise=0.3),
}


def files(world: World) -> Files:
    """One row an answer, those of a prompt together; one prompt in ten has three answers, the others four."""
    groups = world.groups("helpsteer", 600, 4, mix={"chat": 0.45, "code": 0.25, "maths": 0.25, "safety": 0.05})
    rng = world.rng("helpsteer ratings")
    rows = [
        {"prompt": group.question, "response": answer.text}
        | {name: int(judge.rate(rng, group, answer)) for name, judge in JUDGES.items()}
        for group in groups
        for answer in group.answers[: 3 if rng.random() < 0.1 else 4]
    ]
    return {"helpsteer/train.jsonl.gz": rows}


DATASET: Final = Dataset(
    "helpsteer",
    files,
    (
        Defect("malformed_line", 0.001, torn),
        Defect("duplicate_row", 0.004, twice),
        Defect("missing_column", 0.002, without("coherence")),
        Defect("rating_out_of_range", 0.002, holding("helpfulness", 7)),
        Defect("rating_not_a_number", 0.002, holding("correctness", "N/A")),
        Defect("rating_null", 0.002, holding("complexity", None)),
        Defect("empty_answer", 0.002, holding("response", "")),
    ),
)
