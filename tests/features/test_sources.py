"""Each source against small native rows, whose expected outcome stands beside them in `cases/sources`."""

import json
import pickle
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from armorm.features import sources
from armorm.features.conversation import SplitFractions
from armorm.features.errors import DatasetError
from armorm.features.ingest.native import NativeRow
from armorm.features.ingest.normalise import RAW, Rules, normalise
from armorm.features.objectives import OBJECTIVES, Scale
from armorm.features.sources import SOURCES, complete_options, find_source
from armorm.features.sources.base import Pairs, Rows, Source, as_number
from armorm.features.sources.described import form_of
from armorm.features.sources.own import FORMS, ConversationColumns, PairsForm, Rating, RatingsForm, source_of
from armorm.features.sources.rewardbench import PRIOR_SETS, SECTION_WEIGHTS, SUBSETS

CASES = Path(__file__).parents[1] / "cases" / "sources"

ABSENT = object()


@dataclass(frozen=True)
class Case:
    """One native row, the settings and the file it is read with, and what must come of it."""

    source: str
    name: str
    row: dict[str, Any]
    options: dict[str, str]
    file: str
    expect: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.source}: {self.name}"


def cases_of(path: Path) -> Iterator[Case]:
    """The valid row of a file, then the cases that differ from it in a few places."""
    content = json.loads(path.read_text())
    file = content.get("file", "rows.json")
    yield Case(path.stem, "a valid row", content["row"], {}, file, content["expect"])
    for case in content["cases"]:
        row = deepcopy(content["row"])
        for place, value in case.get("change", {}).items():
            put(row, place.split("."), value)
        for place in case.get("remove", []):
            put(row, place.split("."), ABSENT)
        yield Case(path.stem, case["case"], row, case.get("options", {}), case.get("file", file), case["expect"])


def put(container: Any, place: list[Any], value: Any) -> None:
    """Replaces what lies at the place; `ABSENT` removes it."""
    *path, last = (int(key) if str(key).isdigit() else key for key in place)
    for key in path:
        container = container[key]
    if value is ABSENT:
        del container[last]
    else:
        container[last] = value


def outcomes(
    source: Source, rows: Sequence[Any], given: Mapping[str, str], file: str = "rows.json"
) -> list[dict[str, Any]]:
    """What each row of a batch gives, in the form of the case files."""
    raws = [json.dumps([line, row]).encode() for line, row in enumerate(rows)]  # tells equal rows apart
    native = [NativeRow(line, row, raw, None) for line, (row, raw) in enumerate(zip(rows, raws, strict=True))]
    tables = normalise(Rules(source, complete_options(source, given), SplitFractions()), native, file=file)
    found = {name: table.to_pylist() for name, table in tables.items()}
    messages = {row["conversation_id"]: as_lists(row["messages"]) for row in found["conversations"]}
    rejects: dict[str, list[str]] = {}
    records: dict[str, list[dict[str, Any]]] = {}
    for reject in found["rejects"]:
        rejects.setdefault(reject["source_row"], []).append(reject["reason"])
    for row in found["ratings"]:
        raws = {name.removeprefix(RAW): raw for name, raw in row.items() if name.startswith(RAW) and raw is not None}
        record = {"messages": messages[row["conversation_id"]], "ratings": raws}
        records.setdefault(row["source_row"], []).append(record)
    for row in found["preferences"]:
        sides = {side: messages[row[f"{side}_id"]] for side in ("chosen", "rejected")}
        records.setdefault(row["source_row"], []).append(sides | {"margin": row["margin"], "subset": row["subset"]})
    return [
        shown(row, rejects.get(row["source_row"], []), records.get(row["source_row"], []))
        for row in found["native_rows"]
    ]


