"""The report as a page: complete, the same each time, and deaf to what stands in the data."""

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from armorm.maths.diagnostics import CorrelationMatrices, KindRow, Part
from armorm.maths.evaluation import Benchmark, Calibration, CalibrationRow, Missing, SubsetRow
from armorm.maths.metrics import Bin, CurvePoint
from armorm.records.decorrelation import Penalties
from armorm.records.evaluation import GateByKind, Mistake
from armorm.records.gate import GateTraining
from armorm.report.page import TEXT_CHARACTERS, Texts, build_chapters, to_html
from armorm.report.plots import heatmap, short
from armorm.report.sections import Section, published_section, taken_out, visible
from tests.armorm.test_report import EVALUATION, INTERVAL, MODEL, built

HOSTILE = (
    '</script><script>alert(1)</script><img src="http://127.0.0.1/x" onerror=alert(1)>$\\frac{1}{2}$\x1b[31m\u202ea&b'
)

FINDINGS: dict[str, Any] = {
    "calibration": Calibration(
        beta=100.0,
        rows=(CalibrationRow(HOSTILE, 9, confidence=0.8, accuracy=0.7, error=0.1),),
        bins=(Bin(5, 0.6, 0.5), Bin(4, 0.9, 1.0)),
    ),
    "reward_correlations": CorrelationMatrices(
        (HOSTILE, "n_tokens"), 3, "spearman", before=((1.0, 0.5), (0.5, 1.0)), after=((1.0, None), (None, 1.0))
    ),
    "gate_by_kind": GateByKind(("a", HOSTILE), (KindRow("dataset", HOSTILE, 2, (0.25, -0.125)),)),
    "mistakes": tuple(
        Mistake(pair_id, HOSTILE, "0" * 32, 0.125, 0.25, 0.125, (Part(HOSTILE, 1.0, 0.1, 0.2, -0.1),))
        for pair_id in ("known", "gone")
    ),
}

TEXTS = {"known": Texts(HOSTILE, "x" * 1_000_000, f"one\ntwo\t{HOSTILE}", 3)}

BENCHMARK = Benchmark({"Safety": 0.5, "Chat": 1.0}, 0.75, subsets=(SubsetRow("Chat", "s", 1, 1.0),))


def page(**records: Any) -> str:
    """The page of the records of `test_report`, and some more."""
    report = built()
    report = replace(
        report, title=HOSTILE, facts=[HOSTILE], sections=[*report.sections, Section("x", HOSTILE, ["a"], [("b",)])]
    )
    curve = tuple(CurvePoint(step, 1 / step) for step in (1, 2, 3))
    model = replace(MODEL, gate=GateTraining(9, 1.0, curve=curve))
    chapters = build_chapters(report, model=model, evaluation=replace(EVALUATION, **records), texts=TEXTS)
    return to_html(report, chapters)


class Elements(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_text_from_outside_stays_text() -> None:
    elements = Elements(page(**FINDINGS))
    assert {tag for tag, _ in elements.found}.isdisjoint({"script", "img", "iframe", "object", "form", "base"})
    assert not [name for _, attributes in elements.found for name in attributes if name.startswith("on")]
    assert "<script>alert(1)</script>" in elements.text
    assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e\u2066-\u2069]", elements.text)


def test_nothing_is_asked_for_from_anywhere() -> None:
    text = page(**FINDINGS)
    for tag, attributes in Elements(text).found:
        for name in ("src", "href", "xlink:href", "action", "srcset", "data"):
            address = attributes.get(name) or "#"
            assert address.startswith(("#", "data:")), (tag, address)
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    (policy,) = [a["content"] for _, a in Elements(text).found if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_huge_texts_are_cut_and_the_page_says_so() -> None:
    text = page(**FINDINGS)
    assert re.search(rf"\b{TEXT_CHARACTERS}\b", text)
    assert "x" * TEXT_CHARACTERS + " …" in text
    assert "x" * (TEXT_CHARACTERS + 1) not in text


def test_the_same_records_give_the_same_bytes() -> None:
    assert page(**FINDINGS) == page(**FINDINGS)


def test_what_has_no_record_is_left_out() -> None:
    without, whole = page(), page(**FINDINGS)
    for chapter in ("calibration", "worst-mistakes"):
        assert f'id="{chapter}"' not in without
        assert f'id="{chapter}"' in whole
    with_texts, without_texts = whole.split("<details")[-2:]
    assert ("<blockquote" in with_texts, "<blockquote" in without_texts) == (True, False)
    assert ("store" in with_texts, "store" in without_texts) == (False, True)


def test_the_summary_says_how_much_of_a_benchmark_it_is() -> None:
    part = replace(BENCHMARK, missing=Missing(("Chat Hard", "Reasoning", "Prior Sets")))
    chapters = build_chapters(built(), model=MODEL, evaluation=replace(EVALUATION, rewardbench=part), texts={})
    (row,) = [row for row in chapters[0].sections[0].rows if "RewardBench" in str(row[0])]
    assert "2 of 5 sections" in str(row[0])


def test_without_decorrelation_there_is_no_before_and_after() -> None:
    model = replace(MODEL, decorrelation=Penalties("none", "r"))
    chapters = build_chapters(built(), model=model, evaluation=replace(EVALUATION, **FINDINGS), texts={})
    found = {chapter.id: chapter for chapter in chapters}
    assert len(found["decorrelation-and-verbosity"].figures) == 1
    assert ("taken out of the objectives", taken_out(())) in found["summary"].sections[0].rows


def test_every_link_has_an_end_and_every_id_is_one() -> None:
    elements = Elements(page(**FINDINGS)).found
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    links = {attributes["href"] for tag, attributes in elements if tag == "a"}
    assert {str(link)[1:] for link in links} <= set(ids)


def test_a_plot_is_a_tree_of_its_own_whose_names_are_text() -> None:
    svg = heatmap("A title", [[0.5, None]], [visible(HOSTILE)], ["$a$", "<b>"], limit=1)
    root = ET.fromstring(svg)
    texts = ["".join(text.itertext()) for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {".50", "$a$", "<b>"} <= set(texts)
    assert root.attrib["aria-label"] == "A title"
    assert "currentColor" in svg
    assert "<?xml" not in svg


@pytest.mark.parametrize(
    ("value", "text"), [(0.5, ".50"), (-0.051, "-.05"), (-0.001, "0"), (1.0, "1.00"), (0.999, "1.00"), (12.5, "12.50")]
)
def test_numbers_in_cells_are_short(value: float, text: str) -> None:
    assert short(value, 2) == text


def test_published_models_stand_beside_in_the_order_of_the_paper() -> None:
    section = published_section(BENCHMARK)
    assert section.columns == ["model", "overall", "Chat", "Safety"]
    assert section.rows[0] == ("this model", 0.75, 1.0, 0.5)
    assert section.rows[1:3] == [
        ("Nemotron-4-340B-Reward", 0.893, 0.958, 0.915),
        ("ArmoRM-Llama3-8B-v0.1", 0.89, 0.969, 0.922),
    ]
    assert len(section.rows) == 1 + 7, "all systems of the paper's table"
    assert not published_section(replace(BENCHMARK, subsets=())).rows


def test_the_summary_has_the_gate_and_its_baselines() -> None:
    assert f"{INTERVAL.estimate:.3f}" in page()
