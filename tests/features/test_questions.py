"""Each question, against an answer that is worked out here from the rows that were put in; what is not asked well."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from armorm.features.catalog.query import query
from armorm.features.catalog.questions import QUESTIONS, ask, list_questions
from armorm.features.conversation import Conversation, single_turn
from armorm.features.embedding.embed import EmbedSettings, embed_missing
from armorm.features.embedding.fingerprint import BackboneSettings
from armorm.features.errors import InputError
from armorm.features.store import Made, Recipe, Store, Writer, content_id, pointers
from armorm.features.tables import make_table, write_parquet
from armorm.maths.evaluation import length_bins
from tests.features import tiny
from tests.features.canonical import OBJECTIVE, Dataset

pytestmark = pytest.mark.usefixtures("in_process")

NAMES = sorted(path.stem for path in QUESTIONS.glob("*.sql"))

COHERENCE = "helpsteer-coherence"
OVERALL = "argilla-overall_quality"

MAX_TOKENS = 80
"""The limit of the backbone: some of the conversations are longer."""

Row = dict[str, Any]
Groups = dict[tuple[Any, ...], list[Row]]


@dataclass
class World:
    """A store and the rows that were put into it."""

    store: Store
    datasets: list[Dataset]
    predictions: list[Row] = field(default_factory=list)
    scores: list[Row] = field(default_factory=list)
    coefficients: list[Row] = field(default_factory=list)
    contamination: list[Row] = field(default_factory=list)
    near_prompts: list[Row] = field(default_factory=list)

    @property
    def ratings(self) -> list[Row]:
        return [row for dataset in self.datasets for row in dataset.ratings]

    @property
    def pairs(self) -> list[Row]:
        return [row for dataset in self.datasets for row in dataset.preferences]

    @property
    def conversations(self) -> dict[str, Row]:
        return {id: row for dataset in self.datasets for id, row in dataset.conversations.items()}

    @property
    def usable_scores(self) -> list[Row]:
        """Scored pairs with all that is known of them, without contaminated ones."""
        pairs = {pair["pair_id"]: pair for pair in self.pairs}
        return self.usable([score | pairs[score["pair_id"]] for score in self.scores])

    def usable(self, rows: list[Row]) -> list[Row]:
        """Rows without contaminated ones."""
        bad = {row["prompt_id"] for row in self.contamination}
        return [row for row in rows if row["split"] == "evaluation" or row["prompt_id"] not in bad]

    def held(self, dataset: Dataset) -> set[str]:
        return set(dataset.conversations)

    def ask(self, name: str, **parameters: object) -> list[Row]:
        return ask(self.store, name, **parameters).records


def by(rows: Iterable[Row], *names: str) -> Groups:
    groups: Groups = defaultdict(list)
    for row in rows:
        groups[tuple(row[name] for name in names)].append(row)
    return dict(groups)


def keyed(rows: Iterable[Row], *names: str) -> dict[tuple[Any, ...], Row]:
    """Rows by their key, which has to be one."""
    groups = by(rows, *names)
    assert all(len(group) == 1 for group in groups.values())
    return {key: group[0] for key, group in groups.items()}


def column(rows: Iterable[Row], name: str) -> list[Any]:
    return [row[name] for row in rows]


def correlation(x: Iterable[float], y: Iterable[float]) -> float:
    return float(np.corrcoef(list(x), list(y))[0, 1])


def turns(prompt: int, answer: int) -> Conversation:
    return single_turn(f"Question {prompt}?", f"Answer {answer}." + " more" * (answer * prompt % 23))


def make_datasets(rng: np.random.Generator) -> list[Dataset]:
    """Ratings in two datasets that share conversations and prompts, pairs over the same answers, and a benchmark."""
    first, second, paired, bench = (
        Dataset("first", licence="MIT", kept=200),
        Dataset("second", licence="CC-BY", kept=100),
        Dataset("paired", licence="MIT", kept=60),
        Dataset("bench", "evaluation", licence="ODC-BY", kept=8),
    )

    def split(prompt: int) -> str:
        return "test" if prompt % 3 == 0 else "train"

    for prompt in range(15):
        for answer in range(4):
            for row in range(1 + (answer == 2)):  # one answer is rated twice
                source_row = f"f{prompt}.{answer}.{row}"
                for objective in (OBJECTIVE, COHERENCE):
                    raw = int(rng.integers(5))
                    cells: Row = {"objective": objective, "split": split(prompt)}
                    first.rate(source_row, turns(prompt, answer), raw, **cells)
            if prompt >= 10:
                raw = int(rng.integers(5))
                second.rate(f"s{prompt}.{answer}", turns(prompt, answer), raw, objective=OVERALL, split=split(prompt))
        for answer in range(3):
            chosen, rejected = turns(prompt, answer), turns(prompt, (answer + 1) % 4)
            if prompt < 3:
                chosen, rejected = rejected, chosen
            add_pair(paired, f"p{prompt}.{answer}", chosen, rejected, split=split(prompt))
    for number in range(8):
        add_pair(bench, f"b{number}", turns(40 + number, 1), turns(40 + number, 2), subset=f"kind {number % 2}")
    first.reject("x1", "other")
    first.reject("x2", "other")
    first.rejects.append(first.rejects[-1] | {"scope": "part", "reason": "off_scale", "source_row": "f0.0.0"})
    second.reject("x1", "other")
    return [first, second, paired, bench]


def add_pair(dataset: Dataset, row: str, chosen: Conversation, rejected: Conversation, **cells: Any) -> None:
    (question, (_, better)), (_, worse) = (chosen[0], chosen[-1]), rejected[-1]
    dataset.prefer(row, better, worse, prompt=question[1], **cells)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Ingested, embedded, with a model that predicts and scores at random, and one training prompt contaminated."""
    folder = tmp_path_factory.mktemp("world")
    rng = np.random.default_rng(0)
    world = World(Store(folder / "store"), make_datasets(rng))
    with world.store.writing("test") as writer:
        for dataset in world.datasets:
            dataset.commit(writer)
        backbone = BackboneSettings(str(tiny.write_backbone(folder / "backbone")), max_tokens=MAX_TOKENS)
        embed_missing(writer, backbone, EmbedSettings(shard_conversations=32))
        make_model(world, rng)
        commit(writer, "contamination", {"contamination": world.contamination})
        for stage in ("regress", "gate"):
            commit(writer, stage, {}, inputs=writer.store.head().ids_within("ingest"))
        parts = {stage: world.store.find(stage).artifact_id for stage in ("regress", "gate")}
        commit(writer, "model", {}, inputs=parts)
        tables = {
            "predictions": world.predictions,
            "pair_scores": world.scores,
            "gate_coefficients": world.coefficients,
            "near_prompts": world.near_prompts,
        }
        commit(writer, "evaluate", tables, inputs=writer.store.head().ids_within("ingest"))
    return world


