"""HelpSteer: five human ratings a response.

Card: nvidia/HelpSteer, CC-BY-4.0, 35,331 training and 1,789 validation rows. A row is a prompt, a response and
five integers 0..4. Up to four rows share a prompt, which is how ratings become preferences: responses to one
prompt are ranked by the mean of helpfulness and correctness, and ties are no preference (RLHFlow, March 2024).
That rule gives fewer pairs than the paper counts, so which ratings enter the mean is an option.
"""

from collections.abc import Iterator

from armorm.features.objectives import Scale
from armorm.features.sources.base import Option, Options, PairRule, Rated, Rows, Source
from armorm.features.sources.forms import single_turns

ATTRIBUTES = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
SCALES = {f"helpsteer-{attribute}": Scale(0, 4) for attribute in ATTRIBUTES}

PAIR_SCORES = {
    "helpfulness+correctness": ("helpsteer-helpfulness", "helpsteer-correctness"),
    "helpfulness": ("helpsteer-helpfulness",),
    "all": tuple(SCALES),
}


def parse(rows: Rows, options: Options) -> Iterator[Rated]:
    """Yield one conversation a row, with up to five ratings; a bad rating is refused and the others are kept."""
    conversations = single_turns(rows.text("prompt"), rows.text("response"))
    yield Rated(rows, conversations, {f"helpsteer-{attribute}": rows.rating(attribute) for attribute in ATTRIBUTES})


def pair_rule(options: Options) -> PairRule:
    """Return pairs of responses to one prompt, ranked by the ratings that `pair_score` names."""
    return PairRule("prompt_id", PAIR_SCORES[options["pair_score"]])


PAIR_SCORE = Option(
    "The ratings whose mean ranks the responses to a prompt; the published pairs are more than the published rule "
    "gives.",
    tuple(PAIR_SCORES),
)
SOURCE = Source(
    "helpsteer",
    "nvidia/HelpSteer",
    "CC-BY-4.0",
    parse,
    SCALES,
    pairs=True,
    pair_rule=pair_rule,
    options={"pair_score": PAIR_SCORE},
    files=("train.jsonl.gz", "validation.jsonl.gz"),
)
