"""The promotion gate: better, worse, equal, first, stopped by a check, gone, trained on, of another backbone."""

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from armorm.config import GateConfig, PromotionConfig
from armorm.features.catalog.notebook import Connection
from armorm.features.checks.quality import QUALITY
from armorm.features.conversation import conversation_id, prompt_id, single_turn
from armorm.features.documents import decode, encode
from armorm.features.store import Artifact, Made, Recipe, Store, Writer, pointers
from armorm.features.store.artifacts import why_stale
from armorm.features.vectors.shards import Feature, Kind, slot_of, write_shard
from armorm.maths.gate import Gate
from armorm.maths.metrics import Interval
from armorm.maths.paired import PairedTest
from armorm.model.head import RewardHead
from armorm.records.promotion import NoTest, Verdict
from armorm.stages import promote as stage
from armorm.stages.promote import PROMOTE, Promotion, decide
from tests.features.canonical import Dataset

pytestmark = pytest.mark.usefixtures("in_process")

ONE, OTHER = "a" * 32, "b" * 32
"""Backbones."""

N = 40
"""Held-out pairs, each of a prompt of its own."""

CONFIG = PromotionConfig()


def outcome(only_present: int, only_new: int, p_value: float) -> PairedTest:
    estimate = (only_new - only_present) / 100
    return PairedTest(100, Interval(estimate, estimate, estimate), only_present, only_new, p_value)


@pytest.mark.parametrize(
    ("found", "stopping", "promoted", "told"),
    [
        (outcome(1, 12, 0.003), {}, True, ["11.00 % more", " 100 ", "(12 ", "p = 0.003"]),
        (outcome(5, 9, 0.42), {}, False, ["p = 0.42", " 0.05"]),
        (outcome(12, 1, 0.003), {}, False, ["11.00 % fewer", "p = 0.003"]),
        (outcome(0, 0, 1.0), {}, False, ["0.00 % more"]),
        (outcome(1, 12, 0.003), {"split_leaks": 3, "role_order": 0}, False, ["split_leaks (3)"]),
        ("first", {}, True, ["promoted"]),
        ("gone", {}, True, ["ffffffffffff"]),
        ("gone", {"split_leaks": 1}, False, ["split_leaks (1)"]),
        ("no_pairs", {}, False, ["unpromoted"]),
        ("no_vectors", {}, False, ["ffffffffffff"]),
    ],
)
def test_a_new_model_has_to_be_better_by_more_than_chance_on_sound_data(
    found: PairedTest | NoTest, stopping: dict[str, int], promoted: bool, told: list[str]
) -> None:
    verdict = replace(decide(found, CONFIG, stopping=stopping), model="a" * 32, present="f" * 32)
    assert verdict.promoted is promoted
    assert verdict.stopping == {name: n for name, n in stopping.items() if n}
    assert decode(Verdict, json.loads(json.dumps(encode(verdict)))) == verdict, "the facts are all that is kept"
    assert all(figure in verdict.line for figure in told)


def test_the_bound_is_a_setting() -> None:
    found = outcome(5, 9, 0.42)
    assert decide(found, PromotionConfig(significance=0.5), stopping={}).promoted
    with pytest.raises(ValueError, match=r"\bsignificance\b.*\b0\b.*\b1\b"):
        PromotionConfig(significance=0)


def sides(number: int) -> tuple[str, str]:
    return tuple(conversation_id(single_turn(f"question {number}", answer)) for answer in ("good", "bad"))  # type: ignore[return-value]


def dataset(writer: Writer, *, split: str = "test", turned: bool = False) -> None:
    """Pairs of two answers to a question each."""
    of = Dataset("mine", split=split)
    for number in range(N):
        of.prefer(f"row {number}", "good", "bad", prompt=f"question {number}")
    if turned:
        of.prefer("same", "good", "good", prompt="question 0")  # what the check `identical_pairs` stops
    of.commit(writer)