def make_model(world: World, rng: np.random.Generator) -> None:
    for conversation_id, objective in by(world.ratings, "conversation_id", "objective"):
        predicted = float(rng.random())
        world.predictions.append(
            {"model": "m", "conversation_id": conversation_id, "objective": objective, "predicted": predicted}
        )
    for pair in world.pairs:
        chosen, rejected = map(float, rng.random(2))
        world.scores.append(
            {"model": "m", "pair_id": pair["pair_id"], "score_chosen": chosen, "score_rejected": rejected}
            | {"correct": chosen > rejected}
        )
    for prompt_id in sorted({pair["prompt_id"] for pair in world.pairs if pair["split"] != "train"}):
        for objective, weight in zip((OBJECTIVE, COHERENCE, OVERALL), rng.dirichlet(np.ones(3)), strict=True):
            # as they are stored, in float32
            cells = {"weight": float(np.float32(weight)), "coefficient": float(np.float32(weight - 0.1))}
            world.coefficients.append({"model": "m", "prompt_id": prompt_id, "objective": objective} | cells)
    bench = world.datasets[-1].preferences[0]["prompt_id"]
    for prompt, similarity in ((12, 0.8), (9, 0.9), (4, 1.0)):
        (id,) = {r["prompt_id"] for r in world.ratings if r["source_row"] == f"f{prompt}.0.0"}
        world.contamination.append(
            {"prompt_id": id, "evaluation_prompt_id": bench, "evaluation_dataset": "bench", "similarity": similarity}
        )
    trained = sorted({pair["prompt_id"] for pair in world.pairs if pair["split"] == "train"})
    for number, prompt in enumerate(sorted({pair["prompt_id"] for pair in world.datasets[-1].preferences})):
        cells = {"evaluation_prompt_id": prompt, "evaluation_dataset": "bench", "cosine": float(rng.random())}
        world.near_prompts.append({"prompt_id": trained[number]} | cells)


def commit(writer: Writer, stage: str, tables: dict[str, list[Row]], inputs: dict[str, str] | None = None) -> None:
    put = writer.store.objects.put
    objects = {n: put("parquet", partial(write_parquet, table=make_table(n, rows))) for n, rows in tables.items()}
    objects["record"] = writer.store.objects.put_bytes("json", content_id([stage, inputs]).encode())
    writer.commit(Recipe(stage, stage, 1, {}, inputs or {}), Made(objects))


ANSWERS: dict[str, Callable[[World], None]] = {}
"""Question -> the test of its answer."""


