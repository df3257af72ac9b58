"""Stored rows as arrays: what stands in an evaluation dataset is left out, and counted."""

from typing import get_args

import numpy as np

from armorm.features.catalog.views import connect
from armorm.features.checks.contamination import CONTAMINATION, ContaminationSettings
from armorm.features.conversation import Split, conversation_id, prompt_id, single_turn
from armorm.features.store import Recipe, Store, Writer
from armorm.features.store.store import Made
from armorm.features.vectors.shards import Feature, slot_of, write_shard
from armorm.stages.data import load_lengths, load_pairs, load_ratings, load_responses
from tests.features.canonical import OBJECTIVE, Dataset

QUESTION = "Which river runs past more capital cities than any other one of this continent"
EDITED = QUESTION.replace("continent", "world")
OTHER = "Name a river."


def fill(writer: Writer) -> None:
    benchmark = Dataset("benchmark", split="evaluation")
    benchmark.prefer("b", "good", "bad", prompt=QUESTION)
    mine = Dataset("mine")
    for row, prompt in enumerate((QUESTION, EDITED, OTHER)):
        mine.prefer(f"p{row}", "chosen", "rejected", prompt=prompt)
        mine.rate(f"r{row}", single_turn(prompt, "chosen"), row)
    for dataset in (benchmark, mine):
        dataset.commit(writer)


def test_pairs_of_evaluation_prompts_are_marked_exactly_and_nearly(store: Store, writer: Writer) -> None:
    fill(writer)
    for threshold, n_contaminated in ((0.75, 2), (1.0, 1)):
        CONTAMINATION.ensure(writer, ContaminationSettings(threshold=threshold))
        pairs = load_pairs(store, backbone_id="none")
        assert pairs.contaminated_P.sum() == n_contaminated
        assert pairs.usable("train").sum() == 3 - n_contaminated
        assert pairs.usable("evaluation").tolist() == (pairs.datasets == "benchmark").tolist()


def test_a_row_is_for_training_or_held_out_or_has_a_prompt_of_an_evaluation_dataset(
    store: Store, writer: Writer
) -> None:
    fill(writer)
    for split in get_args(Split):
        other = Dataset(split, split=split)
        for row, prompt in enumerate((QUESTION,) if split == "evaluation" else (QUESTION, EDITED, OTHER)):
            other.prefer(f"{split}-{row}", "chosen", f"rejected {split}", prompt=prompt)
            other.rate(f"{split}-{row}", single_turn(prompt, "chosen"), row)
        other.commit(writer)
    CONTAMINATION.ensure(writer, ContaminationSettings(threshold=1.0))
    with connect(store) as catalog:
        ((shared,),) = catalog.execute("SELECT list(DISTINCT prompt_id) FROM contamination").fetchall()
        assert len(shared) == 1
        for table, of in (("ratings", "ratings"), ("preferences", "pairs")):
            rows = catalog.sql(f"FROM {table}").to_arrow_table().to_pylist()
            clean = [row for row in rows if row["split"] == "evaluation" or row["prompt_id"] not in shared]
            for use, splits in (("training", ("train", "validation")), ("held_out", ("test", "evaluation"))):
                found = catalog.sql(f"FROM {use}_{of}").to_arrow_table().to_pylist()
                assert sorted(found, key=str) == sorted((r for r in clean if r["split"] in splits), key=str)
                assert {row["split"] for row in found} == {*splits}


def test_ratings_of_evaluation_prompts_are_left_out_and_counted(store: Store, writer: Writer) -> None:
    fill(writer)
    CONTAMINATION.ensure(writer, ContaminationSettings())
    rated = load_ratings(store, [OBJECTIVE], backbone_id="none")
    assert rated.n_contaminated == 2
    assert rated.conversation_ids.tolist() == [conversation_id(single_turn(OTHER, "chosen"))]
    assert np.array_equal(rated.Y_NK, [[0.5]])
    assert rated.keys.rows() == [("mine", "r2", *rated.conversation_ids, OBJECTIVE, "train")]


