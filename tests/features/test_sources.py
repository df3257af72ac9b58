"""Each source against small native rows, whose expected outcome stands beside them in `cases/sources`."""

import json
import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features import sources
from features.conversation import Conversation, MalformedConversation, check_conversation
from features.errors import DatasetError
from features.objectives import OBJECTIVES
from features.sources import SOURCES, complete_options, find_source
from features.sources.base import Drop, Pair, Rated, Record, Refused, Reject, Source, number
from features.sources.rewardbench import SECTION_WEIGHTS, SUBSETS

CASES = Path(__file__).parents[1] / "cases" / "sources"

ABSENT = object()


@dataclass(frozen=True)
class Case:
    """One native row, the settings it is read with, and what must come of it."""

    source: str
    name: str
    row: dict[str, Any]
    options: dict[str, str]
    expect: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.source}: {self.name}"


def cases_of(path: Path) -> Iterator[Case]:
    """The valid row of a file, then the cases that differ from it in a few places."""
    content = json.loads(path.read_text())
    yield Case(path.stem, "a valid row", content["row"], {}, content["expect"])
    for case in content["cases"]:
        row = deepcopy(content["row"])
        for place, value in case.get("change", {}).items():
            put(row, place.split("."), value)
        for place in case.get("remove", []):
            put(row, place.split("."), ABSENT)
        yield Case(path.stem, case["case"], row, case.get("options", {}), case["expect"])


def put(container: Any, place: list[Any], value: Any) -> None:
    """Replaces what lies at the place; `ABSENT` removes it."""
    *path, last = (int(key) if str(key).isdigit() else key for key in place)
    for key in path:
        container = container[key]
    if value is ABSENT:
        del container[last]
    else:
        container[last] = value


def outcome(source: Source, row: Any, given: Mapping[str, str]) -> dict[str, Any]:
    """What a row gives, in the form of the case files."""
    try:
        records = list(source.parse(row, complete_options(source, given)))
    except Reject as reject:
        return {"reject": reject.reason}
    except Drop as drop:
        return {"drop": drop.reason}
    return {"records": [shown(record) for record in records]}


def shown(record: Record) -> dict[str, Any]:
    if isinstance(record, Refused):
        return {"refused": record.reason}
    try:
        for messages in conversations(record):
            check_conversation(messages)
    except MalformedConversation as malformed:
        return {"malformed": malformed.reason}
    if isinstance(record, Rated):
        return {"messages": as_lists(record.messages), "ratings": dict(record.ratings)}
    sides = {"chosen": as_lists(record.chosen), "rejected": as_lists(record.rejected)}
    return sides | {"margin": record.margin, "subset": record.subset}


def conversations(record: Rated | Pair) -> tuple[Conversation, ...]:
    return (record.messages,) if isinstance(record, Rated) else (record.chosen, record.rejected)


def as_lists(messages: Conversation) -> list[list[str]]:
    return [list(message) for message in messages]


ALL_CASES = [case for path in sorted(CASES.glob("*.json")) for case in cases_of(path)]
VALID = [case for case in ALL_CASES if case.name == "a valid row"]


@pytest.mark.parametrize("case", ALL_CASES, ids=str)
def test_case(case: Case) -> None:
    assert outcome(find_source(case.source), case.row, case.options) == case.expect


def test_every_source_has_cases() -> None:
    assert {case.source for case in ALL_CASES} == set(SOURCES)


# Any row: parse is total


