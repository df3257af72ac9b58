"""A store at the paper's size with nothing to do: how long planning, opening and asking take.

    python benchmarks/store.py [--conversations 2600000] [--shards 160] [--rounds 3] [--folder DIR]

The store is made once below `--folder`: every table of metadata at full size (short texts, vectors of 8 floats), each
stage's artifact under the recipe that the stage itself states, so that `armorm plan` has everything to compare and
nothing to run. Each time is of a process of its own, imports included, and without them.
"""

import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from armorm.features.store import Done, Made, Pointer, Recipe, Store, Writer
from armorm.features.tables import SCHEMAS, write_parquet
from armorm.features.vectors.shards import index_of
from benchmarks.measure import options, packages, print_row, print_table

DATASETS = 13
"""Datasets that give rows, of those that the demo's configuration names."""

PROMPT_SHARE, RATED_SHARE, PAIR_SHARE = 0.45, 0.23, 0.35

OBJECTIVES = ("helpsteer-coherence", "helpsteer-complexity", "helpsteer-verbosity")

WIDTH = 8


class Recorder(Writer):
    """Takes a stage's recipe, and what it is told in place of what the stage would make."""

    made: Callable[[], Made]

    def ensure(self, recipe: Recipe, make: Callable[[], Made], *, work: Mapping[str, int] | None = None) -> Done:
        """Commit the stand-in."""
        return Done(self.commit(recipe, self.made()), "stand-in")


def ids(rng: np.random.Generator, n: int) -> np.ndarray[Any, Any]:
    """Return `[n]` random ids of 32 hex digits, in order."""
    return np.sort(np.frombuffer(rng.bytes(16 * n).hex().encode(), "S32")).astype("U32")


def tables(rng: np.random.Generator, dataset: str, n: int) -> dict[str, pa.Table]:
    """One dataset's tables with `n` conversations."""
    conversations, prompts = ids(rng, n), ids(rng, max(1, int(n * PROMPT_SHARE)))
    of_prompt = np.sort(rng.integers(0, len(prompts), n))
    texts = [f"question {p} of {dataset}" for p in of_prompt], [f"answer {i} of {dataset}" for i in range(n)]
    turns = pa.StructArray.from_arrays(
        [
            pa.array(np.tile(["user", "assistant"], n)),
            pa.array([text for pair in zip(*texts, strict=True) for text in pair]),
        ],
        names=["role", "content"],
    )
    rated, pairs = int(n * RATED_SHARE), int(n * PAIR_SHARE)
    rows, split = ids(rng, n), np.array(["train", "validation", "test"])
    splits = split[np.searchsorted([0.8, 0.9], rng.random(len(prompts)))]
    rated_index = np.repeat(np.arange(rated), len(OBJECTIVES))
    values = rng.random(rated * len(OBJECTIVES)).round(2)
    chosen = rng.integers(0, n - 1, pairs)
    columns: dict[str, list[Any]] = {
        "conversations": [
            conversations,
            prompts[of_prompt],
            pa.ListArray.from_arrays(pa.array(np.arange(0, 2 * n + 1, 2, dtype=np.int32)), turns),
            np.full(n, 2, np.int32),
            rng.integers(200, 4000, n),
        ],
        "ratings": [
            np.full(len(rated_index), dataset),
            rows[rated_index],
            conversations[rated_index],
            prompts[of_prompt[rated_index]],
            np.tile(OBJECTIVES, rated),
            values * 5 - 0.5,
            values,
            splits[of_prompt[rated_index]],
        ],
        "preferences": [
            np.full(pairs, dataset),
            rows[:pairs],
            ids(rng, pairs),
            prompts[of_prompt[chosen]],
            conversations[chosen],
            conversations[chosen + 1],
            np.full(pairs, None),
            np.full(pairs, None),
            splits[of_prompt[chosen]],
        ],
        "native_rows": [
            np.full(n, dataset),
            rows,
            np.full(n, f"{dataset}.jsonl"),
            np.arange(1, n + 1),
            np.full(n, "kept"),
            np.full(n, None),
        ],
    }
    made = {
        name: pa.table([pa.array(c, t) for c, t in zip(of, SCHEMAS[name].types, strict=True)], schema=SCHEMAS[name])
        for name, of in columns.items()
    }
    return made | {"rejects": SCHEMAS["rejects"].empty_table()}


def put(store: Store, table: pa.Table) -> Any:
    return store.objects.put("parquet", partial(write_parquet, table=table))