def shown(row: Mapping[str, Any], rejects: list[str], records: list[dict[str, Any]]) -> dict[str, Any]:
    """The parts that were refused come before the records."""
    if row["outcome"] == "kept":
        return {"records": [*({"refused": reason} for reason in rejects), *records]}
    assert not records
    if row["outcome"] == "dropped":
        return {"drop": row["reason"]}
    assert rejects[0] == row["reason"]
    return {"reject": rejects[0] if len(rejects) == 1 else rejects}


def as_lists(messages: list[dict[str, str]]) -> list[list[str]]:
    return [[message["role"], message["content"]] for message in messages]


ALL_CASES = [case for path in sorted(CASES.glob("*.json")) for case in cases_of(path)]
VALID = [case for case in ALL_CASES if case.name == "a valid row"]


@pytest.mark.parametrize("case", ALL_CASES, ids=str)
def test_case(case: Case) -> None:
    assert outcomes(find_source(case.source), [case.row], case.options, case.file) == [case.expect]


def test_every_source_has_cases() -> None:
    assert {case.source for case in ALL_CASES} == set(SOURCES)


# Any row: reading is total


def places(value: Any, prefix: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of every field and element in a row, at any depth."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*prefix, key)
        yield from places(inner, (*prefix, key))


texts = st.text(max_size=20) | st.sampled_from(
    ["", " ", "5", "1_0", "nan", "N/A", "A", "\n\nHuman: \n\nAssistant:", "[RESULT] 5"]
)
numbers = st.integers() | st.floats() | st.sampled_from([0, 1, 10, 10**400, float("inf")])
json_values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def settings_of(draw: st.DrawFn, source: Source) -> dict[str, str]:
    return {
        name: draw(st.sampled_from(option.choices)) if option.choices else str(draw(st.integers(1, 9)))
        for name, option in source.options.items()
    }


@st.composite
def corrupted(draw: st.DrawFn, case: Case, values: st.SearchStrategy[Any]) -> dict[str, Any]:
    """The case's row with one field, at any depth, replaced or removed."""
    row = deepcopy(case.row)
    put(row, list(draw(st.sampled_from(list(places(row))))), draw(values))
    return row


@settings(max_examples=600, deadline=None)
@given(data=st.data())
def test_a_corrupted_field_never_raises(data: st.DataObject) -> None:
    case = data.draw(st.sampled_from(VALID))
    source = find_source(case.source)
    row = data.draw(corrupted(case, json_values | st.just(ABSENT)))
    (found,) = outcomes(source, [row], data.draw(settings_of(source)), case.file)
    assert_sound(source, found)


@settings(max_examples=200, deadline=None)
@given(source=st.sampled_from(list(SOURCES.values())), row=st.dictionaries(texts, json_values, max_size=4))
def test_a_foreign_row_never_raises(source: Source, row: dict[str, Any]) -> None:
    assert_sound(source, *outcomes(source, [row], {}))


def assert_sound(source: Source, found: dict[str, Any]) -> None:
    """Reasons are codes, and ratings are on the scales that the source declares."""
    for record in found.get("records", []):
        assert all(rating in source.scales[name] for name, rating in record.get("ratings", {}).items())
        assert re.fullmatch("[a-z_0-9]+", record.get("refused", "none"))
    rejects = found.get("reject", [])
    for reason in [rejects] if isinstance(rejects, str) else rejects:
        assert re.fullmatch("[a-z_0-9]+", reason)
    assert re.fullmatch("[a-z_0-9]+", found.get("drop", "none"))


WRONG = (None, True, 0.5, "none", [], ["x"], {}, {"x": 1})


def fits(value: Any, place: Any) -> bool:
    """Whether a value is of a type that may stand where another one stood."""
    if type(value) is type(place):
        return True
    number = isinstance(place, int | float) or (isinstance(place, str) and place.isdigit())
    return number and isinstance(value, float)


@settings(max_examples=600, deadline=None)
@given(data=st.data())
def test_no_record_comes_of_a_field_of_the_wrong_type(data: st.DataObject) -> None:
    """Some of a row's records may be lost, and some of their numbers, but none is another one."""
    case = data.draw(st.sampled_from(VALID))
    source, row = find_source(case.source), deepcopy(case.row)
    place = list(data.draw(st.sampled_from(list(places(row)))))
    field = row
    for key in place:
        field = field[key]
    wrong = [value for value in WRONG if not fits(value, field)]
    if place == ["system"]:
        wrong.remove(None)  # there may be none
    if (case.source, place) == ("preference-test-sets", ["prompt"]):
        wrong.remove("none")  # may be a text
    put(row, place, data.draw(st.sampled_from(wrong)))
    given = data.draw(settings_of(source))
    (valid,), (found,) = (outcomes(source, [one], given, case.file) for one in (case.row, row))
    for record in found.get("records", []):
        assert "refused" in record or any(is_part(record, whole) for whole in valid["records"])


def is_part(record: Mapping[str, Any], whole: Mapping[str, Any]) -> bool:
    if record.keys() != whole.keys():
        return False
    if "ratings" in record:
        return record["messages"] == whole["messages"] and record["ratings"].items() <= whole["ratings"].items()
    return whole | {"margin": record["margin"]} == record and record["margin"] in (None, whole["margin"])


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_batch_is_read_as_its_rows_one_by_one(data: st.DataObject) -> None:
    case = data.draw(st.sampled_from(VALID))
    source = find_source(case.source)
    rows = data.draw(
        st.lists(st.just(case.row) | corrupted(case, json_values | st.just(ABSENT)), min_size=2, max_size=5)
    )
    given = data.draw(settings_of(source))
    one_by_one = [outcome for row in rows for outcome in outcomes(source, [row], given, case.file)]
    assert outcomes(source, rows, given, case.file) == one_by_one


def test_no_rows_give_nothing() -> None:
    assert all(outcomes(source, [], {}) == [] for source in SOURCES.values())


@given(
    turns=st.lists(st.text(), min_size=1, max_size=5).map(lambda texts: [f"x{text}" for text in texts]),
    answers=st.lists(st.text(), min_size=2, max_size=2, unique=True),
)
def test_transcripts_are_read_back_unaltered(turns: list[str], answers: list[str]) -> None:
    prompt = [*turns, "more"] if len(turns) % 2 == 0 else turns
    roles = ["Human", "Assistant"] * len(prompt)
    written = "".join(f"\n\n{role}: {turn}" for role, turn in zip(roles, prompt, strict=False))
    row = {
        side: f"{written}\n\nAssistant: x{answer}" for side, answer in zip(("chosen", "rejected"), answers, strict=True)
    }
    (pairs,) = find_source("hh-rlhf").parse(Rows([row]), {})
    assert isinstance(pairs, Pairs)
    assert [content for _, content in pairs.chosen[0]] == [*prompt, f"x{answers[0]}"]
    assert [content for _, content in pairs.rejected[0]] == [*prompt, f"x{answers[1]}"]


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**9), 10**9))
def test_a_number_reads_the_same_as_digits(value: float) -> None:
    assert as_number(value) == as_number(str(value)) == value


