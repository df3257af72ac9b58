"""Reports: what is not defined is blank, text from outside cannot break out of a table."""

from typing import Any

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
)

INTERVAL = {"estimate": 0.8123, "low": 0.8, "high": 0.83}
DATASET = {
    "dataset": "helpsteer",
    "outcomes": {"kept": {"": 90}, "rejected": {"missing_column": 3}, "dropped": {"duplicate_row": 7}},
    "pairs_dropped": {"tie": 4, "duplicate_pair": 0},
    "parts_refused": 2,
    "ratings": 450,
    "preferences": 40,
}
FIT = {"objective": "a", "n_train": 9, "n_validation": 1, "n_test": 0, "alpha": 0.1, "test_r2": None}
MODEL: dict[str, Any] = {
    "regression": [FIT | {"test_spearman": None}],
    "untrained": {"b": "got 0 ratings"},
    "decorrelation": {
        "nuisance": "v",
        "reference": "r",
        "correlation": "spearman",
        "n_responses": 5,
        "objectives": [{"objective": "a", "lambda": 0.5, "before": 0.4, "after": 1e-8}],
    },
}
EVALUATION: dict[str, Any] = {
    "pairs": {
        "scorers": [["gate", "gate"], ["mean", "mean of objectives"]],
        "best_objective": "a",
        "note": "held out",
        "rows": [{"dataset": "all", "n": 100, "accuracy": {"gate": INTERVAL, "mean": INTERVAL}}],
    },
    "rewardbench": {"subsets": [], "sections": {}, "overall": None, "note": ""},
}


def built() -> Report:
    return build_report(title="t", facts=["f"], datasets=[DATASET], model=MODEL, evaluation=EVALUATION)


def test_that_nothing_was_taken_out_is_told() -> None:
    """Without a nuisance there are no penalties, and length bias is as it was: the table is there and says so."""
    model = MODEL | {"decorrelation": MODEL["decorrelation"] | {"nuisance": "none", "objectives": []}}
    report = build_report(title="t", facts=[], datasets=[DATASET], model=model, evaluation=EVALUATION)
    (section,) = [of for of in report.sections if of.title.startswith("Decorrelation")]
    assert section.rows == [("all objectives", taken_out(()))]
    assert "length bias is not removed" in to_markdown(report)
    assert taken_out(("a", "b")) == "a, b"


def test_an_alpha_at_an_end_is_noted() -> None:
    fits = [
        FIT | {"objective": name, "alpha_end": end} for name, end in (("a", None), ("b", "largest"), ("c", "largest"))
    ]
    assert objective_section(fits).note.endswith("; alpha is the largest that was tried for b, c")
    assert "tried" not in objective_section([FIT]).note, "as of an older model"


def test_the_gate_is_told_by_the_largest_coefficients_of_each_dataset_and_section() -> None:
    coefficients = {"dataset": [0.1, -0.5, 0.2, 0.0], "section": [0.0, 0.1, 0.2, 0.3], "subset": [1.0, 0.0, 0.0, 0.0]}
    rows = [{"kind": k, "name": f"one {k}", "n_prompts": 3, "coefficients": of} for k, of in coefficients.items()]
    section = gate_section({"objectives": ["a", "b", "c", "d"], "rows": rows})
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
    figures = {
        "test_r2": 0.5,
        "test_r2_error": 0.02,
        "test_mse": 0.01,
        "test_mse_error": 0.001,
        "test_mse_native": 0.25,
    }
    objectives = objective_section([FIT | figures | {"test_spearman": 0.7}])
    assert objectives.rows[0][5:] == (0.5, 0.02, 0.7, 0.01, 0.001, 0.25)
    assert objectives.columns.count("its error") == 2


def test_a_benchmark_that_was_not_run_has_no_table() -> None:
    assert [s.title for s in built().sections if "RewardBench" in s.title] == []
    bench = {"subsets": [{"section": "Chat", "subset": "s", "n": 1, "accuracy": 1.0}], "sections": {"Chat": 1.0}}
    evaluation = EVALUATION | {"rewardbench": bench | {"overall": 1.0, "note": "partial"}}
    report = build_report(title="t", facts=[], datasets=[DATASET], model=MODEL, evaluation=evaluation)
    assert [s.title for s in report.sections][-2:] == ["RewardBench subsets", "RewardBench"]


