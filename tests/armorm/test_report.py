"""Reports: what is not defined is blank, text from outside cannot break out of a table."""

import re
from dataclasses import replace

from armorm.features.store.summaries import IngestSummary
from armorm.maths.diagnostics import KindRow
from armorm.maths.evaluation import AccuracyRow, Benchmark, LengthAccuracy, LengthRow, Means, Missing, SubsetRow
from armorm.maths.metrics import Interval
from armorm.maths.probe import ProbeReport
from armorm.maths.ridge import ObjectiveFit, Untrained
from armorm.records.decorrelation import Penalties, Penalty
from armorm.records.evaluation import Evaluation, GateByKind, PairAccuracy
from armorm.records.training import Training
from armorm.report.sections import (
    Report,
    Section,
    benchmark_name,
    build_report,
    gate_section,
    length_section,
    missing_section,
    objective_section,
    pair_section,
    published_section,
    rewardbench_sections,
    shown,
    taken_out,
    to_markdown,
    untrained_section,
)

INTERVAL = Interval(0.8123, 0.8, 0.83)
DATASET = IngestSummary(
    dataset="helpsteer",
    outcomes={"kept": {"": 90}, "rejected": {"missing_column": 3}, "dropped": {"duplicate_row": 7}},
    pairs_dropped={"tie": 4, "duplicate_pair": 0},
    parts_refused=2,
    ratings=450,
    preferences=40,
)
FIT = ObjectiveFit("a", n_train=9, n_validation=1, n_test=0, alpha=0.1)
MODEL = Training(
    regression=(FIT,),
    untrained={"b": Untrained("too_few", 1, 0)},
    decorrelation=Penalties("v", "r", n_responses=5, objectives=(Penalty("a", penalty=0.5, before=0.4, after=1e-8),)),
)
PROBE = ProbeReport(n_train=9, alpha=0.1)
EVALUATION = Evaluation(
    pairs=PairAccuracy((AccuracyRow("all", 100, {"gate": INTERVAL, "mean": INTERVAL}),), "a", PROBE),
    rewardbench=Benchmark(),
)


def built() -> Report:
    return build_report(title="t", facts=["f"], datasets=[DATASET], model=MODEL, evaluation=EVALUATION)


def test_that_nothing_was_taken_out_is_told() -> None:
    """Without a nuisance there are no penalties, and length bias is as it was: the table is there and says so."""
    model = replace(MODEL, decorrelation=Penalties("none", "r"))
    report = build_report(title="t", facts=[], datasets=[DATASET], model=model, evaluation=EVALUATION)
    (section,) = [of for of in report.sections if of.id == "decorrelation"]
    assert section.rows == [("all objectives", taken_out(()))]
    assert taken_out(()) in to_markdown(report)
    assert "length" in taken_out(())
    assert taken_out(("a", "b")) == "a, b"


def test_an_alpha_at_an_end_is_noted() -> None:
    fits = [ObjectiveFit("a"), *(ObjectiveFit(name, alpha_end="largest") for name in ("b", "c"))]
    assert re.search(r"\balpha\b.*\blargest\b.*\bb, c$", objective_section(fits).note)
    assert "tried" not in objective_section([FIT]).note, "as of an older model"


def test_the_gate_is_told_by_the_largest_coefficients_of_each_dataset_and_section() -> None:
    coefficients = {"dataset": (0.1, -0.5, 0.2, 0.0), "section": (0.0, 0.1, 0.2, 0.3), "subset": (1.0, 0.0, 0.0, 0.0)}
    rows = tuple(KindRow(kind, f"one {kind}", 3, of) for kind, of in coefficients.items())
    section = gate_section(GateByKind(("a", "b", "c", "d"), rows))
    assert section.rows == [
        ("dataset", "one dataset", 3, "b -0.500, c +0.200, a +0.100"),
        ("section", "one section", 3, "d +0.300, c +0.200, b +0.100"),
    ]


def test_rows_are_kept_plus_rejected_plus_dropped() -> None:
    datasets = built().sections[0]
    row = dict(zip(datasets.columns, datasets.rows[0], strict=True))
    assert row["rows"] == row["kept"] + row["rejected"] + row["dropped"] == 100  # type: ignore[operator]
    assert built().sections[1].rows == [
        ("helpsteer", "row rejected", "missing_column", 3),
        ("helpsteer", "row dropped", "duplicate_row", 7),
        ("helpsteer", "pair not made", "tie", 4),
    ]


def test_every_objective_has_a_line_trained_or_not() -> None:
    assert [row[0] for section in built().sections[2:4] for row in section.rows] == ["a", "b"]


def test_an_objective_has_its_errors_and_native_units() -> None:
    fit = replace(
        FIT,
        test_r2=0.5,
        test_r2_error=0.02,
        test_spearman=0.7,
        test_mse=0.01,
        test_mse_error=0.001,
        test_mse_native=0.25,
        test_coverage=0.91,
        test_coverage_error=0.03,
    )
    objectives = objective_section([fit])
    assert objectives.rows[0][5:] == (0.5, 0.02, 0.7, 0.01, 0.001, 0.25, 0.91, 0.03)
    assert objectives.columns.count("its error") == 3