# What the sources declare


@pytest.mark.parametrize("source", SOURCES.values(), ids=lambda source: source.name)
def test_declarations(source: Source) -> None:
    assert source.upstream.count("/") == 1
    assert source.licence
    assert set(source.scales) <= set(OBJECTIVES)
    assert all(len(option.choices) > 1 or option.number > 0 for option in source.options.values())
    assert all(option.meaning.endswith(".") for option in source.options.values())
    assert source.scales or source.pairs
    if source.pair_rule:
        assert source.pairs
        assert set(source.pair_rule(complete_options(source, {})).objectives) <= set(source.scales)
    assert pickle.loads(pickle.dumps(source)) == source


def test_one_objective_is_rated_on_the_scale_of_its_dataset() -> None:
    assert {str(scale) for scale in SOURCES["helpsteer"].scales.values()} == {"0..4"}
    ultrafeedback = SOURCES["ultrafeedback"].scales
    assert {name: str(scale) for name, scale in ultrafeedback.items() if str(scale) != "1..5"} == {
        "ultrafeedback-overall_score": "1..10"
    }
    assert str(SOURCES["beavertails-30k"].scales["beavertails-is_safe"]) == "false or true"
    assert str(SOURCES["argilla-math"].scales["ultrafeedback-instruction_following"]) == "1..10"