def generate(folder: Path, n_conversations: int, n_shards: int) -> None:
    """Write configuration, native files and store."""
    from armorm.features.checks.contamination import CONTAMINATION
    from armorm.features.checks.quality import QUALITY
    from armorm.features.embedding import embed
    from armorm.features.embedding.fingerprint import read_fingerprint
    from armorm.features.ingest.dataset import ingest_dataset
    from armorm.features.sample import write_sample
    from armorm.features.sample.backbone import sample_texts, write_backbone
    from armorm.flows.configuration.profiles import Profile, configuration
    from armorm.flows.configuration.settings import load_settings
    from armorm.stages.evaluate import EVALUATE
    from armorm.stages.pipeline import computed

    write_sample(folder / "data", scale=0.01)
    write_backbone(folder / "backbone", sample_texts())
    (folder / "armorm.toml").write_text(configuration(Profile.demo))
    settings = load_settings(folder / "armorm.toml")
    rng, store = np.random.default_rng(0), settings.open_store()
    fingerprint = read_fingerprint(settings.local_backbone())
    writer = Recorder(store, "benchmark")
    held: list[np.ndarray[Any, Any]] = []
    for number, name in enumerate(settings.datasets):
        n = n_conversations // DATASETS if number < DATASETS else 1000
        made = tables(rng, name, n)
        held += [made["conversations"].column(c).to_numpy() for c in ("conversation_id", "prompt_id")]
        counts = {c: len(made[c]) for c in ("conversations", "ratings", "preferences")}
        summary = {
            "dataset": name,
            "upstream": name,
            "licence": "none",
            "evaluation": False,
            "outcomes": {"kept": {"": n}},
            "parts_refused": 0,
            "scales": {of: {"lo": 0, "hi": 4, "rule": "bin_centre"} for of in OBJECTIVES},
        } | counts
        objects = {f"{c}/000": put(store, made[c]) for c in ("conversations", "ratings", "preferences", "rejects")}
        provenance = {"native_rows": put(store, made["native_rows"])}
        writer.made = lambda o=objects, s=summary, p=provenance: Made(o, s, p)
        ingest_dataset(writer, settings.dataset(name), splits=settings.split)
    conversations, prompts = np.concatenate(held[::2]), np.unique(np.concatenate(held[1::2]))
    backbone = {"hidden_size": WIDTH, "name": "backbone", "architecture": "llama", "dtype": "float32", "max_tokens": 1}
    record = {"record": store.objects.put_bytes("json", b"{}")}
    writer.commit(
        Recipe(f"backbone/{fingerprint.backbone_id}", "backbone", embed.STAGE_VERSION, dict(fingerprint.record), {}),
        Made(record, backbone),
    )
    embedded = np.concatenate([conversations, prompts])
    inputs, n = store.head().ids_within("ingest"), len(conversations)
    parts = map(np.sort, np.array_split(rng.permutation(len(embedded)), n_shards))
    writer.commit_all([shard(store, rng, embedded, n, part, fingerprint.backbone_id, inputs) for part in parts])
    stand_in = {name: store.objects.put_bytes("json", b"{}") for name in ("record", "tensors", "description")}
    covered = {"conversations": len(conversations), "prompts": len(prompts)}
    writer.made = lambda: Made(stand_in, {"line": "stand-in"} | covered)
    id = fingerprint.backbone_id
    writer.ensure(embed._coverage(store.head(), id), lambda: Made({}))
    QUALITY.ensure(writer, settings.checks)
    empty = put(store, SCHEMAS["contamination"].empty_table())
    writer.made = lambda: Made({"contamination": empty}, {"line": "stand-in"})
    CONTAMINATION.ensure(writer, settings.contamination)
    writer.made = lambda: Made(stand_in, {"line": "stand-in"})
    for stage in computed("train"):
        stage.ensure(writer, stage.settings_in(settings), id)
    scored = evaluated(rng, store)
    writer.made = lambda: Made(stand_in | scored, {"line": "stand-in"})
    EVALUATE.ensure(writer, settings.evaluation, id)
    head = store.head()
    writer.point("start", Pointer("snapshot", head.snapshot_id, head.number, head.created_at))


def shard(
    store: Store,
    rng: np.random.Generator,
    texts_ids: np.ndarray[Any, Any],
    n_conversations: int,
    part: np.ndarray[Any, Any],
    backbone_id: str,
    inputs: dict[str, str],
) -> tuple[Recipe, Made]:
    """One shard, as `write_shard` makes them, without a Python object a vector."""
    from armorm.features.vectors import shards

    n = len(part)
    kinds = np.where(part < n_conversations, "conversation", "prompt")
    texts = texts_ids[part]
    vectors = rng.normal(size=(n, WIDTH)).astype(np.float32)
    columns = [
        pa.array(kinds),
        pa.array(texts),
        pa.array(rng.integers(20, 1000, n), pa.int32()),
        pa.array(np.zeros(n, bool)),
        pa.array(np.linalg.norm(vectors, axis=1)),
        pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), WIDTH),
    ]
    table = pa.Table.from_arrays(columns, schema=shards._schema(backbone_id, {}, WIDTH, "float32"))

    def write(path: Path) -> None:
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as file:
            file.write_table(table, max_chunksize=shards.BATCH_ROWS)

    ref = store.objects.put("arrow", write)
    recipe = Recipe(f"features/{backbone_id}/{ref.sha256[:16]}", "embed", 1, {}, inputs)
    made = {"shard": ref, "index": put(store, index_of(ref, table))}
    return recipe, Made(made, {"rows": n, "tokens": int(n) * 300, "width": WIDTH})