def answers(name: str) -> Callable[[Callable[[World], None]], Callable[[World], None]]:
    def registered(test: Callable[[World], None]) -> Callable[[World], None]:
        ANSWERS[name] = test
        return test

    return registered


@answers("coverage")
def coverage(world: World) -> None:
    rows = keyed(world.ask("coverage"), "objective", "dataset")
    rated = by(world.ratings, "objective", "dataset")
    assert {key for key, row in rows.items() if row["ratings"]} == set(rated)
    assert rows["code-style", None]["ratings"] == 0
    for key, ratings in rated.items():
        splits = column(ratings, "split")
        expected = {"ratings": len(ratings), "train": splits.count("train"), "test": splits.count("test")}
        assert rows[key].items() >= expected.items()
        assert rows[key]["mean"] == pytest.approx(np.mean(column(ratings, "raw")))
        assert (rows[key]["lo"], rows[key]["hi"], rows[key]["validation"]) == (0, 4, 0)


@answers("rating_histogram")
def rating_histogram(world: World) -> None:
    rows = world.ask("rating_histogram", objective="helpsteer-*")
    rated = by((r for r in world.ratings if r["dataset"] == "first"), "objective")
    for (objective,), ratings in rated.items():
        here = [row for row in rows if row["objective"] == objective]
        raws = column(ratings, "raw")
        assert [(r["tenth"], r["lowest"], r["highest"], r["ratings"]) for r in here] == [
            (2 * raw + 1, raw, raw, raws.count(raw)) for raw in sorted(set(raws))
        ]
        assert column(here, "share") == pytest.approx([raws.count(raw) / len(raws) for raw in sorted(set(raws))])
    assert {row["objective"] for row in rows} == {OBJECTIVE, COHERENCE}


@answers("disagreement")
def disagreement(world: World) -> None:
    for pattern, names in (("*", {OBJECTIVE, COHERENCE, OVERALL}), ("*helpfulness", {OBJECTIVE})):
        rated = by((r for r in world.ratings if r["objective"] in names), "conversation_id")
        spread = {id: max(column(of, "value")) - min(column(of, "value")) for (id,), of in rated.items()}
        expected = sorted((-round(wide, 9), id) for id, wide in spread.items() if wide)[:7]
        rows = world.ask("disagreement", objective=pattern, n=7)
        assert [(-round(row["spread"], 9), row["conversation_id"]) for row in rows] == expected
        for row in rows:
            ratings = rated[(row["conversation_id"],)]
            assert row["ratings"] == len(ratings)
            for end in ("lowest", "highest"):
                found = (row[end], *(row[f"{end}_{name}"] for name in ("objective", "dataset", "source_row")))
                assert found in [(r["value"], r["objective"], r["dataset"], r["source_row"]) for r in ratings]
            assert row["highest"] - row["lowest"] == pytest.approx(row["spread"])


def comparisons(world: World) -> Iterator[tuple[Row, Row, Row]]:
    """Each pair with two ratings, of its sides, by one objective of one dataset."""
    rated = by(world.ratings, "conversation_id")
    for pair in world.pairs:
        for chosen in rated.get((pair["chosen_id"],), []):
            for rejected in rated.get((pair["rejected_id"],), []):
                if all(chosen[name] == rejected[name] for name in ("objective", "dataset")):
                    yield pair, chosen, rejected


@answers("contradicted_pairs")
def contradicted_pairs(world: World) -> None:
    expected = sorted(
        (
            *(chosen["value"] - rejected["value"], pair["pair_id"], chosen["objective"], chosen["dataset"]),
            *(chosen["source_row"], rejected["source_row"], chosen["raw"], rejected["raw"]),
        )
        for pair, chosen, rejected in comparisons(world)
        if chosen["value"] < rejected["value"]
    )
    names = ("pair_id", "objective", "rated_in", "chosen_row", "rejected_row", "chosen_raw", "rejected_raw")
    rows = world.ask("contradicted_pairs", n=10_000)
    assert [(-row["apart"], *(row[name] for name in names)) for row in rows] == expected
    assert len(rows) > 20 == len(world.ask("contradicted_pairs"))
    assert {row["objective"] for row in world.ask("contradicted_pairs", objective="argilla-*")} == {OVERALL}


@answers("agreement")
def agreement(world: World) -> None:
    differences = defaultdict(list)
    for pair, chosen, rejected in comparisons(world):
        key = (pair["dataset"], chosen["objective"], chosen["dataset"])
        differences[key].append(chosen["value"] - rejected["value"])
    rows = keyed(world.ask("agreement"), "dataset", "objective", "rated_in")
    assert set(rows) == set(differences)
    for key, apart in differences.items():
        decided = [one for one in apart if one]
        assert (rows[key]["comparisons"], rows[key]["ties"]) == (len(apart), len(apart) - len(decided))
        assert rows[key]["agreement"] == pytest.approx(np.mean(np.array(decided) > 0))
        assert rows[key]["mean_difference"] == pytest.approx(np.mean(apart))