def test_every_objective_is_rated() -> None:
    assert {name for source in SOURCES.values() for name in source.scales} == set(OBJECTIVES)


@pytest.mark.parametrize(
    ("pair_score", "objectives"),
    [
        ("helpfulness+correctness", ("helpsteer-helpfulness", "helpsteer-correctness")),
        ("helpfulness", ("helpsteer-helpfulness",)),
        ("all", OBJECTIVES[:5]),
    ],
)
def test_helpsteer_pairs_are_ranked_as_asked(pair_score: str, objectives: tuple[str, ...]) -> None:
    pair_rule = SOURCES["helpsteer"].pair_rule
    assert pair_rule is not None
    rule = pair_rule({"pair_score": pair_score})
    assert (rule.group_by, rule.objectives) == ("prompt_id", objectives)


def test_ultrafeedback_pairs_leave_the_overall_score_out() -> None:
    pair_rule = SOURCES["ultrafeedback"].pair_rule
    assert pair_rule is not None
    rule = pair_rule({})
    assert rule.group_by == "source_row"
    assert set(rule.objectives) == set(OBJECTIVES[6:10])


def test_code_ultrafeedback_pairs_are_made_within_a_row() -> None:
    pair_rule = SOURCES["code-ultrafeedback"].pair_rule
    assert pair_rule is not None
    rule = pair_rule({})
    assert rule.group_by == "source_row"
    assert set(rule.objectives) == set(OBJECTIVES[14:])


@pytest.mark.parametrize(("choose", "rank"), [("highest_ratio", [3.33]), ("random", [None])])
def test_which_pairs_of_a_post_stay_follows_from_the_votes_or_from_chance(
    choose: str, rank: list[float | None]
) -> None:
    (case,) = (case for case in VALID if case.source == "shp")
    rules = Rules(SOURCES["shp"], complete_options(SOURCES["shp"], {"choose": choose}), SplitFractions())
    tables = normalise(rules, [NativeRow(1, case.row, b"{}", None)], file="askbaking/train.json")
    assert tables["preferences"]["rank"].to_pylist() == rank


def test_pairs_of_a_post_are_limited() -> None:
    limit = SOURCES["shp"].pairs_per_prompt
    assert limit is not None
    assert [limit(complete_options(SOURCES["shp"], given)) for given in ({}, {"pairs_per_prompt": "1"})] == [5, 1]


def test_rewardbench_constants_are_those_of_the_data() -> None:
    sections = dict.fromkeys(SECTION_WEIGHTS, 0)
    for subset in SUBSETS.values():
        sections[subset.section] += subset.n_rows
    assert sections == {"Chat": 358, "Chat Hard": 456, "Safety": 740, "Reasoning": 1431, "Prior Sets": 0}
    assert sum(subset.n_rows for subset in SUBSETS.values()) == 2985
    assert len(SUBSETS) == 23
    assert (SUBSETS["xstest-should-refuse"].n_rows, SUBSETS["xstest-should-respond"].n_rows) == (154, 250)
    assert {name: subset.weight for name, subset in SUBSETS.items() if subset.weight != subset.n_rows} == {
        "math-prm": 984
    }
    assert {name: subset.n_rows for name, subset in PRIOR_SETS.items()} == {
        "anthropic_helpful": 6192,
        "anthropic_hhh": 221,
        "shp": 1741,
        "summarize": 9000,
    }
    assert {(subset.section, subset.weight) for subset in PRIOR_SETS.values()} == {("Prior Sets", 1)}
    assert not PRIOR_SETS.keys() & SUBSETS.keys()
    assert SECTION_WEIGHTS == {"Chat": 1, "Chat Hard": 1, "Safety": 1, "Reasoning": 1, "Prior Sets": 0.5}


