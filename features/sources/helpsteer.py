"""HelpSteer: five human ratings a response.

Card: nvidia/HelpSteer, CC-BY-4.0, 35,331 training and 1,789 validation rows. A row is a prompt, a response and
five integers 0..4. Up to four rows share a prompt, which is how ratings become preferences: responses to one
prompt are ranked by the mean of helpfulness and correctness, and ties are no preference (RLHFlow, March 2024).
That rule gives fewer pairs than the paper counts, so which ratings enter the mean is an option.
"""

from features.conversation import single_turn
from features.objectives import Scale
from features.sources.base import Options, PairRule, Rated, Record, Row, Source, number, part, required, text

ATTRIBUTES = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")

PAIR_SCORES = {
    "helpfulness+correctness": ("helpsteer-helpfulness", "helpsteer-correctness"),
    "helpfulness": ("helpsteer-helpfulness",),
    "all": tuple(f"helpsteer-{attribute}" for attribute in ATTRIBUTES),
}


def parse(row: Row, options: Options) -> list[Record]:
    """One conversation with up to five ratings; a bad rating is refused and the others are kept."""
    messages = single_turn(text(row, "prompt"), text(row, "response"))
    records: list[Record] = []
    ratings: dict[str, float] = {}
    for attribute in ATTRIBUTES:
        with part(attribute, records):
            ratings[f"helpsteer-{attribute}"] = number(required(row, attribute), attribute)
    return [*records, Rated(messages, ratings)] if ratings else records


def pair_rule(options: Options) -> PairRule:
    """Pairs of responses to one prompt, ranked by the ratings that `pair_score` names."""
    return PairRule("prompt_id", PAIR_SCORES[options["pair_score"]])


SOURCE = Source(
    name="helpsteer",
    upstream="nvidia/HelpSteer",
    licence="CC-BY-4.0",
    parse=parse,
    scales={f"helpsteer-{attribute}": Scale(0, 4) for attribute in ATTRIBUTES},
    pair_rule=pair_rule,
    options={"pair_score": tuple(PAIR_SCORES)},
)