@answers("shared_prompts")
def shared_prompts(world: World) -> None:
    datasets, answers = defaultdict(set), defaultdict(set)
    for dataset in world.datasets:
        for id, row in dataset.conversations.items():
            datasets[row["prompt_id"]].add(dataset.name)
            answers[row["prompt_id"]].add(id)
    shared = sorted((-len(names), id) for id, names in datasets.items() if len(names) > 1)
    rows = world.ask("shared_prompts", n=12)
    assert [(-row["n_datasets"], row["prompt_id"]) for row in rows] == shared[:12]
    questions = {row["prompt_id"]: row["messages"][0]["content"] for row in world.conversations.values()}
    for row in rows:
        id = row["prompt_id"]
        assert (row["datasets"], row["answers"]) == (sorted(datasets[id]), len(answers[id]))
        assert row["question"] == questions[id]


@answers("duplicates")
def duplicates(world: World) -> None:
    held = {dataset.name: world.held(dataset) for dataset in world.datasets}
    prompts = {d.name: {row["prompt_id"] for row in d.conversations.values()} for d in world.datasets}
    rows = keyed(world.ask("duplicates"), "dataset", "other")
    pairs = [pair for pair in combinations(sorted(held), 2) if held[pair[0]] & held[pair[1]]]
    assert set(rows) == set(pairs) == {("first", "paired"), ("first", "second"), ("paired", "second")}
    for mine, theirs in pairs:
        n, row = len(held[mine] & held[theirs]), rows[mine, theirs]
        assert (row["conversations"], row["prompts"]) == (n, len(prompts[mine] & prompts[theirs]))
        assert (row["share_of_dataset"], row["share_of_other"]) == (n / len(held[mine]), n / len(held[theirs]))


@answers("contaminated")
def contaminated(world: World) -> None:
    bad = {row["prompt_id"]: row["similarity"] for row in world.contamination}
    rows = keyed(world.ask("contaminated"), "dataset", "evaluation_dataset")
    assert set(rows) == {("first", "bench"), ("second", "bench"), ("paired", "bench")}
    for dataset in world.datasets[:3]:
        row = rows[dataset.name, "bench"]
        prompts = {of["prompt_id"] for of in dataset.conversations.values()} & set(bad)
        assert (row["prompts"], row["exact"]) == (len(prompts), 0)
        assert row["least_similarity"] == min(bad[id] for id in prompts)
        assert row["ratings"] == sum(rating["prompt_id"] in bad for rating in dataset.ratings)
        assert row["pairs"] == sum(pair["prompt_id"] in bad for pair in dataset.preferences)


@answers("rejects_by_reason")
def rejects_by_reason(world: World) -> None:
    rows = keyed(world.ask("rejects_by_reason"), "dataset", "scope", "reason")
    assert {key: (row["rejects"], row["share_of_rows"]) for key, row in rows.items()} == {
        ("first", "row", "other"): (2, 2 / 202),
        ("first", "part", "off_scale"): (1, 1 / 202),
        ("second", "row", "other"): (1, 1 / 101),
    }
    assert {row["example"] for row in rows.values()} == {"why"}


def vectors(world: World) -> dict[str, Row]:
    """What the embedding has stored of each conversation."""
    kept = query(world.store, "SELECT * FROM features WHERE kind = 'conversation'").records
    return {row["id"]: row for row in kept}


@answers("longest")
def longest(world: World) -> None:
    kept = vectors(world)
    rows = world.ask("longest", n=9)
    expected = sorted((-row["n_tokens"], id) for id, row in kept.items())[:9]
    assert [(-row["tokens"], row["conversation_id"]) for row in rows] == expected
    for row in rows:
        id = row["conversation_id"]
        assert row["datasets"] == sorted(d.name for d in world.datasets if id in world.held(d))
        assert row["truncated"] == (row["tokens"] > MAX_TOKENS)
        assert (row["n_chars"], row["counted"]) == (world.conversations[id]["n_chars"], True)