def test_only_the_benchmark_is_kept_from_training() -> None:
    assert [source.name for source in SOURCES.values() if source.evaluation] == ["preference-test-sets", "rewardbench"]


# Finding a source and completing its settings


def test_names_are_sorted_and_exported() -> None:
    assert list(SOURCES) == sorted(SOURCES)
    assert all(name == source.name for name, source in SOURCES.items())
    assert sources.__all__ == sorted(sources.__all__)
    assert all(hasattr(sources, name) for name in sources.__all__)


def test_an_unknown_dataset_is_answered_with_the_known_ones() -> None:
    with pytest.raises(
        DatasetError, match=r"helpster: got an unknown name; expected one of argilla-capybara, .*; correct .* `form`"
    ) as e:
        find_source("helpster")
    assert e.value.dataset == "helpster"


def test_defaults_fill_what_is_not_given() -> None:
    assert complete_options(SOURCES["helpsteer"], {}) == {"pair_score": "helpfulness+correctness"}
    assert complete_options(SOURCES["helpsteer"], {"pair_score": "all"}) == {"pair_score": "all"}
    assert complete_options(SOURCES["pku-saferlhf-30k"], {}) == {"chosen_by": "safer_response_id"}
    assert complete_options(SOURCES["hh-rlhf"], {}) == {}
    shp = {"min_score_ratio": "2", "pairs_per_prompt": "5", "choose": "highest_ratio"}
    assert complete_options(SOURCES["shp"], {}) == shp