def test_a_part_of_a_benchmark_is_named_as_one() -> None:
    """In the title, beside published scores, and in what is not measured; an older evaluation does not know it."""
    bench = {
        "subsets": [{"section": name, "subset": name, "n": 1, "accuracy": 1.0} for name in ("Chat", "Safety")],
        "sections": {"Chat": 1.0, "Safety": 0.5},
        "overall": 0.75,
        "note": "partial",
    }
    part = bench | {"missing": {"sections": ["Chat Hard", "Reasoning", "Prior Sets"], "subsets": ["donotanswer"]}}
    assert [benchmark_name(of) for of in (bench, part)] == [
        "RewardBench",
        "RewardBench (2 of 5 sections, without 1 of their subsets)",
    ]
    assert benchmark_name(part) in [section.title for section in rewardbench_sections(part)]
    assert "2 of 5 sections" in str(published_section(part).rows[0][0])
    rows = missing_section(EVALUATION | {"rewardbench": part}).rows
    assert [row[0] for row in rows] == [
        "RewardBench, section Chat Hard",
        "RewardBench, section Reasoning",
        "RewardBench, section Prior Sets",
        "RewardBench, subset donotanswer",
    ]
    assert missing_section(EVALUATION | {"rewardbench": bench}).rows == []


def test_scores_stand_beside_those_of_baselines() -> None:
    subset = {"section": "Chat", "subset": "s", "n": 9, "accuracy": 0.8123, "low": 0.8, "high": 0.83}
    scores = {"sections": {"Chat": 0.8123}, "overall": 0.8123, "overall_without_prior_sets": 0.8123}
    record = scores | {
        "scorers": [["gate", "gate"], ["mean", "mean of objectives"]],
        "subsets": [subset],
        "intervals": dict.fromkeys(("Chat", "overall", "overall without prior sets"), INTERVAL),
        "baselines": {"mean": scores | {"overall": 0.5}},
        "note": "",
    }
    subsets, sections = rewardbench_sections(record)
    shown_interval = "0.812 [0.800, 0.830]"
    assert subsets.rows == [("Chat", "s", 9, shown_interval)]
    assert sections.columns == ["section", "score", "mean of objectives"]
    assert sections.rows == [
        ("Chat", shown_interval, 0.8123),
        ("overall", shown_interval, 0.5),
        ("overall without prior sets", shown_interval, 0.8123),
    ]


def test_a_probe_that_has_not_converged_is_told() -> None:
    fit = {"n_train": 9, "alpha": 0.1, "n_passes": 101, "gradient": 3e-5}
    ended, cut_off = (
        pair_section(EVALUATION["pairs"] | {"probe": fit | {"converged": converged}}) for converged in (True, False)
    )
    assert "not converged" in cut_off.note
    assert "101 passes" in cut_off.note
    assert pair_section(EVALUATION["pairs"] | {"probe": fit}).note == ended.note, "as of an older evaluation"


def test_accuracy_by_length_ends_in_one_number() -> None:
    rows = [
        {"shortest": low, "longest": high, "n": 5, "accuracy": {"gate": INTERVAL}}
        for low, high in ((-1200, -3), (0, 0), (7, 7))
    ]
    length = {"scorers": [["gate", "gate"]], "rows": rows, "bias": {"gate": INTERVAL}, "n_longer": 5, "n_shorter": 4}
    table = length_section(length)
    assert [row[0] for row in table.rows] == ["-1,200 to -3", "0", "+7", "chosen longer less chosen shorter"]
    assert table.rows[-1][1:] == ("5, 4", "0.812 [0.800, 0.830]")
    assert length_section(length | {"bias": {}}).rows == table.rows[:-1]


def test_markdown_is_escaped() -> None:
    hostile = Report("t|t", sections=[Section("s", ["a|b"], [("<script>|[x](y)\n# h",)])])
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
