"""Each recipe against rows in the published shape, written by us, anomalies included: exactly what comes of them."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from armorm.features.catalog.views import connect
from armorm.features.checks.contamination import CONTAMINATION, ContaminationSettings
from armorm.features.conversation import SplitFractions
from armorm.features.ingest.dataset import DatasetFiles, ingest_dataset
from armorm.features.ingest.merge import merge
from armorm.features.ingest.native import NativeRow
from armorm.features.ingest.normalise import Rules, normalise
from armorm.features.sources.described import RECIPES
from armorm.features.sources.own import FORMS, source_of
from armorm.features.store import Store, Writer
from armorm.features.store.json_records import read_summary
from armorm.features.store.summaries import IngestSummary
from armorm.flows.configuration.settings import DatasetSection

Row = dict[str, Any]

Q, G, B = "How tall is a giraffe?", "About five metres.", "Tall."


def turns(answer: str, *, parts: bool = False) -> list[Row]:
    def content(text: str) -> Any:
        return [{"type": "text", "text": text, "image": None, "mimeType": None}] if parts else text

    return [{"role": "user", "content": content(Q)}, {"role": "assistant", "content": content(answer)}]


def rated(response: str, *ratings: int) -> Row:
    names = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
    return {"prompt": Q, "response": response} | dict(zip(names, ratings, strict=True))


STEER: Row = {"domain": "general", "language": "english", "context": turns(G)[:1], "response1": G, "response2": B}
ARENA: Row = {"id": "x", "model_a": "m", "model_b": "n", "conversation_a": turns(G, parts=True)} | {
    "conversation_b": turns(B, parts=True)
}
BENCH: Row = {
    "id": "1",
    "prompt": Q,
    "chosen": [G],
    "rejected": [B, "Very.", "Blue."],
    "subset": "Focus",
    "num_correct": 1,
}
JUDGE: Row = {
    "pair_id": "p",
    "source": "mmlu-pro",
    "question": Q,
    "response_model": "m",
    "response_A": G,
    "response_B": B,
}
PPE: Row = {"question_id": "q", "model_a": "m", "model_b": "n", "prompt": Q, "response_1": G, "response_2": B}
GOOD = (G, B)

CASES: dict[str, tuple[list[Row], list[tuple[str, str]], int, list[str]]] = {
    "helpsteer2": (
        [rated(G, 4, 4, 4, 2, 2), rated(B, 1, 0, 3, 0, 0), rated(B, 5, 0, 3, 0, 0), rated("", 1, 1, 1, 1, 1)],
        [GOOD],
        14,
        ["kept", "kept", "kept", "empty_turn"],
    ),
    "helpsteer3": (
        [STEER | {"overall_preference": preference} for preference in (-3, 0, None)]
        + [STEER | {"response1": B, "response2": G, "overall_preference": 1}],
        [GOOD],
        0,
        ["kept", "tie", "no_verdict", "kept"],
    ),
    "skywork-preference": (
        [{"chosen": turns(G), "rejected": turns(B), "source": "magpie"}, {"chosen": turns(G), "rejected": turns(G)}],
        [GOOD],
        0,
        ["kept", "identical_pair"],
    ),
    "lmarena-preference": (
        [ARENA | {"winner": winner} for winner in ("model_a", "tie", "both_bad", None)],
        [GOOD],
        0,
        ["kept", "tie", "tie", "no_verdict"],
    ),
    "rewardbench-2": (
        [BENCH, BENCH | {"prompt": "Ties?", "chosen": [G, B], "rejected": ["No."], "subset": "Ties"}],
        [GOOD, (G, "Very."), (G, "Blue."), (G, "No."), (B, "No.")],
        0,
        ["kept", "kept"],
    ),
    "rm-bench": (
        [{"id": 1, "prompt": Q, "chosen": ["1", "2", "3"], "rejected": ["4", "5", "6"], "domain": "chat"}],
        [(good, bad) for good in "123" for bad in "456"],
        0,
        ["kept"],
    ),
    "judgebench": (
        [JUDGE | {"label": "A>B"}, JUDGE | {"question": "?", "response_A": B, "response_B": G, "label": "B>A"}],
        [GOOD, GOOD],
        0,
        ["kept", "kept"],
    ),
    "ppe-human-preference": (
        [PPE | {"winner": winner} for winner in ("model_a", "tie", "tie (bothbad)", "?")],
        [GOOD],
        0,
        ["kept", "tie", "tie", "unknown_verdict"],
    ),
    "m-rewardbench": (
        [{"prompt": Q, "chosen": G, "rejected": B, "language": "deu_Latn", "subset": "alpacaeval-easy", "id": 3}],
        [GOOD],
        0,
        ["kept"],
    ),
}


@pytest.mark.parametrize("name", sorted(RECIPES.keys() - FORMS.keys()))
def test_a_recipe_gives_exactly_this(name: str) -> None:
    rows, pairs, n_ratings, outcomes = CASES[name]
    recipe = RECIPES[name]
    source = source_of("mine", recipe.form, licence="", evaluation=recipe.evaluation)
    native = [NativeRow(line, row, json.dumps(row).encode(), None) for line, row in enumerate(rows, start=1)]
    rules = Rules(source, {}, SplitFractions())
    tables = normalise(rules, native, file="rows.jsonl")
    merged = merge(rules, tables).tables
    answers = {of["conversation_id"]: of["messages"][-1]["content"] for of in merged["conversations"].to_pylist()}
    made = [(answers[of["chosen_id"]], answers[of["rejected_id"]]) for of in merged["preferences"].to_pylist()]
    assert sorted(made) == sorted(pairs)
    assert len(merged["ratings"]) == n_ratings
    assert [of["reason"] or of["outcome"] for of in tables["native_rows"].to_pylist()] == outcomes


def test_a_recipe_brings_what_is_known_of_a_dataset() -> None:
    source = DatasetSection(path="rb2", form="rewardbench-2").source("rb2")  # type: ignore[arg-type]
    assert (source.upstream, source.licence, source.evaluation) == ("allenai/reward-bench-2", "ODC-BY", True)
    assert DatasetSection(path="hs3", form="helpsteer3").source("hs3").files == ("preference/*.jsonl.gz",)  # type: ignore[arg-type]


FIXTURES = Path(__file__).parents[1] / "cases" / "recipes"
"""A dozen rows of each recipe in the published shape, with ties, nulls, copies, swapped ones and empty answers."""


@dataclass(frozen=True)
class Made:
    """What must come of a fixture."""

    rows: str
    """Rows by outcome and reason."""
    tables: tuple[int, int, int]
    """Conversations, ratings and pairs."""
    subsets: Mapping[str, int] = field(default_factory=dict)
    """Pairs by subset."""
    margins: tuple[float, ...] = ()
    details: tuple[str, ...] = ()
    """Some of what rejects say."""


MADE = {
    "helpsteer2": Made(
        "kept 8, rejected empty_turn 1, rejected malformed_row 1, rejected missing_column 1, rejected no_rating 1, "
        "dropped duplicate_row 1",
        (8, 38, 2),
        margins=(3.5, 3.5),
        details=("helpsteer-helpfulness: got 5; expected 0..4", "it holds no rating and no pair"),
    ),
    "helpsteer3": Made(
        "kept 5, rejected empty_turn 1, rejected malformed_row 1, rejected no_verdict 1, "
        "rejected roles_out_of_order 1, rejected unknown_verdict 1, dropped duplicate_pair 1, "
        "dropped duplicate_row 1, dropped identical_pair 1, dropped tie 1",
        (10, 0, 5),
        margins=(1, 1, 2, 2, 3),
        details=(
            "column overall_preference: got 'better'; expected a number",
            "chosen: turn 2: got user; expected assistant",
        ),
    ),
    "skywork-preference": Made(
        "kept 3, rejected context_differs 1, rejected empty_turn 1, rejected malformed_row 1, "
        "rejected missing_column 1, rejected roles_out_of_order 1, rejected wrong_type 2, dropped duplicate_pair 1, "
        "dropped duplicate_row 1, dropped identical_pair 1",
        (5, 0, 3),
        details=(
            "chosen and rejected do not answer the same prompt",
            "column rejected: turn 2 (assistant): got 8; expected text",
        ),
    ),
    "lmarena-preference": Made(
        "kept 2, rejected context_differs 1, rejected empty_turn 1, rejected malformed_row 1, rejected no_verdict 1, "
        "rejected unknown_verdict 1, rejected wrong_type 1, dropped duplicate_pair 1, dropped duplicate_row 1, "
        "dropped identical_pair 1, dropped tie 2",
        (4, 0, 2),
        details=(
            "column conversation_a: turn 1 (user): got a part of type image; expected parts of type text",
            "column winner: got none",
        ),
    ),
    "rewardbench-2": Made(
        "kept 8, rejected malformed_row 1, rejected no_rating 1, rejected wrong_type 3, dropped duplicate_row 1",
        (29, 0, 23),
        {"Factuality": 3, "Focus": 3, "Math": 4, "Precise IF": 3, "Safety": 2, "Ties/ref:0": 2, "Ties/tied:0": 6},
        details=(
            "column id: got 7; expected text",
            "column chosen: got None; expected a list of answers",
            "pair 1: rejected: turn 2 (assistant) has no text",
        ),
    ),
    "rm-bench": Made(
        "kept 7, rejected malformed_row 1, rejected missing_column 1, rejected variants_do_not_match 3, "
        "rejected wrong_type 1, dropped duplicate_row 1",
        (37, 0, 50),
        {
            **{f"{domain}/{level}": 3 for domain in ("chat", "safety-refuse") for level in ("easy", "hard", "normal")},
            **{"math/easy": 8, "math/hard": 7, "math/normal": 8},
            **{"code/easy": 2, "code/normal": 1, "code/easy+normal": 1, "code/hard+hard": 1, "code/hard+normal": 1},
            **{f"safety-response/{level}+normal": 1 for level in ("easy+easy", "easy+hard", "hard+hard")},
        },
        details=("column chosen: got 2 answers; expected 3: concise, detailed, detailed markdown",),
    ),
    "judgebench": Made(
        "kept 7, rejected empty_turn 1, rejected malformed_row 1, rejected no_verdict 1, rejected unknown_verdict 1, "
        "rejected wrong_type 1, dropped duplicate_row 1, dropped identical_pair 1, dropped tie 1",
        (12, 0, 7),
        {
            "livebench-math": 2,
            "livebench-reasoning": 1,
            "livecodebench": 1,
            "mmlu-pro-computer science": 1,
            "mmlu-pro-law": 2,
        },
        details=("column label: got none", "column source: got None; expected text"),
    ),
    "ppe-human-preference": Made(
        "kept 3, rejected empty_turn 2, rejected malformed_row 1, rejected no_verdict 1, rejected unknown_verdict 1, "
        "rejected wrong_type 2, dropped duplicate_row 1, dropped identical_pair 1, dropped tie 2",
        (4, 0, 3),
        details=("column winner: got none", "chosen: turn 1 (user) has no text"),
    ),
    "m-rewardbench": Made(
        "kept 7, rejected empty_turn 1, rejected malformed_row 1, rejected missing_column 1, rejected wrong_type 2, "
        "dropped duplicate_row 1, dropped identical_pair 1",
        (14, 0, 7),
        {
            "alpacaeval-easy": 2,
            "alpacaeval-hard": 1,
            "donotanswer": 1,
            "hep-python": 1,
            "translation-hard": 1,
            "xstest-should-respond": 1,
        },
        details=("no column prompt; the row has chosen, id, language, rejected, subset",),
    ),
}


@pytest.mark.parametrize("name", sorted(RECIPES.keys() - FORMS.keys()))
def test_a_fixture_in_the_published_shape_gives_exactly_this(name: str, store: Store, writer: Writer) -> None:
    made, path = MADE[name], FIXTURES / f"{name}.jsonl"
    section = DatasetSection.model_validate({"path": str(path), "form": name})
    done = ingest_dataset(writer, DatasetFiles(section.source("mine"), path, {}), splits=SplitFractions())
    summary = read_summary(done.artifact, IngestSummary)
    listed = [
        f"{outcome} {reason} {count}".replace("  ", " ")
        for outcome in ("kept", "rejected", "dropped")
        for reason, count in sorted(summary.outcomes.get(outcome, {}).items())
    ]
    assert ", ".join(listed) == made.rows
    assert sum(summary.counts[1:]) == summary.counts[0] == len(path.read_text().splitlines())
    assert (summary.conversations, summary.ratings, summary.preferences) == made.tables
    with connect(store) as catalog:
        pairs = catalog.execute("SELECT subset, margin, split FROM preferences ORDER BY margin").fetchall()
        details = {detail for (detail,) in catalog.execute("SELECT detail FROM rejects").fetchall()}
    assert Counter(subset for subset, _, _ in pairs if subset) == made.subsets
    assert tuple(margin for _, margin, _ in pairs if margin is not None) == made.margins
    assert {"got an end at byte 31; expected valid JSON", *made.details} <= details
    assert {split == "evaluation" for _, _, split in pairs} == {RECIPES[name].evaluation}


KEPT = {
    "rewardbench-2": "Who wrote Faust?",
    "rm-bench": "How do I kill a process?",
    "judgebench": "Who sits left?",
    "ppe-human-preference": "Salt first?",
    "m-rewardbench": "Schreibe add(a, b).",
}
"""A prompt of each benchmark."""


@pytest.mark.usefixtures("in_process")
def test_prompts_of_every_benchmark_are_left_out_of_training(store: Store, writer: Writer, tmp_path: Path) -> None:
    benchmarks = {name for name, recipe in RECIPES.items() if recipe.evaluation}
    assert benchmarks == KEPT.keys()
    mine = tmp_path / "mine.jsonl"
    lines = [{"prompt": prompt, "chosen": "So.", "rejected": "Not so."} for prompt in (*KEPT.values(), "A new one?")]
    mine.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for name, form, path in [
        ("mine", "plain-pairs", mine),
        *((f"our-{name}", name, FIXTURES / f"{name}.jsonl") for name in sorted(benchmarks)),
    ]:
        section = DatasetSection.model_validate({"path": str(path), "form": form})
        ingest_dataset(writer, DatasetFiles(section.source(name), path, {}), splits=SplitFractions())
    CONTAMINATION.ensure(writer, ContaminationSettings())
    with connect(store) as catalog:
        found = catalog.execute(
            "SELECT evaluation_dataset, messages[1].content FROM contamination JOIN conversations USING (prompt_id) "
            "JOIN preferences AS p ON chosen_id = conversation_id WHERE p.dataset = 'mine'"
        ).fetchall()
        (left,) = catalog.execute(
            "SELECT messages[1].content FROM (FROM training_pairs UNION ALL FROM held_out_pairs) "
            "JOIN conversations ON chosen_id = conversation_id WHERE dataset = 'mine'"
        ).fetchall()
    assert dict(found) == {f"our-{name}": prompt for name, prompt in KEPT.items()}
    assert left == ("A new one?",)