@pytest.mark.parametrize("value", ["3", "3.0", 3, 3.0, "03"])
def test_a_number_is_one_setting_however_it_is_written(value: Any) -> None:
    assert complete_options(SOURCES["shp"], {"min_score_ratio": value})["min_score_ratio"] == "3"


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("helpsteer", {"pair": "all"}, "got option pair; expected pair_score; correct its name or remove it"),
        ("hh-rlhf", {"pair_score": "all"}, "got option pair_score; expected none; correct its name or remove it"),
        (
            "pku-saferlhf-30k",
            {"chosen_by": "safest"},
            "got chosen_by = 'safest'; expected safer_response_id or better_response_id; choose one or remove it",
        ),
        (
            "helpsteer",
            {"pair_score": 1},
            "got pair_score = 1; expected helpfulness+correctness or helpfulness or all; choose one or remove it",
        ),
        (
            "shp",
            {"pairs_per_prompt": "all"},
            "got pairs_per_prompt = 'all'; expected a whole number of 1 or more; choose one",
        ),
        (
            "shp",
            {"min_score_ratio": -1},
            "got min_score_ratio = -1; expected a number of 0 or more; choose one or remove",
        ),
        ("shp", {"min_score_ratio": "inf"}, "got min_score_ratio = 'inf'; expected a number of 0 or more; choose one"),
        ("shp", {"choose": ["random"]}, "got choose = ['random']; expected highest_ratio or random; choose one or"),
    ],
)
def test_wrong_settings_are_refused(name: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(DatasetError, match=re.escape(f"dataset {name}: {message}")):
        complete_options(SOURCES[name], given)


# Datasets of one's own


def own(form: RatingsForm | PairsForm) -> Source:
    return source_of("mine", form, licence="mine alone", evaluation=False)


STARS = {"mine-clarity": Rating("clarity", Scale(1, 3))}
HI = [["user", "hi"], ["assistant", "Hello"]]


@pytest.mark.parametrize(
    ("conversation", "row", "messages"),
    [
        (ConversationColumns("a", "q"), {"q": "hi", "a": "Hello"}, HI),
        (ConversationColumns("a", "q", "s"), {"q": "hi", "a": "Hello", "s": "Be."}, [["system", "Be."], *HI]),
        (ConversationColumns("a", "q", "s"), {"q": "hi", "a": "Hello", "s": None}, HI),
        (ConversationColumns("a", "q", "s"), {"q": "hi", "a": "Hello"}, HI),
        (ConversationColumns("a", style="transcript"), {"a": "\n\nHuman: hi\n\nAssistant: Hello"}, HI),
        (
            ConversationColumns("turns", style="messages"),
            {"turns": [{"role": role, "content": text} for role, text in HI]},
            HI,
        ),
        (
            ConversationColumns("a", "q", style="messages"),
            {"q": "hi", "a": [{"role": "assistant", "content": "Hello"}]},
            HI,
        ),
        (
            ConversationColumns("a", "q", style="messages"),
            {"q": [{"role": "user", "content": "hi"}], "a": [{"role": "assistant", "content": "Hello"}]},
            HI,
        ),
    ],
    ids=str,
)
def test_conversations_in_columns_of_any_name(
    conversation: ConversationColumns, row: dict[str, Any], messages: list[list[str]]
) -> None:
    record = {"messages": messages, "ratings": {"mine-clarity": 3}}
    assert outcomes(own(RatingsForm(conversation, STARS)), [row | {"clarity": 3}], {}) == [{"records": [record]}]


@pytest.mark.parametrize(
    ("row", "expect"),
    [
        ({"clarity": None, "safe": True}, {"records": [{"messages": HI, "ratings": {"mine-safe": 1}}]}),
        ({"clarity": "2", "safe": 0}, {"records": [{"messages": HI, "ratings": {"mine-clarity": 2, "mine-safe": 0}}]}),
        ({"clarity": None, "safe": None}, {"reject": "no_rating"}),
        ({"clarity": True, "safe": None}, {"reject": "rating_not_a_number"}),
        ({"clarity": 4, "safe": 0.5}, {"reject": ["rating_out_of_range", "rating_out_of_range"]}),
        ({"safe": None}, {"reject": "missing_column"}),
        ({"q": 1, "clarity": 2, "safe": None}, {"reject": "wrong_type"}),
    ],
)
def test_ratings_of_ones_own(row: dict[str, Any], expect: dict[str, Any]) -> None:
    objectives = STARS | {"mine-safe": Rating("safe", Scale(0, 1, "boolean"))}
    source = own(RatingsForm(ConversationColumns("a", "q"), objectives))
    assert outcomes(source, [{"q": "hi", "a": "Hello"} | row], {}) == [expect]


def test_ratings_make_pairs_where_that_is_asked_for() -> None:
    without = own(RatingsForm(ConversationColumns("a", "q"), STARS))
    source = own(RatingsForm(ConversationColumns("a", "q"), STARS, pairs_from=("mine-clarity",)))
    assert (without.pairs, without.pair_rule) == (False, None)
    assert source.pairs
    assert source.pair_rule is not None
    rule = source.pair_rule({})
    assert (rule.group_by, rule.objectives) == ("prompt_id", ("mine-clarity",))


def pair(margin: float | None = None) -> dict[str, Any]:
    return {"chosen": HI, "rejected": [["user", "hi"], ["assistant", "Go."]], "margin": margin, "subset": None}


@pytest.mark.parametrize(
    ("ties", "scores", "expect"),
    [
        ("keep", {"good": 3, "bad": 1}, {"records": [pair(2)]}),
        ("keep", {"good": 1, "bad": 1}, {"records": [pair(0)]}),
        ("drop", {"good": 1, "bad": 1}, {"drop": "tie"}),
        ("reject", {"good": 1, "bad": 1}, {"reject": "scores_tie"}),
        ("keep", {"good": 0, "bad": "1"}, {"reject": "preference_contradicts_scores"}),
        ("drop", {"good": None, "bad": None}, {"records": [pair()]}),
        ("keep", {"good": 3, "bad": None}, {"records": [pair()]}),
        ("keep", {"good": 3}, {"records": [{"refused": "missing_column"}, pair()]}),
        ("keep", {"good": "good", "bad": 1}, {"records": [{"refused": "rating_not_a_number"}, pair()]}),
        ("keep", {"good": 3, "bad": 1, "w": "Hello"}, {"drop": "identical_pair"}),
        ("keep", {"good": 3, "bad": 1, "w": ""}, {"reject": "empty_turn"}),
    ],
)
def test_pairs_of_ones_own(ties: Any, scores: dict[str, Any], expect: dict[str, Any]) -> None:
    source = own(PairsForm("a", "w", prompt="q", chosen_score="good", rejected_score="bad", ties=ties))
    assert outcomes(source, [{"q": "hi", "a": "Hello", "w": "Go."} | scores], {}) == [expect]


def as_messages(turns: list[list[str]]) -> list[dict[str, str]]:
    return [{"content": content, "role": role} for role, content in turns]


@pytest.mark.parametrize(
    ("name", "row", "expect"),
    [
        ("plain-pairs", {"prompt": "hi", "chosen": "Hello", "rejected": "Go."}, [pair()]),
        (
            "standard-pairs",
            {"chosen": as_messages(pair()["chosen"]), "rejected": as_messages(pair()["rejected"])},
            [pair()],
        ),
        (
            "standard-pairs",
            {
                "chosen": as_messages(pair()["chosen"]),
                "rejected": as_messages(pair()["rejected"]),
                "chosen_score": 4.5,
                "rejected_score": 1,
            },
            [pair(3.5)],
        ),
        (
            "multi-objective",
            dict.fromkeys(OBJECTIVES, None) | {"messages": as_messages(HI), OBJECTIVES[0]: 0.9, "dataset": "helpsteer"},
            [{"messages": HI, "ratings": {OBJECTIVES[0]: 0.9}}],
        ),
    ],
)
def test_ready_made_forms(name: str, row: dict[str, Any], expect: list[dict[str, Any]]) -> None:
    assert outcomes(own(FORMS[name]), [row], {}) == [{"records": expect}]


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_source_of_ones_own_travels_between_processes(form: RatingsForm | PairsForm) -> None:
    source = own(form)
    again = pickle.loads(pickle.dumps(source))
    assert (again.name, again.licence, again.scales, again.pairs) == (
        source.name,
        source.licence,
        source.scales,
        source.pairs,
    )
    row = {"prompt": "hi", "chosen": "Hello", "rejected": "Go."}
    assert outcomes(again, [row], {}) == outcomes(source, [row], {})


def test_ready_made_ratings_are_used_as_they_are() -> None:
    scale = own(FORMS["multi-objective"]).scales[OBJECTIVES[0]]
    assert [scale.to_value(raw) for raw in (0.0, 0.1, 1.0)] == [0.0, 0.1, 1.0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ConversationColumns("a"), "got no prompt; expected its column where style is text; name it"),
        (
            lambda: ConversationColumns("a", "q", style="chat"),
            "got style 'chat'; expected text or messages or transcript",
        ),  # type: ignore[arg-type]
        (lambda: ConversationColumns("a", "q", style="transcript"), "got prompt 'q'; expected none where style is"),
        (
            lambda: ConversationColumns("a", system="s", style="transcript"),
            "got system 's'; expected none where style is",
        ),
        (lambda: RatingsForm(ConversationColumns("a", "q"), {}), "got no objectives; expected at least one; name it"),
        (
            lambda: RatingsForm(ConversationColumns("a", "q"), {"Clarity": Rating("c", Scale(1, 5))}),
            "got objective 'Clarity'; expected lower-case letters, digits and -_. beginning with a letter or digit",
        ),
        (
            lambda: RatingsForm(ConversationColumns("a", "q"), STARS, ("mine-safe",)),
            "got pairs_from 'mine-safe'; expected mine-clarity, each once; correct or remove it",
        ),
        (lambda: PairsForm("a", "w"), "got no prompt; expected its column where style is text; name it"),
        (
            lambda: PairsForm("a", "w", "q", chosen_score="s"),
            "got chosen_score 's' and rejected_score None; expected both",
        ),
        (lambda: PairsForm("a", "w", "q", ties="toss"), "got ties 'toss'; expected keep or drop or reject; choose one"),  # type: ignore[arg-type]
    ],
)
def test_wrong_descriptions_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