@answers("embedded")
def embedded(world: World) -> None:
    kept = vectors(world)
    rows = keyed(world.ask("embedded"), "dataset")
    for dataset in world.datasets:
        tokens = sorted(kept[id]["n_tokens"] for id in world.held(dataset))
        row = rows[(dataset.name,)]
        assert row["conversations"] == row["vectors"] == len(tokens)
        assert row["truncated"] == sum(n > MAX_TOKENS for n in tokens)
        assert (row["max_tokens"], row["most_tokens"]) == (MAX_TOKENS, tokens[-1])
        assert abs(row["median_tokens"] - np.median(tokens)) <= 0.5
        assert row["p99_tokens"] == tokens[-1]
    assert sum(row["truncated"] for row in rows.values()) > 0


@answers("predicted")
def predicted(world: World) -> None:
    shards = world.store.head().within("features").values()
    took = [shard.summary["measured"] for shard in shards]
    (row,) = world.ask("predicted")
    assert (row["shards"], row["run_id"]) == (len(took), world.store.head().run.run_id)
    assert row["tokens"] == sum(one["tokens"] for one in took)
    assert row["predicted_seconds"] is None  # nothing was measured before
    assert row["predicted_tokens"] == pytest.approx(sum(n["n_chars"] for n in world.conversations.values()) / 4, abs=1)
    assert row["seconds"] == pytest.approx(sum(one["seconds"] for one in took))
    assert row["tokens_per_s"] == pytest.approx(row["tokens"] / row["seconds"])
    assert row["forwarded"] == sum(one["forwarded"] for one in took) < row["tokens"]


@answers("forwarded")
def forwarded(world: World) -> None:
    kept = vectors(world)
    sides = [pair[side] for pair in world.pairs for side in ("chosen_id", "rejected_id")]
    mentions = [id for _, id in {(row["source_row"], row["conversation_id"]) for row in world.ratings}] + sides
    (row,) = world.ask("forwarded")
    assert row["mentions"] == len(mentions)
    assert row["vectors"] == query(world.store, "SELECT count(*) FROM features").rows[0][0]
    assert row["vectors_per_mention"] == row["vectors"] / len(mentions)
    assert row["tokens_one_by_one"] == sum(min(kept[id]["n_tokens"], MAX_TOKENS) for id in mentions)
    assert row["tokens_forwarded"] < sum(one["n_tokens"] for one in kept.values())
    assert row["times_fewer"] == pytest.approx(row["tokens_one_by_one"] / row["tokens_forwarded"])


@answers("freshness")
def freshness(world: World) -> None:
    rows = keyed(world.ask("freshness"), "dataset")
    assert set(rows) == {(dataset.name,) for dataset in world.datasets}
    for row in rows.values():
        assert [row[stage] for stage in ("regression", "gate", "evaluation")] == ["fresh"] * 3
        assert row["quality"] is row["contamination"] is None
        assert row["ingested_at"] == world.store.head().artifacts[f"ingest/{row['dataset']}"].created_at


@answers("licences")
def licences(world: World) -> None:
    rows = world.ask("licences")
    assert [(row["licence"], row["dataset"]) for row in rows] == [
        ("CC-BY", "second"),
        ("MIT", "first"),
        ("MIT", "paired"),
    ]
    for row in rows:
        (dataset,) = [d for d in world.datasets if d.name == row["dataset"]]
        assert row["ratings"] == column(world.usable(dataset.ratings), "split").count("train")
        assert row["pairs"] == column(world.usable(dataset.preferences), "split").count("train")


@answers("storage")
def storage(world: World) -> None:
    sizes, counts = defaultdict(int), defaultdict(int)
    for artifact in world.store.head().artifacts.values():
        sizes[artifact.recipe.stage] += sum(ref.size_bytes for ref in artifact.objects.values())
        counts[artifact.recipe.stage] += 1
    rows = world.ask("storage")
    assert {row["stage"]: (row["artifacts"], row["size_bytes"]) for row in rows} == {
        stage: (counts[stage], sizes[stage]) for stage in sizes
    }
    assert column(rows, "size_bytes") == sorted(sizes.values(), reverse=True)
    assert sum(column(rows, "share")) == pytest.approx(1)


@answers("commits")
def commits(world: World) -> None:
    (row,) = world.ask("commits")
    artifacts = world.store.head().artifacts.values()
    assert (row["command"], row["artifacts"]) == ("test", len(artifacts))
    assert row["stages"] == sorted({artifact.recipe.stage for artifact in artifacts})
    assert row["size_bytes"] == sum(ref.size_bytes for artifact in artifacts for ref in artifact.objects.values())


