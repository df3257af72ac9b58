"""UltraFeedback: four completions an instruction, each with an overall score and four aspect ratings by GPT-4.

Card: openbmb/UltraFeedback, MIT, 63,967 rows. An aspect is "1".."5", or "N/A" where it does not apply, which is
an absent label. Some rows have fewer than four completions, or none. The system prompt that a completion was
written under is no part of the conversation. Preferences are all pairs within a row, ranked by the mean of the
aspects (card; RLHFlow, March 2024).

A parse bug upstream read a score of 1 as 10. The published repair (OpenBMB/UltraFeedback,
src/data_annotation/fix_overall_score_issue.py) makes a 10 whose aspects have a mean of at most 2 into 1, asks
GPT-4 again up to a mean of 4, and leaves the rest. Here the middle group is refused. Files from before the repair
lack that mean (`fine-grained_score`); it is then taken of the aspects.
"""

from collections.abc import Collection, Iterator
from statistics import mean

from armorm.features.objectives import Scale
from armorm.features.sources.base import Numbers, Options, PairRule, Rated, Rows, Source, as_number
from armorm.features.sources.forms import single_turns

OVERALL = "ultrafeedback-overall_score"
ASPECTS = ("instruction_following", "truthfulness", "honesty", "helpfulness")


def parse(rows: Rows, options: Options) -> Iterator[Rated]:
    """Yield one rated conversation a completion; a broken completion or rating is refused and the rest is kept."""
    instructions = rows.text("instruction")
    of_rows = rows.array("completions")
    rows.drop_where((not completions for completions in of_rows), "no_completions")
    completions = rows.parts(of_rows, "completion")
    conversations = single_turns(completions.of_whole(instructions), completions.text("response"))
    annotations = completions.struct("annotations")
    ratings: dict[str, Numbers] = {
        f"ultrafeedback-{aspect}": annotations.rating(aspect, "Rating", absent=("N/A",)) for aspect in ASPECTS
    }
    yield Rated(completions, conversations, ratings | {OVERALL: _overall_scores(completions, ratings.values())})


def _overall_scores(completions: Rows, aspects: Collection[Numbers]) -> Numbers:
    """Return the overall scores after upstream's repair."""
    scores = completions.rating("overall_score")
    for row in [row for row, score in enumerate(scores) if score == 10]:
        average = _fine_grained_score(completions, row, aspects)
        if average is not None and average <= 2:
            scores[row] = 1.0
        elif average is not None and average <= 4:
            scores[row] = None
            completions.refuse(
                row, "overall_score_parse_bug", f"overall_score is 10, fine-grained_score {average:g}: it may be 1"
            )
    return scores


def _fine_grained_score(completions: Rows, row: int, aspects: Collection[Numbers]) -> float | None:
    given = as_number(completions.cells[row].get("fine-grained_score"))
    ratings = [rating for ratings in aspects if (rating := ratings[row]) is not None]
    return mean(ratings) if given is None and ratings else given


def pair_rule(options: Options) -> PairRule:
    """Return pairs of completions of one row, ranked by the mean of the aspects that they have."""
    return PairRule("source_row", tuple(f"ultrafeedback-{aspect}" for aspect in ASPECTS))


SCALES = {OVERALL: Scale(1, 10)} | {f"ultrafeedback-{aspect}": Scale(1, 5) for aspect in ASPECTS}
FILES = ("*.jsonl",)
SOURCE = Source(
    "ultrafeedback", "openbmb/UltraFeedback", "MIT", parse, SCALES, pairs=True, pair_rule=pair_rule, files=FILES
)