DESCRIBED = {"response": "a", "prompt": "q", "objectives": {"clarity": {"lo": 1, "hi": 5}}}


def test_a_form_is_described_by_the_names_of_its_fields() -> None:
    assert form_of("pairs", {"chosen": "a", "rejected": "w", "prompt": "q", "ties": "drop"}) == PairsForm(
        "a", "w", prompt="q", ties="drop"
    )
    assert form_of("ratings", DESCRIBED) == RatingsForm(
        ConversationColumns("a", "q"), {"clarity": Rating("clarity", Scale(1, 5))}
    )
    more = {
        "response": "turns",
        "style": "messages",
        "objectives": {"clarity": {"column": "c", "lo": 0, "hi": 1, "rule": "boolean"}},
        "pairs_from": ["clarity"],
    }
    assert form_of("ratings", more) == RatingsForm(
        ConversationColumns("turns", style="messages"),
        {"clarity": Rating("c", Scale(0, 1, "boolean"))},
        pairs_from=("clarity",),
    )
    assert all(form_of(name, {}) is form for name, form in FORMS.items())


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        (
            "triples",
            {},
            "got form 'triples'; expected ratings, pairs, verdict, lists, multi-objective, plain-pairs, standard-pairs",
        ),
        ("plain-pairs", {"prompt": "q"}, "got prompt for plain-pairs; expected none; correct its name or remove it"),
        ("pairs", {"chosen": "a"}, "got no rejected for pairs; expected chosen, rejected; add it"),
        (
            "pairs",
            {"chosen": "a", "reject": "w"},
            "got reject for pairs; expected chosen, rejected, chosen_score, reject",
        ),
        ("pairs", {"chosen": "a", "rejected": "w", "prompt": 3}, "got prompt = 3 for pairs; expected text; correct it"),
        (
            "ratings",
            {"response": "a", "prompt": "q"},
            "got no objectives for ratings; expected response, objectives; add",
        ),
        ("ratings", DESCRIBED | {"objectives": ["x"]}, "got objectives = ['x'] for ratings; expected a table; correct"),
        ("ratings", DESCRIBED | {"objectives": {"x": 3}}, "got x = 3 for objectives; expected a table; correct it"),
        ("ratings", DESCRIBED | {"objectives": {"x": {"lo": 1}}}, "got no hi for objective x; expected lo, hi; add it"),
        (
            "ratings",
            DESCRIBED | {"objectives": {"x": {"lo": "1", "hi": 5}}},
            "got lo = '1' for objective x; expected a number; correct it",
        ),
        (
            "ratings",
            DESCRIBED | {"objectives": {"x": {"lo": 1, "hi": 5, "rule": "log"}}},
            "got rule 'log'; expected bin_centre or min_max or boolean; choose one",
        ),
        ("ratings", DESCRIBED | {"pairs_from": "clarity"}, "got pairs_from = 'clarity' for ratings; expected a list"),
        ("ratings", DESCRIBED | {"pairs_from": [["x"]]}, "expected clarity, each once; correct or remove it"),
    ],
)
def test_wrong_configurations_are_refused(kind: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        form_of(kind, given)