@answers("hardest_pairs")
def hardest_pairs(world: World) -> None:
    pairs = {pair["pair_id"]: pair for pair in world.usable(world.pairs)}
    for given, split in (({}, "test"), ({"split": "evaluation", "dataset": "ben*"}, "evaluation")):
        wrong = [s for s in world.usable_scores if not s["correct"] and s["split"] == split]
        expected = sorted((s["score_chosen"] - s["score_rejected"], s["pair_id"]) for s in wrong)
        rows = world.ask("hardest_pairs", n=4, **given)
        assert [(-row["wrong_by"], row["pair_id"]) for row in rows] == expected[:4]
        assert rows
        for row in rows:
            pair = pairs[row["pair_id"]]
            for side in ("chosen", "rejected"):
                question, answer = world.conversations[pair[f"{side}_id"]]["messages"]
                assert (row["question"], row[side]) == (question["content"], answer["content"])


@answers("accuracy")
def accuracy(world: World) -> None:
    similar = 30
    rows = keyed(world.ask("accuracy", similar=similar), "split", "dataset", "subset")
    groups = by(world.usable_scores, "split", "dataset", "subset")
    assert set(rows) == set(groups)
    for key, scored in groups.items():
        sides = [[world.conversations[s[f"{side}_id"]]["n_chars"] for s in scored] for side in ("chosen", "rejected")]
        longer, correct = np.subtract(*sides), np.array(column(scored, "correct"))
        assert (rows[key]["pairs"], rows[key]["accuracy"]) == (len(scored), pytest.approx(correct.mean()))
        assert rows[key]["share_longer"] == pytest.approx((longer > 0).mean())
        kinds = {
            "chosen_shorter": longer < -similar,
            "similar_length": abs(longer) <= similar,
            "chosen_longer": longer > similar,
        }
        for name, here in kinds.items():
            assert rows[key][name] == (pytest.approx(correct[here].mean()) if here.any() else None)
    assert {key[0] for key in keyed(world.ask("accuracy", split="test"), "split", "dataset", "subset")} == {"test"}


@answers("accuracy_by_length")
def accuracy_by_length(world: World) -> None:
    """Bins as the evaluation's record has them."""
    for split, dataset, n_bins in (("test", "*", 4), ("*", "paired", 2)):
        rows = world.ask("accuracy_by_length", split=split, dataset=dataset, bins=n_bins)
        scored = [s for s in world.usable_scores if s["split"] == split or s["dataset"] == dataset]
        sides = [[world.conversations[s[f"{side}_id"]]["n_chars"] for s in scored] for side in ("chosen", "rejected")]
        longer, correct = np.subtract(*sides), np.array(column(scored, "correct"))
        bins = length_bins(longer, n_bins)
        assert column(rows, "bin") == sorted(set(bins))
        for row in rows:
            here = bins == row["bin"]
            assert (row["pairs"], row["shortest"], row["longest"]) == (
                here.sum(),
                longer[here].min(),
                longer[here].max(),
            )
            assert row["accuracy"] == pytest.approx(correct[here].mean())


@answers("calibration")
def calibration(world: World) -> None:
    scored = sorted(
        (abs(s["score_chosen"] - s["score_rejected"]), s["pair_id"], s["correct"])
        for s in world.usable_scores
        if s["split"] == "test"
    )
    size, rest = divmod(len(scored), 4)
    rows = world.ask("calibration", bins=4)
    for number, row in enumerate(rows):
        assert row["bin"] == number + 1
        here, scored = scored[: size + (number < rest)], scored[size + (number < rest) :]
        assert (row["pairs"], row["smallest"], row["largest"]) == (len(here), here[0][0], here[-1][0])
        assert row["accuracy"] == pytest.approx(np.mean([correct for _, _, correct in here]))
    assert (len(rows), scored) == (4, [])


@answers("verbosity")
def verbosity(world: World) -> None:
    def with_length(rows: list[Row], name: str) -> float:
        lengths = [world.conversations[row["conversation_id"]]["n_chars"] for row in rows]
        return correlation(column(rows, name), lengths)

    rows = keyed(world.ask("verbosity"), "objective")
    rated, predicted = by(world.ratings, "objective"), by(world.predictions, "objective")
    assert set(rows) == set(rated)
    for key, row in rows.items():
        assert row["ratings"] == len(rated[key])
        assert row["rated"] == pytest.approx(with_length(rated[key], "value"))
        assert row["predicted"] == pytest.approx(with_length(predicted[key], "predicted"))


