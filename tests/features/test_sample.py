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

from features.sample import DATASETS, SampleManifest, sample_texts, write_backbone, write_sample
from features.sample.backbone import BOS, CHAT_TEMPLATE, END_OF_TURN
from features.sample.native import feedback_collection, helpsteer, hh_rlhf
from features.sample.native.beavertails import CATEGORIES
from features.sample.native.rewardbench import SUBSETS
from features.sample.words import KINDS
from features.sample.world import Group, World, extra_length

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
    if path.suffix == ".json":
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


# ------------------------------------------------------------------------------------------------- determinism


def test_a_seed_gives_the_same_bytes_whatever_the_hash_seed(folder: Path, manifest: SampleManifest, tmp_path: Path):
    code = f"from pathlib import Path; from features.sample import write_sample; write_sample(Path('.'), scale={SCALE})"
    environment = {"PYTHONHASHSEED": "7", "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
    assert checksums(tmp_path) == checksums(folder)


def test_another_seed_gives_other_files(folder: Path, manifest: SampleManifest, tmp_path: Path):
    write_sample(tmp_path, seed=1, scale=SCALE)
    ours, others = checksums(folder), checksums(tmp_path)
    assert ours.keys() == others.keys()
    assert not set(ours.values()) & set(others.values())


def test_no_model_library_is_loaded():
    code = "import sys, features.sample; print({'torch', 'transformers', 'tokenizers'} & set(sys.modules))"
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
}


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
    ("ultrafeedback", "rating_not_applicable"): lambda row: "N/A" in aspects(row),
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
    ("rewardbench", "value_null"): lambda row: row["rejected"] is None,
    ("rewardbench", "unknown_subset"): lambda row: row["subset"] not in SUBSETS,
    ("rewardbench", "identical_pair"): lambda row: row["chosen"] == row["rejected"],
    ("rewardbench", "empty_answer"): lambda row: row["rejected"] == "",
}
"""How a defect is recognised in a row, without asking the manifest."""


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
        assert manifest.datasets[name].defects.keys() == {defect.name for defect in dataset.defects}


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
    """Of a ridge fitted on the first four fifths."""
    fit, held_out = slice(0, len(y_N) * 4 // 5), slice(len(y_N) * 4 // 5, None)
    gram = X_ND[fit].T @ X_ND[fit] + np.eye(X_ND.shape[1])
    weights = np.linalg.solve(gram, X_ND[fit].T @ y_N[fit])
    return float(1 - np.mean((X_ND[held_out] @ weights - y_N[held_out]) ** 2) / np.var(y_N[held_out]))