def test_each_array_comes_with_the_keys_of_its_rows(store: Store, writer: Writer) -> None:
    """One answer that two native rows rate is one response, and both rows are named."""
    mine = Dataset("mine")
    for row in ("r1", "r2"):
        mine.rate(row, single_turn(OTHER, "chosen"), 3)
        mine.prefer(f"p-{row}", "chosen", row)
    mine.commit(writer)
    responses, pairs = load_responses(store, "mine", backbone_id="none"), load_pairs(store, backbone_id="none")
    id = conversation_id(single_turn(OTHER, "chosen"))
    assert responses.conversation_ids.tolist() == [id]
    assert sorted(responses.keys.rows()) == [("mine", "r1", id), ("mine", "r2", id)]
    second = pairs.keys(pairs.source_rows == "p-r2")
    assert second.rows() == [("mine", "p-r2", pairs.pair_ids[pairs.source_rows == "p-r2"][0], "train")]
    assert pairs.keys(pairs.usable("test")).columns == second.columns


def test_what_the_backbone_rejects_is_left_out_and_counted(store: Store, writer: Writer) -> None:
    mine = Dataset("mine")
    for row, prompt in enumerate(("one?", "two?", "three?", "four?")):
        mine.prefer(f"p{row}", "chosen", "rejected", prompt=prompt)
        mine.rate(f"r{row}", single_turn(prompt, "chosen"), row)
    lost = [
        ("conversation", conversation_id(single_turn("one?", "chosen"))),
        ("conversation", conversation_id(single_turn("two?", "rejected"))),
        ("prompt", prompt_id(single_turn("three?", "chosen"))),
    ]
    cells = {"dataset": "backbone/b", "reason": "not_finite", "detail": "", "raw": ""}
    mine.rejects += [cells | {"scope": kind, "source_row": id} for kind, id in lost]
    mine.commit(writer)

    rated, pairs = load_ratings(store, [OBJECTIVE], backbone_id="b"), load_pairs(store, backbone_id="b")
    assert (len(rated.conversation_ids), rated.n_rejected) == (3, 1)
    assert lost[0][1] not in rated.conversation_ids
    assert (pairs.prompt_ids.tolist(), pairs.n_rejected) == ([prompt_id(single_turn("four?", ""))], 3)
    responses = load_responses(store, "mine", backbone_id="b")
    assert len(responses.conversation_ids) == len(responses.keys) == 3
    assert load_pairs(store, backbone_id="another").n_rejected == 0


def test_the_length_of_an_answer_is_what_it_adds_to_its_prompt(store: Store, writer: Writer) -> None:
    """Where the prompt has no vector, it has no count."""
    mine = Dataset("mine")
    texts = [single_turn(prompt, answer) for prompt, answer in (("one?", "long"), ("one?", "short"), ("two?", "other"))]
    for row, messages in enumerate(texts):
        mine.rate(f"r{row}", messages, row)
    mine.commit(writer)
    counts = [("conversation", conversation_id(of), n) for of, n in zip(texts, (90, 12, 30), strict=True)]
    counts.append(("prompt", prompt_id(texts[0]), 10))
    features = [Feature(kind, id, n, False, np.ones(2, np.float32)) for kind, id, n in counts]  # type: ignore[arg-type]
    objects = write_shard(store, "b", {}, features)
    writer.commit(Recipe("backbone/b", "backbone", 1, {}, {}), Made({}, {"hidden_size": 2}))
    writer.commit(Recipe(slot_of("b", objects["shard"]), "embed", 1, {}, {}), Made(objects))
    asked = np.array([conversation_id(texts[n]) for n in (1, 2, 0)], object)
    prompts, n_tokens_N = load_lengths(store, asked, backbone_id="b")
    assert prompts.tolist() == [prompt_id(texts[n]) for n in (1, 2, 0)]
    np.testing.assert_array_equal(n_tokens_N, [2, np.nan, 80])