def evaluated(rng: np.random.Generator, store: Store) -> dict[str, Any]:
    """Return a prediction a rating, and scores for every pair."""
    from armorm.features.catalog.views import connect

    with connect(store) as catalog:
        rated = catalog.execute("SELECT DISTINCT conversation_id, objective FROM ratings").fetchnumpy()
        pairs = catalog.execute("SELECT pair_id FROM preferences").fetchnumpy()["pair_id"]
        prompts = catalog.execute("SELECT DISTINCT prompt_id FROM preferences WHERE split = 'test'").fetchnumpy()
    n, scores = len(rated["objective"]), rng.normal(size=(2, len(pairs)))
    asked = np.repeat(prompts["prompt_id"], len(OBJECTIVES))
    names = np.tile(OBJECTIVES, len(prompts["prompt_id"]))
    columns = {
        "predictions": [np.full(n, "m"), rated["conversation_id"], rated["objective"], rng.random(n)],
        "pair_scores": [np.full(len(pairs), "m"), pairs, *scores, scores[0] > scores[1]],
        "gate_coefficients": [np.full(len(asked), "m"), asked, names, *rng.random((2, len(asked)), np.float32)],
    }
    return {
        name: put(store, pa.table([pa.array(column) for column in of], schema=SCHEMAS[name]))
        for name, of in columns.items()
    }


IMPORT = "import sys, time; from pathlib import Path; config = Path(sys.argv[1]); "

TIMED = {
    "plan: nothing to do": (
        "from armorm.flows.plan import plan_run; from armorm.flows.configuration.settings import load_settings; "
        "settings = load_settings(config)",
        "steps = plan_run(settings).steps; assert not any(step.reason for step in steps), steps",
    ),
    "open a connection": (
        "import duckdb; from armorm.flows.configuration.settings import load_settings; "
        "from armorm.features.catalog.notebook import connect; "
        "place = load_settings(config).open_store().place",
        "connect(place)",
    ),
    "count all vectors' rows": (
        "import duckdb; from armorm.features.catalog.query import query; "
        "from armorm.flows.configuration.settings import load_settings; "
        "store = load_settings(config).open_store()",
        "query(store, 'SELECT backbone, kind, count(*), sum(n_tokens) FROM features GROUP BY ALL')",
    ),
    "one vector by its id": (
        "import duckdb; from armorm.features.catalog.query import query; "
        "from armorm.flows.configuration.settings import load_settings; "
        "store = load_settings(config).open_store(); "
        "id = query(store, 'SELECT id FROM features LIMIT 1').rows[0][0]; store = load_settings(config).open_store()",
        "query(store, 'SELECT vector FROM features WHERE id = ?', [id])",
    ),
}
"""What is timed: what is imported and prepared before, and the call itself."""


def timed(config: Path, prepare: str, call: str) -> tuple[float, float]:
    """Seconds of the call alone, and of the whole process."""
    code = f"{IMPORT}{prepare}; start = time.perf_counter(); {call}; print(time.perf_counter() - start)"
    start = time.perf_counter()
    process = subprocess.run([sys.executable, "-c", code, str(config)], capture_output=True, text=True)
    if process.returncode:
        raise RuntimeError(process.stderr)
    return float(process.stdout.splitlines()[-1]), time.perf_counter() - start


def questions() -> dict[str, tuple[str, str]]:
    """Return a timed call for every question of `sql/questions/`."""
    from armorm.features.catalog.questions import list_questions

    prepare = (
        "import duckdb; from armorm.features.catalog.query import query; "
        "from armorm.features.catalog.questions import ask; "
        "from armorm.flows.configuration.settings import load_settings; store = load_settings(config).open_store(); "
        "one = query(store, 'SELECT conversation_id FROM conversations LIMIT 1').rows[0][0]; "
        "store = load_settings(config).open_store()"
    )
    given = {"neighbours": ", conversation_id=one", "changes_since": ", before='start'"}
    return {
        f"question: {question.name}": (prepare, f"ask(store, {question.name!r}{given.get(question.name, '')})")
        for question in list_questions()
    }


def main() -> None:
    """Make the store where there is none, and time."""
    made = Path(tempfile.gettempdir()) / "armorm-benchmark-store"
    given = options(__doc__, conversations=2_600_000, shards=160, rounds=3, folder=made).parse_args()
    folder: Path = given.folder / f"{given.conversations}-{given.shards}"
    config = folder / "armorm.toml"
    if not config.exists():
        generate(folder, given.conversations, given.shards)
    size = sum(path.stat().st_size for path in (folder / "store").rglob("*") if path.is_file())
    print(f"{given.conversations:,} conversations, {given.shards} shards, {size / 1e9:.2f} GB; {platform.machine()}")
    print(packages("duckdb", "pyarrow"))
    print_table(["what", "s", "with imports, s"])
    for name, (prepare, call) in (TIMED | questions()).items():
        rounds = [timed(config, prepare, call) for _ in range(given.rounds)]
        inner, whole = (statistics.median(times) for times in zip(*rounds, strict=True))
        print_row(name, f"{inner:.2f}", f"{whole:.2f}")


if __name__ == "__main__":
    main()