def places(value: Any, prefix: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of every field and element in a row, at any depth."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*prefix, key)
        yield from places(inner, (*prefix, key))


texts = st.text(max_size=20) | st.sampled_from(
    ["", " ", "\ud800", "5", "1_0", "nan", "N/A", "A", "\n\nHuman: \n\nAssistant:"]
)
numbers = st.integers() | st.floats() | st.sampled_from([0, 1, 10, 10**400, float("inf")])
json_values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_a_corrupted_field_never_raises_anything_else(data: st.DataObject) -> None:
    case = data.draw(st.sampled_from(VALID))
    row = deepcopy(case.row)
    put(row, list(data.draw(st.sampled_from(list(places(row))))), data.draw(json_values | st.just(ABSENT)))
    source = find_source(case.source)
    options = {name: data.draw(st.sampled_from(allowed)) for name, allowed in source.options.items()}
    assert_sound(source, outcome(source, row, options))


@settings(max_examples=200, deadline=None)
@given(source=st.sampled_from(list(SOURCES.values())), row=st.dictionaries(texts, json_values, max_size=4))
def test_a_foreign_row_never_raises_anything_else(source: Source, row: dict[str, Any]) -> None:
    assert_sound(source, outcome(source, row, {}))


def assert_sound(source: Source, found: dict[str, Any]) -> None:
    """Reasons are codes, and no rating is of an objective that the source does not declare."""
    for record in found.get("records", []):
        assert record.get("ratings", {}).keys() <= source.scales.keys()
        assert re.fullmatch("[a-z_0-9]+", record.get("refused", "none"))
    assert re.fullmatch("[a-z_0-9]+", found.get("reject") or found.get("drop") or "none")


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
    (pair,) = find_source("hh-rlhf").parse(row, {})
    assert isinstance(pair, Pair)
    assert [content for _, content in pair.chosen] == [*prompt, f"x{answers[0]}"]
    assert [content for _, content in pair.rejected] == [*prompt, f"x{answers[1]}"]


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**9), 10**9))
def test_a_number_reads_the_same_as_digits(value: float) -> None:
    assert number(value, "x") == number(str(value), "x") == value


# What the sources declare


@pytest.mark.parametrize("source", SOURCES.values(), ids=lambda source: source.name)
def test_declarations(source: Source) -> None:
    assert source.upstream.count("/") == 1
    assert source.licence
    assert set(source.scales) <= set(OBJECTIVES)
    assert all(len(allowed) > 1 for allowed in source.options.values())
    if source.pair_rule:
        assert set(source.pair_rule(complete_options(source, {})).objectives) <= set(source.scales)


def test_one_objective_is_rated_on_the_scale_of_its_dataset() -> None:
    assert {str(scale) for scale in SOURCES["helpsteer"].scales.values()} == {"0..4"}
    ultrafeedback = SOURCES["ultrafeedback"].scales
    assert {name: str(scale) for name, scale in ultrafeedback.items() if str(scale) != "1..5"} == {
        "ultrafeedback-overall_score": "1..10"
    }
    assert str(SOURCES["beavertails-30k"].scales["beavertails-is_safe"]) == "false or true"


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
    assert SECTION_WEIGHTS == {"Chat": 1, "Chat Hard": 1, "Safety": 1, "Reasoning": 1, "Prior Sets": 0.5}


def test_only_the_benchmark_is_kept_from_training() -> None:
    assert [source.name for source in SOURCES.values() if source.evaluation] == ["rewardbench"]


# Finding a source and completing its settings


def test_names_are_sorted_and_exported() -> None:
    assert list(SOURCES) == sorted(SOURCES)
    assert all(name == source.name for name, source in SOURCES.items())
    assert sources.__all__ == sorted(sources.__all__)
    assert all(hasattr(sources, name) for name in sources.__all__)


def test_an_unknown_dataset_is_answered_with_the_known_ones() -> None:
    with pytest.raises(
        DatasetError, match=r"helpster: got an unknown name; expected one of beavertails-30k, .*; correct"
    ) as e:
        find_source("helpster")
    assert e.value.dataset == "helpster"


def test_defaults_fill_what_is_not_given() -> None:
    assert complete_options(SOURCES["helpsteer"], {}) == {"pair_score": "helpfulness+correctness"}
    assert complete_options(SOURCES["helpsteer"], {"pair_score": "all"}) == {"pair_score": "all"}
    assert complete_options(SOURCES["pku-saferlhf-30k"], {}) == {"chosen_by": "safer_response_id"}
    assert complete_options(SOURCES["hh-rlhf"], {}) == {}


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
    ],
)
def test_wrong_settings_are_refused(name: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(DatasetError, match=re.escape(f"dataset {name}: {message}")):
        complete_options(SOURCES[name], given)
