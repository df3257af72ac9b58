"""The sample: the same bytes for a seed, native shapes, the defects it says it has, and a world worth a gate."""

import gzip
import hashlib
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.stats import spearmanr

from armorm.features.conversation import conversation_id
from armorm.features.objectives import OBJECTIVES
from armorm.features.sample import DATASETS, SampleManifest, sample_texts, write_backbone, write_sample
from armorm.features.sample.backbone import BOS, CHAT_TEMPLATE, END_OF_TURN
from armorm.features.sample.datasets import all_defects
from armorm.features.sample.native import (
    code_ultrafeedback,
    feedback_collection,
    helpsteer,
    hh_rlhf,
    preference_test_sets,
)
from armorm.features.sample.native.beavertails import CATEGORIES
from armorm.features.sample.native.rewardbench import SUBSETS
from armorm.features.sample.world.words import BAD_CLAUSES, GOOD_CLAUSES, KINDS
from armorm.features.sample.world.world import Group, World, extra_length

SCALE = 0.02
Row = dict[str, Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sample")


@pytest.fixture(scope="module")
def manifest(folder: Path) -> SampleManifest:
    return write_sample(folder, scale=SCALE)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("backbone")
    write_backbone(target, sample_texts())
    return target


def checksums(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def read(path: Path) -> list[Row | str]:
    """All rows of a native file; what is no JSON as its text."""
    if path.suffix == ".parquet":
        return list(pq.read_table(path).to_pylist())
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if content.startswith(b"["):
        return list(json.loads(content))
    return [parsed(line) for line in content.decode().splitlines()]


def parsed(line: str) -> Row | str:
    try:
        return dict(json.loads(line))
    except json.JSONDecodeError:
        return line


def all_rows(folder: Path, manifest: SampleManifest, dataset: str) -> list[Row | str]:
    return [row for file in manifest.datasets[dataset].rows for row in read(folder / file)]


def clean_rows(folder: Path, manifest: SampleManifest, dataset: str) -> list[Row]:
    """The rows that no defect was planted in."""
    of = manifest.datasets[dataset]
    spoilt = {(planted.file, planted.row) for planted in of.planted}
    rows = [row for file in of.rows for n, row in enumerate(read(folder / file)) if (file, n) not in spoilt]
    return [row for row in rows if isinstance(row, dict)]


def spoilt_rows(folder: Path, manifest: SampleManifest, dataset: str, defect: str) -> list[Row]:
    """The rows that one defect was planted in, of which there are some."""
    places = [(planted.file, planted.row) for planted in manifest.datasets[dataset].planted if planted.defect == defect]
    rows = [row for file, number in places if isinstance(row := read(folder / file)[number], dict)]
    assert rows
    return rows


# ------------------------------------------------------------------------------------------------- determinism


def test_a_seed_gives_the_same_bytes_whatever_the_hash_seed(folder: Path, manifest: SampleManifest, tmp_path: Path):
    code = (
        "from pathlib import Path; from armorm.features.sample import write_sample; "
        f"write_sample(Path('.'), scale={SCALE})"
    )
    environment = {"PYTHONHASHSEED": "7", "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
    assert checksums(tmp_path) == checksums(folder)


def test_another_seed_gives_other_files(folder: Path, manifest: SampleManifest, tmp_path: Path):
    write_sample(tmp_path, seed=1, scale=SCALE)
    ours, others = checksums(folder), checksums(tmp_path)
    assert ours.keys() == others.keys()
    assert not set(ours.values()) & set(others.values())


def test_no_model_library_is_loaded():
    code = "import sys, armorm.features.sample; print({'torch', 'transformers', 'tokenizers'} & set(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=True, capture_output=True, text=True
    )
    assert result.stdout == "set()\n"


# ------------------------------------------------------------------------------------------------ native shapes

COLUMNS: Mapping[str, set[str]] = {
    "helpsteer": {"prompt", "response", "helpfulness", "correctness", "coherence", "complexity", "verbosity"},
    "ultrafeedback": {"source", "instruction", "models", "completions", "correct_answers", "incorrect_answers"},
    "beavertails-30k": {"prompt", "response", "category", "is_safe"},
    "feedback-collection": {
        *(f"orig_{name}" for name in ("criteria", "instruction", "reference_answer", "response", "feedback", "score")),
        *(f"orig_score{n}_description" for n in range(1, 6)),
        *("instruction", "input", "output"),
    },
    "code-ultrafeedback": {"instruction", "preference", "models", "responses", "annotations"},
    "argilla-capybara": {
        *("chosen", "chosen_rating", "chosen_model", "rejected", "rejected_rating", "rejected_model"),
        "source",
    },
    "argilla-openorca": {
        *("system", "input", "chosen", "rejected", "generations", "order", "labelling_model", "labelling_prompt"),
        *("raw_labelling_response", "rating", "rationale", "status", "original_chosen", "original_rejected"),
        *("chosen_score", "in_gsm8k_train"),
    },
    "argilla-math": {
        *("chosen_response", "chosen_rating", "rejected_response", "rejected_rating"),
        *("metadata", "instruction"),
    },
    "shp": {
        *(f"{name}_{side}" for name in ("c_root_id", "created_at_utc", "score", "human_ref") for side in "AB"),
        *("post_id", "domain", "upvote_ratio", "history", "labels", "seconds_difference", "score_ratio"),
    },
    "prm-phase-2": {
        *("labeler", "timestamp", "generation", "is_quality_control_question", "is_initial_screening_question"),
        *("question", "label"),
    },
    "preference-test-sets": {"prompt", "chosen", "rejected"},
    "hh-rlhf": {"chosen", "rejected"},
    "pku-saferlhf-30k": {
        *("prompt", "response_0", "response_1", "is_response_0_safe", "is_response_1_safe"),
        *("better_response_id", "safer_response_id"),
    },
    "preference-collection": {
        *(f"orig_{name}_{side}" for name in ("feedback", "response", "score") for side in "AB"),
        *(f"orig_{name}" for name in ("criteria", "instruction", "reference_answer", "preference", "feedback")),
        *("instruction", "output", "input"),
    },
    "rewardbench": {"prompt", "chosen", "chosen_model", "rejected", "rejected_model", "subset", "id"},
}

VALID: Mapping[str, Callable[[Row], bool]] = {
    "helpsteer": lambda row: all(row[name] in range(5) for name in helpsteer.JUDGES),
    "ultrafeedback": lambda row: len(row["completions"]) == 4 and all(map(rated, row["completions"])),
    "beavertails-30k": lambda row: (
        tuple(row["category"]) == CATEGORIES and row["is_safe"] is not any(row["category"].values())
    ),
    "feedback-collection": lambda row: (
        row["orig_score"] in "12345" and row["output"].endswith(f"[RESULT] {row['orig_score']}")
    ),
    "hh-rlhf": lambda row: (
        row["chosen"].startswith("\n\nHuman: ")
        and row["chosen"] != row["rejected"]
        and row["chosen"].rpartition("\n\nAssistant: ")[0] == row["rejected"].rpartition("\n\nAssistant: ")[0]
    ),
    "pku-saferlhf-30k": lambda row: (
        row["response_0"] != row["response_1"] and {row["better_response_id"], row["safer_response_id"]} <= {0, 1}
    ),
    "preference-collection": lambda row: (row["orig_score_A"] > row["orig_score_B"]) == (row["orig_preference"] == "A"),
    "rewardbench": lambda row: row["subset"] in SUBSETS and row["chosen"] != row["rejected"],
    "code-ultrafeedback": lambda row: (
        row["preference"] in code_ultrafeedback.JUDGES
        and [response["model"] for response in row["responses"]] == row["models"]
        and sorted(annotation["model"] for annotation in row["annotations"]) == sorted(row["models"])
        and all(annotation["rating"] in "12345" for annotation in row["annotations"])
    ),
    "argilla-capybara": lambda row: (
        row["chosen"][:-1] == row["rejected"][:-1]
        and row["chosen"] != row["rejected"]
        and 1 <= row["rejected_rating"] < row["chosen_rating"] <= 5
    ),
    "argilla-openorca": lambda row: (
        {row["chosen"]: "chosen", row["rejected"]: "rejected"}
        == dict(zip(row["generations"], row["order"], strict=True))
        and row["rating"][row["generations"].index(row["chosen"])] == max(row["rating"]) == row["chosen_score"]
        and 1 <= min(row["rating"]) < max(row["rating"]) <= 10
    ),
    "argilla-math": lambda row: (
        1 <= row["rejected_rating"] < row["chosen_rating"] <= 10 and "length-input" in json.loads(row["metadata"])
    ),
    "shp": lambda row: (
        row["labels"] == (row["score_A"] > row["score_B"])
        and row["score_ratio"] == max(votes(row)) / min(votes(row)) > 1
        and row["human_ref_A"] != row["human_ref_B"]
    ),
    "prm-phase-2": lambda row: (
        row["question"]["pre_generated_steps"][: len(labelled(row))] == [step[0]["text"] for step in labelled(row)]
        and (row["label"]["finish_reason"] == "found_error") == (labelled(row)[-1][0]["rating"] == -1)
    ),
    "preference-test-sets": lambda row: (
        [turn["role"] for turn in row["prompt"]] == (["user", "assistant"] * 9)[: len(row["prompt"])]
        and len(row["prompt"]) % 2 == 1
        and row["chosen"] != row["rejected"]
    ),
}


def votes(row: Row) -> tuple[int, int]:
    return row["score_A"], row["score_B"]


def labelled(row: Row) -> list[list[Row]]:
    return [step["completions"] for step in row["label"]["steps"]]


def rated(completion: Row) -> bool:
    ratings = [annotation["Rating"] for annotation in completion["annotations"].values()]
    return len(ratings) == 4 and set(ratings) <= set("12345") and 1 <= completion["overall_score"] <= 10


@pytest.mark.parametrize("dataset", DATASETS)
def test_clean_rows_have_their_native_shape(folder: Path, manifest: SampleManifest, dataset: str):
    rows = clean_rows(folder, manifest, dataset)
    assert rows
    assert {frozenset(row) for row in rows} == {frozenset(COLUMNS[dataset])}
    assert all(map(VALID[dataset], rows))


@pytest.mark.parametrize("dataset", DATASETS)
def test_the_manifest_counts_the_rows(folder: Path, manifest: SampleManifest, dataset: str):
    of = manifest.datasets[dataset]
    assert {file: len(read(folder / file)) for file in of.rows} == of.rows
    assert all(file.startswith(f"{dataset}/") for file in of.rows)


def test_shp_is_lines_of_json_in_folders_of_subreddits(folder: Path, manifest: SampleManifest):
    files = manifest.datasets["shp"].rows
    assert {len(Path(file).parts) for file in files} == {3}
    assert {Path(file).name for file in files} == {"train.json", "validation.json", "test.json"}
    assert all((folder / file).read_text().count("\n") == n > 0 for file, n in files.items())


def test_posts_of_shp_share_comments_and_have_pairs_of_distinct_ratios(folder: Path, manifest: SampleManifest):
    posts: dict[str, list[Row]] = {}
    for row in clean_rows(folder, manifest, "shp"):
        posts.setdefault(row["post_id"], []).append(row)
    assert all(len({row["score_ratio"] for row in rows}) == len(rows) for rows in posts.values())
    largest = max(posts.values(), key=len)
    assert len(largest) > 5
    assert len({row[f"c_root_id_{side}"] for row in largest for side in "AB"}) <= 5


def test_annotations_of_code_are_in_an_order_of_their_own(folder: Path, manifest: SampleManifest):
    rows = clean_rows(folder, manifest, "code-ultrafeedback")
    in_order = [[one["model"] for one in row["annotations"]] == row["models"] for row in rows]
    assert sum(in_order) < len(rows) / 4


def test_capybara_has_dialogues(folder: Path, manifest: SampleManifest):
    lengths = Counter(len(row["chosen"]) for row in clean_rows(folder, manifest, "argilla-capybara"))
    assert lengths.keys() == {2, 4, 6}


def test_the_prior_sets_have_splits_that_are_scored_and_others(manifest: SampleManifest):
    splits = {Path(file).name.partition("-")[0] for file in manifest.datasets["preference-test-sets"].rows}
    assert splits == {*preference_test_sets.SCORED, *preference_test_sets.NOT_SCORED}
    assert {"anthropic_helpful", "anthropic_hhh", "shp", "summarize"} == {*preference_test_sets.SCORED}


def test_rewardbench_has_every_subset(folder: Path, manifest: SampleManifest):
    counts = Counter(row["subset"] for row in clean_rows(folder, manifest, "rewardbench"))
    assert len(counts) == 23
    assert sum(counts.values()) >= 23 * 8 - 5


def test_datasets_share_conversations(folder: Path, manifest: SampleManifest):
    scored = {row["orig_response"] for row in clean_rows(folder, manifest, "feedback-collection")}
    paired = {row["orig_response_A"] for row in clean_rows(folder, manifest, "preference-collection")}
    labelled = {row["response"] for row in clean_rows(folder, manifest, "beavertails-30k")}
    compared = {row["response_0"] for row in clean_rows(folder, manifest, "pku-saferlhf-30k")}
    assert len(paired & scored) > 0.8 * len(paired)
    assert len(compared & labelled) > 0.6 * len(compared)


# ------------------------------------------------------------------------------------------------------ defects

FOUND: Mapping[tuple[str, str], Callable[[Row], bool]] = {
    ("helpsteer", "missing_column"): lambda row: "coherence" not in row,
    ("helpsteer", "rating_out_of_range"): lambda row: row["helpfulness"] == 7,
    ("helpsteer", "rating_not_a_number"): lambda row: row["correctness"] == "N/A",
    ("helpsteer", "rating_null"): lambda row: row["complexity"] is None,
    ("helpsteer", "empty_answer"): lambda row: row["response"] == "",
    ("ultrafeedback", "missing_column"): lambda row: "completions" not in row,
    ("ultrafeedback", "no_completions"): lambda row: row.get("completions") == [],
    ("ultrafeedback", "one_completion"): lambda row: len(row.get("completions", ())) == 1,
    ("ultrafeedback", "rating_not_applicable"): lambda row: aspects(row).count("N/A") == 1,
    ("ultrafeedback", "rating_not_a_number"): lambda row: "high" in aspects(row),
    ("ultrafeedback", "rating_out_of_range"): lambda row: "7" in aspects(row),
    ("ultrafeedback", "overall_score_bug"): lambda row: any(ten_with(1, one) for one in completions(row)),
    ("ultrafeedback", "overall_score_in_doubt"): lambda row: any(ten_with(3, one) for one in completions(row)),
    ("ultrafeedback", "empty_answer"): lambda row: any(one["response"] == "" for one in completions(row)),
    ("ultrafeedback", "identical_completions"): lambda row: (
        len({one["response"] for one in completions(row)}) < len(completions(row))
    ),
    ("beavertails-30k", "missing_column"): lambda row: "is_safe" not in row,
    ("beavertails-30k", "label_not_boolean"): lambda row: row.get("is_safe") == "yes",
    ("beavertails-30k", "is_safe_contradicts_category"): lambda row: (
        row.get("is_safe") is any(row["category"].values())
    ),
    ("beavertails-30k", "empty_answer"): lambda row: row["response"] == "",
    ("feedback-collection", "missing_column"): lambda row: "orig_score" not in row,
    ("feedback-collection", "score_contradicts_result"): lambda row: (
        "orig_score" in row and not row["output"].endswith(f"[RESULT] {row['orig_score']}")
    ),
    ("feedback-collection", "score_out_of_range"): lambda row: row.get("orig_score") == "6",
    ("feedback-collection", "score_not_a_number"): lambda row: row.get("orig_score") == "N/A",
    ("feedback-collection", "empty_answer"): lambda row: row["orig_response"] == "",
    ("hh-rlhf", "missing_column"): lambda row: "rejected" not in row,
    ("hh-rlhf", "identical_pair"): lambda row: row["chosen"] == row.get("rejected"),
    ("hh-rlhf", "empty_final_turn"): lambda row: row["chosen"].endswith("\n\nAssistant:"),
    ("hh-rlhf", "roles_out_of_order"): lambda row: row["chosen"].endswith("\n\nAssistant: One more thing."),
    ("hh-rlhf", "context_differs"): lambda row: row.get("rejected", "").startswith("\n\nHuman: Good morning."),
    ("hh-rlhf", "leading_spaces"): lambda row: row["chosen"].rpartition("\n\nAssistant:")[2].startswith("  "),
    ("pku-saferlhf-30k", "missing_column"): lambda row: "safer_response_id" not in row,
    ("pku-saferlhf-30k", "unknown_response_id"): lambda row: row.get("safer_response_id") == 2,
    ("pku-saferlhf-30k", "better_response_null"): lambda row: row["better_response_id"] is None,
    ("pku-saferlhf-30k", "identical_pair"): lambda row: row["response_0"] == row["response_1"],
    ("pku-saferlhf-30k", "empty_answer"): lambda row: row["response_1"] == "",
    ("pku-saferlhf-30k", "safer_contradicts_flags"): lambda row: (
        row.get("safer_response_id") in (0, 1)
        and not row[f"is_response_{row['safer_response_id']}_safe"]
        and row[f"is_response_{1 - row['safer_response_id']}_safe"]
    ),
    ("preference-collection", "value_null"): lambda row: row["orig_response_B"] is None,
    ("preference-collection", "tied_scores"): lambda row: row["orig_score_A"] == row["orig_score_B"],
    ("preference-collection", "unknown_preference"): lambda row: row["orig_preference"] == "C",
    ("preference-collection", "identical_pair"): lambda row: row["orig_response_A"] == row["orig_response_B"],
    ("preference-collection", "empty_answer"): lambda row: row["orig_response_A"] == "",
    ("preference-collection", "preference_contradicts_scores"): lambda row: (
        (row["orig_preference"], row["orig_score_A"] > row["orig_score_B"]) in (("A", False), ("B", True))
        and row["orig_score_A"] != row["orig_score_B"]
    ),
    ("helpsteer", "short_answer"): lambda row: row["response"] == "Yes.",
    ("helpsteer", "tied_answers"): lambda row: row["response"].endswith("That is all."),
    ("ultrafeedback", "nothing_applicable"): lambda row: any(
        one["fine-grained_score"] is None for one in completions(row)
    ),
    ("preference-collection", "preference_contradicts_result"): lambda row: (
        (row["orig_score_A"] > row["orig_score_B"]) == (row["orig_preference"] == "A")
        and row["orig_preference"] in ("A", "B")
        and row["orig_score_A"] != row["orig_score_B"]
        and not row["output"].endswith(row["orig_preference"])
    ),
    ("code-ultrafeedback", "value_null"): lambda row: row["instruction"] is None,
    ("code-ultrafeedback", "unknown_preference"): lambda row: row["preference"] not in code_ultrafeedback.JUDGES,
    ("code-ultrafeedback", "no_annotations"): lambda row: row["annotations"] == [],
    ("code-ultrafeedback", "few_annotations"): lambda row: 0 < len(row["annotations"]) < 4,
    ("code-ultrafeedback", "not_applicable"): lambda row: given(row).count("N/A") == 1,
    ("code-ultrafeedback", "nothing_applicable"): lambda row: given(row).count("N/A") == 4,
    ("code-ultrafeedback", "rating_not_a_number"): lambda row: "good" in given(row),
    ("code-ultrafeedback", "rating_out_of_range"): lambda row: "7" in given(row),
    ("code-ultrafeedback", "unknown_model"): lambda row: not annotated(row) <= set(row["models"]),
    ("code-ultrafeedback", "annotated_again"): lambda row: len(row["annotations"]) == 5,
    ("code-ultrafeedback", "api_error"): lambda row: any(
        one.startswith("An error occurred: OpenAI") for one in answers(row)
    ),
    ("code-ultrafeedback", "empty_answer"): lambda row: "" in answers(row),
    ("code-ultrafeedback", "same_answer"): lambda row: len(set(answers(row))) < len(answers(row)),
    ("argilla-capybara", "value_null"): lambda row: row["chosen"] is None,
    ("argilla-capybara", "ratings_swapped"): lambda row: row["chosen_rating"] < row["rejected_rating"],
    ("argilla-capybara", "tied_ratings"): lambda row: row["chosen_rating"] == row["rejected_rating"],
    ("argilla-capybara", "identical_pair"): lambda row: row["chosen"] == row["rejected"],
    ("argilla-capybara", "empty_final_turn"): lambda row: row["rejected"][-1]["content"] == "",
    ("argilla-capybara", "roles_out_of_order"): lambda row: row["rejected"][0]["role"] == "assistant",
    ("argilla-capybara", "context_differs"): lambda row: row["rejected"][0]["content"] == "Good morning.",
    ("argilla-openorca", "value_null"): lambda row: row["input"] is None,
    ("argilla-openorca", "rating_null"): lambda row: row["rating"] is None,
    ("argilla-openorca", "rating_empty"): lambda row: row["rating"] == [],
    ("argilla-openorca", "three_ratings"): lambda row: len(row["rating"] or ()) == 3,
    ("argilla-openorca", "rating_out_of_range"): lambda row: 11 in (row["rating"] or ()),
    ("argilla-openorca", "tied_ratings"): lambda row: row["status"] == "tie" and len(set(row["generations"])) == 2,
    ("argilla-openorca", "swapped"): lambda row: row["status"] == "swapped" and row["original_chosen"] != row["chosen"],
    ("argilla-openorca", "system_empty"): lambda row: row["system"] == "",
    ("argilla-openorca", "system_null"): lambda row: row["system"] is None,
    ("argilla-openorca", "in_gsm8k_train"): lambda row: row["in_gsm8k_train"],
    ("argilla-openorca", "same_generation"): lambda row: len(set(row["generations"])) == 1,
    ("argilla-openorca", "empty_answer"): lambda row: "" in row["generations"],
    ("argilla-math", "value_null"): lambda row: row["chosen_response"] is None,
    ("argilla-math", "ratings_swapped"): lambda row: row["chosen_rating"] < row["rejected_rating"],
    ("argilla-math", "tied_ratings"): lambda row: row["chosen_rating"] == row["rejected_rating"],
    ("argilla-math", "identical_pair"): lambda row: row["chosen_response"] == row["rejected_response"],
    ("argilla-math", "empty_answer"): lambda row: row["rejected_response"] == "",
    ("shp", "missing_column"): lambda row: "human_ref_A" not in row,
    ("shp", "unknown_label"): lambda row: row["labels"] == 2,
    ("shp", "label_contradicts_votes"): lambda row: (
        row["labels"] in (0, 1) and row["labels"] != (row["score_A"] > row["score_B"])
    ),
    ("shp", "identical_pair"): lambda row: row.get("human_ref_A") == row["human_ref_B"],
    ("shp", "twice_the_votes"): lambda row: (
        row["score_ratio"] == 2 and max(votes(row)) == 2 * min(votes(row)) and row["labels"] in (0, 1)
    ),
    ("shp", "empty_comment"): lambda row: row["human_ref_B"] == "",
    ("shp", "very_long_post"): lambda row: len(row["history"]) > 5000,
    ("shp", "html_entities"): lambda row: "&gt; Q &amp; A" in row.get("human_ref_A", ""),
    ("shp", "escaped_slashes"): lambda row: "https:\\/\\/" in row["history"],
    ("prm-phase-2", "labelled_again"): lambda row: row["labeler"] == "00000000",
    ("prm-phase-2", "missing_column"): lambda row: "question" not in row,
    ("prm-phase-2", "quality_control"): lambda row: row["is_quality_control_question"],
    ("prm-phase-2", "screening"): lambda row: row["is_initial_screening_question"],
    ("prm-phase-2", "bad_problem"): lambda row: row["label"]["finish_reason"] == "bad_problem",
    ("prm-phase-2", "give_up"): lambda row: row["label"]["finish_reason"] == "give_up",
    ("prm-phase-2", "unknown_finish"): lambda row: row["label"]["finish_reason"] == "coffee",
    ("prm-phase-2", "no_reference"): lambda row: asked(row, "ground_truth_solution", "") is None,
    ("prm-phase-2", "blank_reference"): lambda row: asked(row, "ground_truth_solution") == " ",
    ("prm-phase-2", "no_steps"): lambda row: asked(row, "pre_generated_steps") == [],
    ("prm-phase-2", "identical_pair"): lambda row: (
        asked(row, "pre_generated_steps") == [asked(row, "ground_truth_solution")]
    ),
    ("prm-phase-2", "flagged"): lambda row: any(one["flagged"] for step in labelled(row) for one in step),
    ("prm-phase-2", "rating_null"): lambda row: any(one["rating"] is None for step in labelled(row) for one in step),
    ("preference-test-sets", "value_null"): lambda row: row["rejected"] is None,
    ("preference-test-sets", "identical_pair"): lambda row: row["chosen"] == row["rejected"],
    ("preference-test-sets", "empty_answer"): lambda row: row["rejected"] == "",
    ("preference-test-sets", "roles_out_of_order"): lambda row: row["prompt"][-1]["role"] == "assistant",
    ("rewardbench", "value_null"): lambda row: row["rejected"] is None,
    ("rewardbench", "unknown_subset"): lambda row: row["subset"] not in SUBSETS,
    ("rewardbench", "identical_pair"): lambda row: row["chosen"] == row["rejected"],
    ("rewardbench", "empty_answer"): lambda row: row["rejected"] == "",
}
"""How a defect is recognised in a row, without asking the manifest."""


def given(row: Row) -> list[str]:
    return [annotation["rating"] for annotation in row["annotations"]]


def annotated(row: Row) -> set[str]:
    return {annotation["model"] for annotation in row["annotations"]}


def answers(row: Row) -> list[str]:
    return [response["response"] for response in row["responses"]]


def asked(row: Row, name: str, default: Any = None) -> Any:
    return row.get("question", {}).get(name, default)


def completions(row: Row) -> list[Row]:
    return list(row.get("completions", ()))


def aspects(row: Row) -> list[str]:
    return [annotation["Rating"] for one in completions(row) for annotation in one["annotations"].values()]


def ten_with(average: float, completion: Row) -> bool:
    return bool(completion["overall_score"] == 10 and completion["fine-grained_score"] == average)


@pytest.mark.parametrize(("dataset", "defect"), FOUND)
def test_defects_are_as_many_as_planted(folder: Path, manifest: SampleManifest, dataset: str, defect: str):
    rows = [row for row in all_rows(folder, manifest, dataset) if isinstance(row, dict)]
    assert sum(map(FOUND[dataset, defect], rows)) == manifest.datasets[dataset].defects[defect] > 0


@pytest.mark.parametrize("dataset", DATASETS)
def test_torn_lines_and_exact_copies_are_as_many_as_planted(folder: Path, manifest: SampleManifest, dataset: str):
    rows, planted = all_rows(folder, manifest, dataset), manifest.datasets[dataset].defects
    assert sum(isinstance(row, str) for row in rows) == planted.get("malformed_line", 0)
    assert len(rows) - len({json.dumps(row) for row in rows}) == planted["duplicate_row"]


def test_every_defect_is_planted(manifest: SampleManifest):
    for name, dataset in DATASETS.items():
        planted = manifest.datasets[name].defects
        assert planted.keys() == {defect.name for defect in all_defects(dataset, World(0, SCALE))}


@pytest.mark.parametrize(
    ("dataset", "asks"), [("shp", lambda row: row["history"]), ("prm-phase-2", lambda row: asked(row, "problem"))]
)
def test_prompts_of_the_benchmark_leak(
    folder: Path, manifest: SampleManifest, dataset: str, asks: Callable[[Row], str]
):
    benchmark = {row["prompt"] for row in clean_rows(folder, manifest, "rewardbench")}
    but_one_word = {prompt.rpartition(" ")[0] for prompt in benchmark}
    leaked, nearly = (
        [asks(row) for row in spoilt_rows(folder, manifest, dataset, defect)]
        for defect in ("leaked_prompt", "nearly_leaked_prompt")
    )
    assert {*leaked} <= benchmark
    assert not {*nearly} & benchmark
    assert {prompt.rpartition(" ")[0] for prompt in nearly} <= but_one_word


# -------------------------------------------------------------------------------------------------------- truth


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_row_has_one_outcome(manifest: SampleManifest, dataset: str):
    of = manifest.datasets[dataset]
    assert sum(of.rows.values()) == of.kept + sum(of.rejected.values()) + sum(of.dropped.values())
    assert of.kept > 0
    assert of.ratings or of.pairs


def test_every_objective_is_rated(manifest: SampleManifest):
    assert {objective for of in manifest.datasets.values() for objective in of.ratings} == set(OBJECTIVES)


@pytest.mark.parametrize("dataset", DATASETS)
def test_pairs_are_sorted_and_distinct(manifest: SampleManifest, dataset: str):
    pairs = manifest.datasets[dataset].pairs
    assert list(pairs) == sorted(pairs)
    assert len(set(pairs)) == len(pairs)
    assert all(chosen != other for chosen, other in pairs)


def test_the_written_manifest_says_the_same(folder: Path, manifest: SampleManifest):
    written = json.loads((folder / "manifest.json").read_text())["datasets"]
    for name, of in manifest.datasets.items():
        assert written[name]["pairs"] == {"count": len(of.pairs), "sha256": of.pairs_sha256}
        assert (written[name]["kept"], written[name]["rejected"]) == (of.kept, of.rejected)
        assert Counter(planted["defect"] for planted in written[name]["planted"]) == of.defects


def test_pairs_of_a_post_are_its_five_of_highest_ratio():
    rows = [post_row(n, ratio) for n, ratio in enumerate([3.0, 9.0, 4.0, 8.0, 5.0, 7.0, 6.0])]
    truth = DATASETS["shp"].truth([*rows, post_row(1, 9.0)])
    assert truth.dropped == {"duplicate_pair": 1, "beyond_pairs_per_prompt": 2}
    assert set(truth.pairs) == {comment_ids(n) for n in (1, 3, 4, 5, 6)}


def post_row(n: int, ratio: float) -> Row:
    return {"history": "Why?", "human_ref_A": f"yes {n}", "human_ref_B": f"no {n}", "labels": 1, "score_ratio": ratio}


def comment_ids(n: int) -> tuple[str, str]:
    yes, no = ((("user", "Why?"), ("assistant", f"{word} {n}")) for word in ("yes", "no"))
    return conversation_id(yes), conversation_id(no)


def test_answers_to_one_prompt_are_ranked_by_the_mean_of_helpfulness_and_correctness():
    rows = [
        {"prompt": "Why?", "response": response, "helpfulness": helpfulness, "correctness": correctness}
        for response, helpfulness, correctness in [("a", 3, 1), ("b", 2, 2), ("c", 4, 1), ("d", 0, "N/A")]
    ]
    a, b, c, d = (conversation_id((("user", "Why?"), ("assistant", response))) for response in "abcd")
    truth = DATASETS["helpsteer"].truth(rows)
    assert set(truth.pairs) == {(c, a), (c, b), (a, d), (b, d), (c, d)}
    assert truth.ratings["helpsteer-correctness"] == 3


@pytest.mark.parametrize(("defect", "n_ratings"), [("overall_score_bug", 4), ("overall_score_in_doubt", 3)])
def test_an_overall_score_of_ten_is_repaired_or_left_out(
    folder: Path, manifest: SampleManifest, defect: str, n_ratings: int
):
    for row in spoilt_rows(folder, manifest, "ultrafeedback", defect):
        assert DATASETS["ultrafeedback"].truth([row]).ratings["ultrafeedback-overall_score"] == n_ratings


# -------------------------------------------------------------------------------------------------------- world


def test_ratings_rise_with_length(seed: int):
    """The case before decorrelation: most objectives lean on verbosity."""
    (rows,) = helpsteer.files(World(seed, 0.5)).values()
    lengths = [len(row["response"]) for row in rows]
    correlations = {name: spearmanr(lengths, [row[name] for row in rows]).statistic for name in helpsteer.JUDGES}
    assert all(correlation > 0.1 for correlation in correlations.values())
    assert correlations["verbosity"] > 0.7


def test_length_does_next_to_nothing_for_a_preference(seed: int):
    rows = [row for rows in hh_rlhf.files(World(seed, 0.5)).values() for row in rows]
    longer_wins = np.mean([len(row["chosen"]) > len(row["rejected"]) for row in rows])
    assert 0.44 < longer_wins < 0.56


def test_answers_that_help_with_mischief_are_seldom_safe(seed: int):
    answers = [answer for group in groups(seed, "safety") for answer in group.answers]
    shown = np.array([[answer.shown["helpfulness"], answer.shown["safety"]] for answer in answers])
    assert np.corrcoef(shown.T)[0, 1] < -0.2


@pytest.mark.parametrize(("kind", "quality"), [("code", "correctness"), ("maths", "correctness"), ("safety", "safety")])
def test_a_preference_follows_what_the_prompt_calls_for(seed: int, kind: str, quality: str):
    rng, agree = np.random.default_rng(seed), []
    for group in groups(seed, kind):
        first, second = group.answers
        if first.shown[quality] != second.shown[quality]:
            agree.append(group.prefers(rng, first, second) == (first.shown[quality] > second.shown[quality]))
    assert np.mean(agree) > 0.9


def test_scores_of_feedback_collection_use_the_whole_scale(seed: int):
    assert all(sorted(scores) == [1, 2, 3, 4, 5] for _, scores in feedback_collection.scored_groups(World(seed, SCALE)))


RATED: Mapping[str, Callable[[Row], list[tuple[str, str, float]]]] = {
    "code-ultrafeedback": lambda row: [
        (row["preference"], one["response"], float(annotation["rating"]))
        for one in row["responses"]
        for annotation in row["annotations"]
        if annotation["model"] == one["model"]
    ],
    "argilla-capybara": lambda row: [
        ("", row[side][-1]["content"], row[f"{side}_rating"]) for side in ("chosen", "rejected")
    ],
    "argilla-openorca": lambda row: [("", *rated) for rated in zip(row["generations"], row["rating"], strict=True)],
    "argilla-math": lambda row: [
        ("", row[f"{side}_response"], row[f"{side}_rating"]) for side in ("chosen", "rejected")
    ],
}
"""Objective where there are several, text and rating."""


@pytest.mark.parametrize(
    ("dataset", "objective"),
    [
        *(("code-ultrafeedback", preference) for preference in code_ultrafeedback.JUDGES),
        *((dataset, "") for dataset in RATED if dataset.startswith("argilla")),
    ],
)
def test_ratings_can_be_read_off_the_words(dataset: str, objective: str):
    (rows,) = DATASETS[dataset].files(World(0, 1.0)).values()
    rated = [(text, rating) for row in rows for of, text, rating in RATED[dataset](row) if of == objective]
    assert len(rated) > 150
    X_ND = np.array([[1.0, len(text) / 300, *(shows(text, quality) for quality in GOOD_CLAUSES)] for text, _ in rated])
    assert held_out_r2(X_ND, np.array([rating for _, rating in rated])) > 0.3


def shows(text: str, quality: str) -> float:
    """From -1 (all clauses that speak of the quality are bad) to 1 (all are good)."""
    good, bad = (
        sum(text.lower().count(clause.lower()) for clause in bank[quality]) for bank in (GOOD_CLAUSES, BAD_CLAUSES)
    )
    return (good - bad) / max(1, good + bad)


COMPARED: Mapping[str, Callable[[Row], tuple[str, str]]] = {
    "argilla-math": lambda row: (row["chosen_response"], row["rejected_response"]),
    "prm-phase-2": lambda row: (
        row["question"]["ground_truth_solution"],
        " ".join(row["question"]["pre_generated_steps"]),
    ),
    "shp": lambda row: (
        (row["human_ref_A"], row["human_ref_B"]) if row["labels"] else (row["human_ref_B"], row["human_ref_A"])
    ),
}
"""What is preferred, and the other."""


@pytest.mark.parametrize("dataset", COMPARED)
def test_the_preferred_answer_is_mostly_the_more_correct_one(dataset: str):
    files = DATASETS[dataset].files(World(0, 1.0))
    rows = [row for file, content in files.items() if "askculinary" not in file for row in content]
    shown = [tuple(shows(text, "correctness") for text in COMPARED[dataset](row)) for row in rows]
    differ = [chosen > other for chosen, other in shown if chosen != other]
    assert np.mean(differ) > 0.9


def groups(seed: int, kind: str, n_prompts: int = 200) -> list[Group]:
    assert kind in KINDS
    return World(seed, 1.0).groups("test", n_prompts, 2, mix={kind: 1.0})


# ----------------------------------------------------------------------------------------------------- backbone


def test_the_backbone_is_the_same_for_a_seed(backbone: Path, tmp_path: Path):
    write_backbone(tmp_path, sample_texts())
    assert checksums(tmp_path) == checksums(backbone)


def test_the_backbone_loads_and_is_small(backbone: Path):
    from transformers import AutoModel, AutoTokenizer

    model, tokenizer = AutoModel.from_pretrained(backbone), AutoTokenizer.from_pretrained(backbone)
    assert model.config.max_position_embeddings == tokenizer.model_max_length == 2048
    assert model.config.vocab_size == len(tokenizer) > 1000
    assert sum(weight.numel() for weight in model.parameters()) < 1_000_000


@pytest.mark.parametrize("text", ["Zoë plans a café in 東京 🎶", "x² ≤ 12\n\tindented", "naïve — never seen ✨"])
def test_the_tokenizer_gives_every_text_back(backbone: Path, text: str):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(backbone)
    assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True) == text


def test_the_template_renders_bos_once(backbone: Path):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(backbone)
    prompt = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Why?"}]
    whole = [*prompt, {"role": "assistant", "content": "Because."}]
    assert tokenizer.chat_template == CHAT_TEMPLATE
    text = tokenizer.apply_chat_template(whole, tokenize=False)
    assert text == (
        f"{BOS}<|start_header_id|>system<|end_header_id|>\n\nBe kind.{END_OF_TURN}"
        f"<|start_header_id|>user<|end_header_id|>\n\nWhy?{END_OF_TURN}"
        f"<|start_header_id|>assistant<|end_header_id|>\n\nBecause.{END_OF_TURN}"
    )
    ids = tokenizer.apply_chat_template(whole)["input_ids"]
    assert ids == tokenizer(text, add_special_tokens=False).input_ids
    assert ids.count(tokenizer.bos_token_id) == 1
    of_prompt = tokenizer.apply_chat_template(prompt)["input_ids"]
    assert ids[: len(of_prompt)] == of_prompt
    opened = tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
    assert opened.endswith("<|start_header_id|>assistant<|end_header_id|>\n\n")


def test_the_last_token_carries_the_qualities_and_the_kind(backbone: Path):
    import torch
    from transformers import AutoModel, AutoTokenizer

    model, tokenizer = AutoModel.from_pretrained(backbone), AutoTokenizer.from_pretrained(backbone)
    asked = World(0, 1.0).groups("test", 500, 4, mix={"chat": 0.5, "code": 0.5})
    answered = [(group, answer) for group in asked for answer in group.answers]
    X_ND = np.empty((len(answered), model.config.hidden_size))
    for row, (group, answer) in enumerate(answered):
        turns = [{"role": role, "content": text} for role, text in (*group.prompt.turns, ("assistant", answer.text))]
        ids = tokenizer.apply_chat_template(turns, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            X_ND[row] = model(input_ids=ids).last_hidden_state[0, -1].numpy()
    targets = {name: [answer.shown[name] for _, answer in answered] for name in ("helpfulness", "correctness", "style")}
    targets |= {
        "length": [extra_length(answer) for _, answer in answered],
        "kind": [float(group.prompt.kind == "code") for group, _ in answered],
    }
    explained = {name: held_out_r2(X_ND, np.array(values)) for name, values in targets.items()}
    assert min(explained.values()) > 0.25, explained
    assert explained["kind"] > 0.8


def held_out_r2(X_ND: np.ndarray, y_N: np.ndarray) -> float:
    """R2 of a ridge fitted on the first four fifths."""
    fit, held_out = slice(0, len(y_N) * 4 // 5), slice(len(y_N) * 4 // 5, None)
    gram = X_ND[fit].T @ X_ND[fit] + np.eye(X_ND.shape[1])
    weights = np.linalg.solve(gram, X_ND[fit].T @ y_N[fit])
    return float(1 - np.mean((X_ND[held_out] @ weights - y_N[held_out]) ** 2) / np.var(y_N[held_out]))