@answers("gate_by_kind")
def gate_by_kind(world: World) -> None:
    weighed = by(world.coefficients, "prompt_id", "objective")
    prompts = defaultdict(set)
    for pair in world.usable(world.pairs):
        if pair["split"] != "train":
            prompts[pair["dataset"], pair["subset"]].add(pair["prompt_id"])
    rows = world.ask("gate_by_kind", n=2)
    assert len(rows) == 2 * len(prompts)
    for kind, ids in prompts.items():
        mean = {
            objective: {
                name: np.mean([weighed[id, objective][0][name] for id in ids]) for name in ("weight", "coefficient")
            }
            for objective in (OBJECTIVE, COHERENCE, OVERALL)
        }
        here = [row for row in rows if (row["dataset"], row["subset"]) == kind]
        assert column(here, "objective") == sorted(mean, key=lambda name: -mean[name]["weight"])[:2]
        for row in here:
            of = [weighed[id, row["objective"]][0]["weight"] for id in ids]
            assert (row["prompts"], row["spread"]) == (len(ids), pytest.approx(np.std(of)))
            for name in ("weight", "coefficient"):
                assert row[name] == pytest.approx(mean[row["objective"]][name])
    assert {row["dataset"] for row in world.ask("gate_by_kind", dataset="bench")} == {"bench"}


@answers("objective_correlations")
def objective_correlations(world: World) -> None:
    values = defaultdict(list)
    for ratings in by(world.ratings, "conversation_id").values():
        for a in ratings:
            for b in ratings:
                if a["objective"] < b["objective"]:
                    values[a["objective"], b["objective"]].append((a["value"], b["value"]))
    rows = keyed(world.ask("objective_correlations"), "objective", "other")
    assert set(rows) == set(values)
    for key, both in values.items():
        assert rows[key]["rated_by_both"] == len(both)
        assert rows[key]["correlation"] == pytest.approx(correlation(*zip(*both, strict=True)))


@answers("fit")
def fit(world: World) -> None:
    bad = {row["prompt_id"] for row in world.contamination}
    predicted = keyed(world.predictions, "conversation_id", "objective")
    for split in ("test", "train"):
        usable = [r for r in world.ratings if r["split"] == split and r["prompt_id"] not in bad]
        rows = keyed(world.ask("fit", split=split), "objective", "dataset")
        assert set(rows) == set(by(usable, "objective", "dataset"))
        for key, ratings in by(usable, "objective", "dataset").items():
            given = np.array(column(ratings, "value"))
            guessed = np.array([predicted[r["conversation_id"], r["objective"]]["predicted"] for r in ratings])
            row = rows[key]
            assert row["ratings"] == len(ratings)
            assert row["correlation"] == pytest.approx(correlation(given, guessed))
            assert row["mean_error"] == pytest.approx(np.abs(given - guessed).mean())
            assert row["explained"] == pytest.approx(1 - ((given - guessed) ** 2).mean() / given.var())


@answers("neighbours")
def neighbours(world: World) -> None:
    ids, X_ND = zip(*((id, row["vector"]) for id, row in vectors(world).items()), strict=True)
    X_ND = np.array(X_ND, dtype=np.float64)
    cosine_N = X_ND @ X_ND[5] / np.linalg.norm(X_ND, axis=1) / np.linalg.norm(X_ND[5])
    nearest = [index for index in np.argsort(-cosine_N) if index != 5][:6]
    rows = world.ask("neighbours", conversation_id=ids[5], n=6)
    assert column(rows, "similarity") == pytest.approx(cosine_N[nearest], abs=1e-5)
    own = dict(zip(ids, cosine_N, strict=True))  # some are as near as others, to what float32 can tell
    assert column(rows, "similarity") == pytest.approx([own[row["conversation_id"]] for row in rows], abs=1e-5)
    for row in rows:
        question, answer = world.conversations[row["conversation_id"]]["messages"]
        assert (row["question"], row["answer"]) == (question["content"], answer["content"])
    assert world.ask("neighbours", conversation_id="none such") == []


@answers("near_benchmark")
def near_benchmark(world: World) -> None:
    asked = {of["prompt_id"]: of["messages"][-2]["content"] for of in world.conversations.values()}
    closest = sorted(world.near_prompts, key=lambda row: -row["cosine"])[:5]
    rows = world.ask("near_benchmark", n=5)
    assert column(rows, "cosine") == column(closest, "cosine")
    for row, near in zip(rows, closest, strict=True):
        texts = asked[near["evaluation_prompt_id"]], asked[near["prompt_id"]]
        assert (row["benchmark"], row["training"]) == texts
    assert world.ask("near_benchmark", dataset="none such") == []


@pytest.mark.parametrize("name", ANSWERS)
def test_a_question_is_answered(world: World, name: str) -> None:
    ANSWERS[name](world)


