"""CodeUltraFeedback: four responses to a coding task, each rated by GPT-3.5 on the one preference that the row names.

Card: coseal/CodeUltraFeedback, MIT, 10,000 rows, 2,000 a preference. A rating is "1".."5", or "N/A", which is an
absent label. `annotations` come in the order that the judge saw, so they are joined to `responses` by model, never by
place; where the judge's text could not be cut into parts some or all are missing (upstream, src/utils). Some responses
are the error message of an API; they are refused. Preferences are all pairs within a row, ranked by the rating.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from armorm.features.objectives import Scale
from armorm.features.sources.base import Options, PairRule, Rated, Rows, Source
from armorm.features.sources.forms import single_turns

PREFERENCES = ("instruction-following", "readability", "complexity", "style", "explanation")
SCALES = {f"code-{preference}": Scale(1, 5) for preference in PREFERENCES}
API_ERROR = "An error occurred: OpenAI"


def parse(rows: Rows, options: Options) -> Iterator[Rated]:
    """Yield one rated conversation an annotation; a broken annotation or response is refused and the rest is kept."""
    instructions, preferences = rows.text("instruction"), rows.text("preference")
    responses, of_rows = rows.array("responses"), rows.array("annotations")
    rows.reject_where(
        (preference not in PREFERENCES for preference in preferences),
        "unknown_preference",
        lambda row: f"column preference: got {preferences[row][:40]!r}; expected one of {', '.join(PREFERENCES)}",
    )
    rows.drop_where((not annotations for annotations in of_rows), "no_annotations")
    annotations = rows.parts(of_rows, "annotation")
    texts = _texts(annotations, [_by_model(of_row) for of_row in responses])
    conversations = single_turns(annotations.of_whole(instructions), texts)
    ratings = annotations.rating("rating", absent=("N/A",))
    objectives = [f"code-{preference}" for preference in annotations.of_whole(preferences)]
    rated = list(zip(ratings, objectives, strict=True))
    of_objectives = {name: [rating if name == of else None for rating, of in rated] for name in SCALES}
    yield Rated(annotations, conversations, of_objectives)


def _by_model(responses: Sequence[Any]) -> Mapping[str, str]:
    pairs = [(one.get("model"), one.get("response")) for one in responses if isinstance(one, Mapping)]
    return {model: text for model, text in pairs if type(model) is type(text) is str}


def _texts(annotations: Rows, responses: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the response that each annotation is about."""
    models = annotations.text("model")
    keys = list(zip((row for row, _ in annotations.place), models, strict=True))
    texts = [responses[row].get(model) for row, model in keys]
    first: dict[tuple[int, str], int] = {}
    repeated = [first.setdefault(key, part) != part for part, key in enumerate(keys)]
    annotations.reject_where(
        (text is None for text in texts), "unknown_model", lambda part: f"no response of model {models[part][:40]!r}"
    )
    annotations.reject_where(
        repeated, "repeated_annotation", lambda part: f"model {models[part][:40]!r} has one already; the first counts"
    )
    annotations.reject_where(
        (text is not None and text.startswith(API_ERROR) for text in texts),
        "api_error",
        lambda part: f"the response is {str(texts[part])[:40]!r}..",
    )
    return [text or "" for text in texts]


def pair_rule(options: Options) -> PairRule:
    """Return pairs of responses of one row, ranked by the one rating that they have."""
    return PairRule("source_row", tuple(SCALES))


SOURCE = Source("code-ultrafeedback", "coseal/CodeUltraFeedback", "MIT", parse, SCALES, pairs=True, pair_rule=pair_rule)