def test_a_benchmark_that_was_not_run_has_no_table() -> None:
    assert [s.id for s in built().sections if "rewardbench" in s.id] == []
    bench = Benchmark({"Chat": 1.0}, 1.0, subsets=(SubsetRow("Chat", "s", 1, 1.0),))
    evaluation = replace(EVALUATION, rewardbench=bench)
    report = build_report(title="t", facts=[], datasets=[DATASET], model=MODEL, evaluation=evaluation)
    assert [s.id for s in report.sections][-2:] == ["rewardbench-subsets", "rewardbench"]


def test_a_part_of_a_benchmark_is_named_as_one() -> None:
    """In the title, beside published scores, and in what is not measured; an older evaluation does not know it."""
    subsets = tuple(SubsetRow(name, name, 1, 1.0) for name in ("Chat", "Safety"))
    bench = Benchmark({"Chat": 1.0, "Safety": 0.5}, 0.75, subsets=subsets)
    part = replace(bench, missing=Missing(("Chat Hard", "Reasoning", "Prior Sets"), ("donotanswer",)))
    assert benchmark_name(bench) == "RewardBench"
    assert re.search(r"^RewardBench \(2 of 5 .*\b1 ", benchmark_name(part))
    assert benchmark_name(part) in [section.title for section in rewardbench_sections(part, PairAccuracy())]
    assert "2 of 5 sections" in str(published_section(part).rows[0][0])
    rows = missing_section(replace(EVALUATION, rewardbench=part)).rows
    assert [row[0] for row in rows] == [
        "RewardBench, section Chat Hard",
        "RewardBench, section Reasoning",
        "RewardBench, section Prior Sets",
        "RewardBench, subset donotanswer",
    ]
    assert missing_section(replace(EVALUATION, rewardbench=bench)).rows == []


def test_scores_stand_beside_those_of_baselines() -> None:
    scores = {"Chat": 0.8123}, 0.8123, 0.8123
    record = Benchmark(
        *scores,
        subsets=(SubsetRow("Chat", "s", 9, 0.8123, 0.8, 0.83),),
        intervals=dict.fromkeys(("Chat", "overall", "overall without prior sets"), INTERVAL),
        baselines={"mean": replace(Means(*scores), overall=0.5)},
    )
    subsets, sections = rewardbench_sections(record, PairAccuracy())
    shown_interval = "0.812 [0.800, 0.830]"
    assert subsets.rows == [("Chat", "s", 9, shown_interval)]
    assert sections.columns == ["section", "score", "mean of objectives"]
    assert sections.rows == [
        ("Chat", shown_interval, 0.8123),
        ("overall", shown_interval, 0.5),
        ("overall without prior sets", shown_interval, 0.8123),
    ]


def test_a_probe_that_has_not_converged_is_told() -> None:
    fit = replace(PROBE, n_passes=101, gradient=3e-5)
    ended, cut_off = (
        pair_section(replace(EVALUATION.pairs, probe=replace(fit, converged=converged))) for converged in (True, False)
    )
    assert "converged" in cut_off.note
    assert "101 passes" in cut_off.note
    assert "converged" not in ended.note


def test_accuracy_by_length_ends_in_one_number() -> None:
    rows = tuple(LengthRow(low, high, 5, {"gate": INTERVAL}) for low, high in ((-1200, -3), (0, 0), (7, 7)))
    length = LengthAccuracy(rows, {"gate": INTERVAL}, n_longer=5, n_shorter=4)
    table = length_section(length, PairAccuracy())
    assert [row[0] for row in table.rows] == ["-1,200 to -3", "0", "+7", "chosen longer less chosen shorter"]
    assert table.rows[-1][1:] == ("5, 4", "0.812 [0.800, 0.830]")
    assert length_section(replace(length, bias={}), PairAccuracy()).rows == table.rows[:-1]


def test_markdown_is_escaped() -> None:
    hostile = Report("t|t", sections=[Section("s", "s", ["a|b"], [("<script>|[x](y)\n# h",)])])
    text = to_markdown(hostile)
    assert "\\<script\\>\\|\\[x\\](y) # h" in text
    assert "| a\\|b |" in text


def test_cells_are_short_and_hold_no_control_characters() -> None:
    assert shown(None) == shown(float("nan")) == ""
    assert shown(0.123456) == "0.1235"
    assert shown(1e-8) == "1.0e-08"
    assert shown(0.0) == "0"
    assert shown(12) == "12"
    assert shown("a\x1b[31m\u202eb\n") == "a [31m b "


def test_objectives_that_nobody_rates_are_counted_and_not_listed() -> None:
    section = untrained_section(
        {"a": Untrained("too_few", 3, 0), **{name: Untrained("too_few", 0, 0) for name in "bcd"}}
    )
    assert [row[0] for row in section.rows] == ["a"]
    assert "3" in section.note
    assert not untrained_section({"b": Untrained("too_few", 0, 0)}).rows