def embed(writer: Writer, backbone_id: str, numbers: Sequence[int]) -> None:
    """Vectors of which the first number ranks every pair rightly, the second the even ones, the third the first 20."""
    features = []
    for number in numbers:
        signs = np.array([1.0, 1 if number % 2 == 0 else -1, 1 if number < 20 else -1], np.float32)
        named: list[tuple[Kind, str, np.ndarray]] = [
            ("conversation", sides(number)[0], signs),
            ("conversation", sides(number)[1], -signs),
            ("prompt", prompt_id(single_turn(f"question {number}", "")), np.ones(3, np.float32)),
        ]
        features += [Feature(kind, id, 1, False, vector) for kind, id, vector in named]
    objects = write_shard(writer.store, backbone_id, {}, features)
    summary = {"hidden_size": 3, "name": backbone_id, "architecture": "llama"}
    writer.commit(Recipe(f"backbone/{backbone_id}", "backbone", 1, {"id": backbone_id}, {}), Made({}, summary))
    made = Made(objects, {"rows": len(features), "tokens": 1, "width": 3})
    writer.commit(Recipe(slot_of(backbone_id, objects["shard"]), "embed", 1, {}, {}), made)


def train(writer: Writer, *weights: float, backbone_id: str = ONE) -> Artifact:
    """A model that was given its weights, with an evaluation, as the stages leave them."""
    config = GateConfig(hidden_dim=2, n_hidden=1)
    made = RewardHead(
        objectives=("helpsteer-helpfulness",),
        untrained={},
        W_KD=np.array([weights], np.float32),
        transform_KK=np.eye(1),
        gate_state={name: value.detach().numpy() for name, value in Gate(3, 1, config).state_dict().items()},
        gate_config=config,
        beta=1.0,
        nuisance="helpsteer-helpfulness",
        backbone_id=backbone_id,
        backbone={},
        scales={},
        metrics={},
        inputs={},
    )
    put = writer.store.objects.put_bytes
    tensors, description = made.to_bytes()
    objects = {"tensors": put("safetensors", tensors), "description": put("json", description)}
    model = writer.commit(
        Recipe("model", "model", 1, {}, {"weights": str(weights)}), Made(objects, {"line": "a model"})
    )
    record = {"record": put("json", f'"{model.artifact_id}"'.encode())}
    writer.commit(
        Recipe("evaluate", "evaluate", 1, {}, {"model": model.artifact_id}), Made(record, {"line": "evaluated"})
    )
    return model


ALWAYS, EVENS, FIRST_HALF, NEVER = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (-1.0, 0.0, 0.0)


@pytest.fixture
def world(writer: Writer) -> Writer:
    dataset(writer)
    embed(writer, ONE, range(N))
    return writer


def promote(writer: Writer) -> Promotion:
    return stage.promote(writer, CONFIG, {})


def present(store: Store) -> str | None:
    return pointers.promoted(store, "model")


def test_the_first_model_is_promoted_and_one_commit_says_all(world: Writer, store: Store) -> None:
    model = train(world, *EVENS)
    QUALITY.ensure(world, {})
    number = store.head().number
    found = promote(world)
    assert (found.verdict.promoted, found.verdict.found) == (True, "first")
    assert found.verdict.model == model.artifact_id
    artifact = store.head().artifacts["promote"]
    assert found.reason == why_stale(artifact.recipe, None)
    assert "line" not in artifact.summary
    assert found.line == PROMOTE.line(store, artifact)
    assert store.head().number == number + 1
    assert {name: pointer.number for name, pointer in store.head().pointers.items()} == {
        "model": number,
        "prod": number,
    }
    with_tag = Connection(store, store.snapshot("prod"), None)
    with with_tag:
        assert with_tag.snapshot.artifacts["model"].artifact_id == present(store) == model.artifact_id
    again = promote(world)
    assert (again.verdict.promoted, again.reason) == (True, None)
    assert again.verdict.found == "same"
    assert store.head().number == number + 1, "nothing was committed"


def test_a_better_model_takes_its_place(world: Writer, store: Store) -> None:
    first = train(world, *EVENS)
    promote(world)
    better = train(world, *ALWAYS)
    found = promote(world)
    assert found.verdict.promoted
    assert found.verdict.present == first.artifact_id
    assert found.verdict.found.difference.estimate == pytest.approx(0.5)
    assert (found.verdict.found.n, found.verdict.found.only_first) == (N, 0)
    assert found.verdict.found.p_value == pytest.approx(2 ** (1 - N / 2))
    assert present(store) == better.artifact_id
    assert store.snapshot("prod").artifacts["model"] == better