def test_what_changed_since_an_earlier_snapshot(store: Store, writer: Writer) -> None:
    def rated(name: str, raws: dict[str, int]) -> Dataset:
        dataset = Dataset(name)
        for row, raw in raws.items():
            dataset.rate(row, single_turn("q", row), raw)
        return dataset

    rated("same", {"a": 1}).commit(writer)
    rated("gone", {"a": 1, "b": 2}).commit(writer)
    mine = rated("mine", {"a": 1, "b": 2, "c": 3})
    mine.prefer("p0", "one", "two")
    mine.prefer("p1", "two", "three")
    mine.commit(writer)
    pointers.tag(writer, "before-cleaning", store.head())
    writer.commit_all([], remove=["ingest/gone"])
    mine = rated("mine", {"b": 2, "c": 0, "d": 1, "e": 2})
    mine.prefer("p1", "two", "three")
    mine.prefer("p2", "three", "four")
    mine.commit(writer)
    rated("new", {"a": 1}).commit(writer)
    names = ("dataset", "part", "earlier", "now", "added", "removed", "rated_otherwise")
    assert ask(store, "changes_since", before="before-cleaning").columns == list(names)
    assert ask(store, "changes_since", before="before-cleaning").rows == [
        ("gone", "ratings", 2, 0, 0, 2, 0),
        ("mine", "pairs", 2, 2, 1, 1, 0),
        ("mine", "ratings", 3, 4, 2, 1, 1),
        ("new", "ratings", 0, 1, 1, 0, 0),
    ]


def test_what_a_stage_has_not_seen_is_stale(store: Store, writer: Writer) -> None:
    for name in ("kept", "edited"):
        dataset = Dataset(name)
        dataset.rate("a", single_turn("q", name), 1)
        dataset.commit(writer)
    commit(writer, "regress", {}, inputs=store.head().ids_within("ingest"))
    for name in ("edited", "added"):
        dataset = Dataset(name)
        dataset.rate("a", single_turn("q", name), 2)
        dataset.commit(writer)
    rows = keyed(ask(store, "freshness").records, "dataset")
    assert {name: row["regression"] for (name,), row in rows.items()} == {
        "kept": "fresh",
        "edited": "stale",
        "added": None,
    }
    assert {row["gate"] for row in rows.values()} == {None}


def test_what_is_not_embedded_is_counted_and_estimated(store: Store, writer: Writer) -> None:
    dataset = Dataset("mine")
    dataset.rate("a", single_turn("abcd", "efgh"), 1)
    dataset.commit(writer)
    (row,) = ask(store, "longest").records
    assert (row["tokens"], row["counted"], row["truncated"], row["datasets"]) == (2, False, None, ["mine"])
    assert ask(store, "embedded").rows == []  # there is no backbone yet


def test_there_are_at_least_twenty_questions_and_each_is_tested() -> None:
    assert len(NAMES) >= 20
    assert set(NAMES) == {*ANSWERS, "changes_since"}


@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_an_empty_store_gives_the_same_columns(world: World, tmp_path: Path, name: str) -> None:
    given = {"conversation_id": "x"} if name == "neighbours" else {}
    assert ask(Store(tmp_path / "empty"), name, **given).columns == ask(world.store, name, **given).columns


@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_the_stated_key_is_a_key(world: World, name: str) -> None:
    (line,) = [line for line in (QUESTIONS / f"{name}.sql").read_text().splitlines() if line.startswith("-- key: ")]
    given = {"conversation_id": min(world.conversations)} if name == "neighbours" else {}
    rows = world.ask(name, **given)
    assert rows
    keyed(rows, *line.removeprefix("-- key: ").split(", "))


def test_questions_say_what_they_answer_and_take() -> None:
    listed = {question.name: question for question in list_questions()}
    assert list(listed) == NAMES
    assert listed["neighbours"].what.startswith("the conversations whose vectors are nearest")
    assert [str(of) for of in listed["neighbours"].parameters] == ["conversation_id", "n = 10"]
    assert listed["storage"].parameters == ()
    for question in listed.values():
        assert "--" not in question.what
        assert {of.name for of in question.parameters} == set(re.findall(r"\$(\w+)", question.sql)), question.name


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("why", {}, r"\bwhy;.*\baccuracy, "),
        ("neighbours", {}, r"\bneighbours: .*\bconversation_id;"),
        ("coverage", {"n": 1}, r"\bcoverage: .*\bn;"),
        ("longest", {"m": 1}, r"\blongest: .*\bm;.*\bn = 20\b"),
        ("longest", {"n": "many"}, r"\bn = many;.*\bn=20\b"),
        ("longest", {"n": -1}, r"\bn = -1;.*\bn=20\b"),
        ("longest", {"n": 2.5}, r"\bn = 2\.5;.*\bn=20\b"),
        ("longest", {"n": True}, r"\bn = True;.*\bn=20\b"),
    ],
)
def test_what_is_asked_wrongly_is_named(store: Store, name: str, given: Row, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ask(store, name, **given)


def test_numbers_may_come_as_text(world: World) -> None:
    assert world.ask("longest", n="3") == world.ask("longest", n=3)
