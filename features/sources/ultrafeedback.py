"""UltraFeedback: four completions an instruction, each with an overall score and four aspect ratings by GPT-4.

Card: openbmb/UltraFeedback, MIT, 63,967 rows. An aspect is "1".."5", or "N/A" where it does not apply, which is
an absent label. Some rows have fewer than four completions, or none. The system prompt that a completion was
written under is no part of the conversation. Preferences are all pairs within a row, ranked by the mean of the
aspects (card; RLHFlow, March 2024).

A parse bug upstream read a score of 1 as 10. The published repair (OpenBMB/UltraFeedback,
src/data_annotation/fix_overall_score_issue.py) makes a 10 whose aspects have a mean of at most 2 into 1, asks
GPT-4 again up to a mean of 4, and leaves the rest. Here the middle group is refused.
"""

from collections.abc import Collection
from statistics import mean

from features.conversation import check_conversation, single_turn
from features.objectives import Scale
from features.sources.base import (
    Drop,
    Options,
    PairRule,
    Rated,
    Record,
    Reject,
    Row,
    Source,
    array,
    number,
    part,
    struct,
    text,
)

OVERALL = "ultrafeedback-overall_score"
ASPECTS = ("instruction_following", "truthfulness", "honesty", "helpfulness")
NOT_APPLICABLE = "N/A"


def parse(row: Row, options: Options) -> list[Record]:
    """One rated conversation a completion; a broken completion or rating is refused and the rest is kept."""
    instruction = text(row, "instruction")
    completions = array(row.get("completions"), "completions")
    if not completions:
        raise Drop("no_completions")
    records: list[Record] = []
    for position, completion in enumerate(completions):
        name = f"completion {position}"
        with part(name, records):
            _add_completion(records, name, instruction, struct(completion, "completions"))
    return records


def _add_completion(records: list[Record], name: str, instruction: str, completion: Row) -> None:
    messages = single_turn(instruction, text(completion, "response"))
    check_conversation(messages)
    annotations = struct(completion.get("annotations"), "annotations")
    ratings: dict[str, float] = {}
    for aspect in ASPECTS:
        with part(f"{name}, {aspect}", records):
            rating = struct(annotations.get(aspect), aspect).get("Rating")
            if rating != NOT_APPLICABLE:
                ratings[f"ultrafeedback-{aspect}"] = number(rating, "Rating")
    with part(name, records):
        ratings[OVERALL] = _overall_score(completion, ratings.values())
    if ratings:
        records.append(Rated(messages, ratings))


def _overall_score(completion: Row, aspects: Collection[float]) -> float:
    """The overall score after upstream's repair; files from before it lack `fine-grained_score`, the mean aspect."""
    score = number(completion.get("overall_score"), "overall_score")
    fine_grained = completion.get("fine-grained_score")
    if score != 10 or (fine_grained is None and not aspects):
        return score
    average = mean(aspects) if fine_grained is None else number(fine_grained, "fine-grained_score")
    if 2 < average <= 4:
        raise Reject("overall_score_parse_bug", f"overall_score is 10, fine-grained_score {average:g}: it may be 1")
    return 1.0 if average <= 2 else score


def pair_rule(options: Options) -> PairRule:
    """Pairs of completions of one row, ranked by the mean of the aspects that they have."""
    return PairRule("source_row", tuple(f"ultrafeedback-{aspect}" for aspect in ASPECTS))


SOURCE = Source(
    name="ultrafeedback",
    upstream="openbmb/UltraFeedback",
    licence="MIT",
    parse=parse,
    scales={OVERALL: Scale(1, 10)} | {f"ultrafeedback-{aspect}": Scale(1, 5) for aspect in ASPECTS},
    pair_rule=pair_rule,
)