@pytest.mark.parametrize(("weights", "difference"), [(NEVER, -0.5), (FIRST_HALF, 0.0)])
def test_one_that_is_worse_or_as_good_is_kept_unpromoted_and_not_tested_again(
    world: Writer, store: Store, monkeypatch: pytest.MonkeyPatch, weights: tuple[float, ...], difference: float
) -> None:
    first = train(world, *EVENS)
    promote(world)
    prod = store.snapshot("prod").number
    model = train(world, *weights)
    found = promote(world)
    assert not found.verdict.promoted
    assert found.verdict.found.difference.estimate == pytest.approx(difference)
    assert (present(store), store.snapshot("prod").number) == (first.artifact_id, prod)
    number = store.head().number
    monkeypatch.setattr(stage, "_test", None)
    again = promote(world)
    assert (again.verdict.promoted, again.reason, again.line) == (False, None, found.line)
    assert store.head().number == number
    assert store.find("model").artifact_id == model.artifact_id, "it is there for whoever asks for it by name"


def test_a_check_that_stops_keeps_the_present_one(world: Writer, store: Store) -> None:
    first = train(world, *NEVER)
    promote(world)
    dataset(world, turned=True)
    train(world, *ALWAYS)
    found = promote(world)
    assert not found.verdict.promoted
    assert found.verdict.stopping == {"identical_pairs": 1}
    assert present(store) == first.artifact_id
    allowed = stage.promote(world, CONFIG, {"identical_pairs": "warn"})
    assert allowed.verdict.promoted
    assert allowed.reason is not None


def test_a_promoted_model_that_is_gone_stands_in_nobodys_way(world: Writer, store: Store) -> None:
    model = train(world, *NEVER)
    world.point("model", pointers.Pointer("model", "f" * 32, 1, "2026-01-01T00:00:00+00:00"))
    found = promote(world)
    assert found.verdict.promoted
    assert (found.verdict.found, found.verdict.present) == ("gone", "f" * 32)
    assert present(store) == model.artifact_id


def test_what_was_taken_back_is_not_promoted_again_by_the_same_test(world: Writer, store: Store) -> None:
    first = train(world, *NEVER)
    promote(world)
    train(world, *ALWAYS)
    assert promote(world).verdict.promoted
    pointers.rollback(world, "model")
    found = promote(world)
    assert (found.verdict.promoted, found.reason, present(store)) == (False, None, first.artifact_id)
    assert found.verdict.found == "taken_back"


def test_pairs_that_one_of_them_was_trained_on_do_not_count(world: Writer, store: Store) -> None:
    """The present model comes from a time in which these prompts were in training."""
    dataset(world, split="train")
    train(world, *NEVER)
    promote(world)
    dataset(world)
    train(world, *ALWAYS)
    found = promote(world)
    assert not found.verdict.promoted
    assert found.verdict.found == "no_pairs"


def test_of_another_backbone_it_is_tested_where_both_have_vectors(world: Writer, store: Store) -> None:
    train(world, *NEVER)
    promote(world)
    embed(world, OTHER, range(10, 30))
    train(world, *ALWAYS, backbone_id=OTHER)
    found = promote(world)
    assert (found.verdict.promoted, found.verdict.found.n) == (True, 20)


def test_of_another_backbone_without_vectors_it_is_kept(world: Writer, store: Store) -> None:
    first = train(world, *NEVER)
    promote(world)
    shards = [slot for slot in store.head().artifacts if slot.startswith(f"features/{ONE}/")]
    world.commit_all([], remove=shards)
    embed(world, OTHER, range(N))
    train(world, *ALWAYS, backbone_id=OTHER)
    found = promote(world)
    assert (found.verdict.promoted, present(store)) == (False, first.artifact_id)
    assert found.verdict.found == "no_vectors"


def test_a_decision_of_an_older_store_is_shown_as_it_stands(world: Writer, store: Store) -> None:
    """It keeps a sentence and whether the model was promoted, and is not decided again."""
    model = train(world, *EVENS)
    promote(world)
    done = store.head().artifacts["promote"]
    said = {"line": "model x promoted: it was the first", "promoted": True}
    world.commit_all([], remove=["promote"])
    world.commit(done.recipe, Made(done.objects, said))
    world.point("model", None)
    assert PROMOTE.line(store, store.head().artifacts["promote"]) == said["line"]
    found = promote(world)
    assert (found.reason, found.verdict.found, found.verdict.model) == (None, "taken_back", model.artifact_id)
