"""Whatever is done to a store, in whatever order and however it fails, it holds what a dictionary says.

The dictionary is told of every change that is made; one that fails may be made or not, but not by half. Vectors come
from ids, so that no backbone has to be run; all else is real.
"""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import mkdtemp
from types import SimpleNamespace
from typing import Any, ClassVar, get_args

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from armorm.features.catalog.views import connect
from armorm.features.conversation import SplitFractions, conversation_id, prompt_id
from armorm.features.embedding import backbone, chunks, embed
from armorm.features.embedding.fingerprint import BackboneSettings
from armorm.features.embedding.packs import TokenSequence, Wanted
from armorm.features.embedding.vectors import Pass, Texts
from armorm.features.ingest.dataset import DatasetFiles, forget_unconfigured, ingest_dataset
from armorm.features.sources import complete_options, find_source
from armorm.features.store import Snapshot, Store, Writer, pointers
from armorm.features.upkeep.gc import RetentionSettings, collect
from armorm.features.upkeep.verify import verify
from armorm.features.vectors.shards import FeatureReader, shards_of
from tests.features import tiny
from tests.features.faults import Crash, Kind, faults
from tests.features.test_faults import pass_on_to_another_process

LATER = datetime.now(UTC) + timedelta(days=100)

Rows = dict[tuple[int, int], int]
"""A prompt's number and an answer's to a rating."""

DATASETS: Mapping[str, Callable[[int], dict[str, Any]]] = {
    "helpsteer": lambda r: {"helpfulness": r, "correctness": 1, "coherence": 2, "complexity": 3, "verbosity": 4 - r},
    "beavertails-30k": lambda r: {"is_safe": r % 2 == 0},
}
"""What a row is rated; both have the same conversations."""

rows = st.dictionaries(st.tuples(st.integers(0, 3), st.integers(0, 3)), st.integers(0, 4), min_size=1, max_size=6)
names = st.sampled_from(sorted(DATASETS))
fault = st.none() | st.tuples(st.integers(1, 150), st.sampled_from(get_args(Kind)))
"""At which step, and how; none, as often."""

Fault = tuple[int, Kind] | None


def messages(key: tuple[int, int]) -> tuple[tuple[str, str], ...]:
    return (("user", f"Prompt {key[0]}"), ("assistant", f"Answer {key[1]}"))


def vector(id: str) -> npt.NDArray[np.float32]:
    """`[32]`, the backbone's size: the vector of whatever has that id."""
    return np.frombuffer(hashlib.sha256(id.encode()).digest(), np.uint8).astype(np.float32) + 1


def fake_texts(_: Any, conversations: Any, wanted: Any, wanted_prompts: Any) -> Texts:
    found = [("conversation", id) for id in sorted(wanted)] + [("prompt", id) for id in sorted(wanted_prompts)]
    return Texts([TokenSequence((0,), (Wanted(kind, id, 0, 3),)) for kind, id in found], [])  # type: ignore[arg-type]


def fake_passes(_: Any, sequences: Any, *, token_budget: int, done: Any) -> Iterator[Pass]:
    for sequence in sequences:
        yield Pass([(wanted, vector(wanted.id)) for wanted in sequence.wanted], 3, 3, token_budget)


@dataclass(frozen=True)
class Held:
    """What a snapshot has to hold."""

    datasets: Mapping[str, Rows] = field(default_factory=dict)

    def without(self, name: str) -> "Held":
        return Held({other: rows for other, rows in self.datasets.items() if other != name})

    @property
    def ratings(self) -> set[tuple[str, str, str, float]]:
        return {
            (name, conversation_id(messages(key)), objective, float(value))
            for name, rows in self.datasets.items()
            for key, rating in rows.items()
            for objective, value in DATASETS[name](rating).items()
        }

    @property
    def texts(self) -> set[tuple[str, str]]:
        """Kind and id of everything that has a vector, once all is embedded."""
        keys = {key for rows in self.datasets.values() for key in rows}
        conversations = {("conversation", conversation_id(messages(key))) for key in keys}
        return conversations | {("prompt", prompt_id(messages(key))) for key in keys}


def stored_ratings(store: Store, snapshot: Snapshot) -> set[tuple[str, str, str, float]]:
    found = [
        (row["dataset"], row["conversation_id"], row["objective"].partition("-")[2], row["raw"])
        for artifact in snapshot.within("ingest").values()
        for name, ref in artifact.objects.items()
        if name.startswith("ratings/")
        for row in pq.read_table(store.objects.path(ref)).to_pylist()
    ]
    assert len(found) == len(set(found))
    return set(found)


def stored_texts(store: Store) -> set[tuple[str, str]]:
    found: set[tuple[str, str]] = set()
    for shards in shards_of(store.head()):
        index = [pq.read_table(store.objects.path(artifact.objects["index"])) for artifact in shards.artifacts]
        texts = [(row["kind"], row["id"]) for table in index for row in table.select(["kind", "id"]).to_pylist()]
        assert len(texts) == len(set(texts))
        found |= set(texts)
    return found


class StoreMachine(RuleBasedStateMachine):
    """A store beside what it has to hold."""

    backbone: ClassVar[Path]
    counts: ClassVar[Counter[str]] = Counter()
    """Numbers of changes, and of those that a fault stopped, by its kind."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(mkdtemp(dir=self.backbone.parent))
        self.opened = ExitStack()
        self.watch = self.opened.enter_context(faults(self.folder / "store"))
        self.store = Store(self.folder / "store")
        self.held = Held()
        self.embedded: set[tuple[str, str]] = set()
        self.tags: dict[str, Held] = {}

    def change(self, fault: Fault, act: Callable[[Writer], object], *, kind: Any = "write") -> bool:
        """Does something as a writer; False if a fault came."""
        self.watch.begin(*(fault or (0, "broken")))
        self.counts["changes"] += 1
        try:
            with self.store.writing("test", kind=kind) as writer:
                act(writer)
        except (Exception, Crash) as error:
            if not (self.watch.struck and isinstance(error.__cause__ or error, (OSError, Crash))):
                raise
            self.counts[self.watch.kind] += 1
            return False
        finally:
            self.watch.begin()
            if fault and fault[1] == "crash":
                pass_on_to_another_process()
                self.store = Store(self.folder / "store")
        return True

    def becomes(self, done: bool, after: Held) -> None:
        """What is done is there; what is not may be."""
        if done or stored_ratings(self.store, self.store.head()) == after.ratings:
            self.held = after

    def ingest(self, name: str, rows: Rows, fault: Fault) -> None:
        path = self.folder / f"{name}.jsonl"
        records = [
            {"prompt": f"Prompt {prompt}", "response": f"Answer {answer}", **DATASETS[name](rating)}
            for (prompt, answer), rating in rows.items()
        ]
        path.write_text("".join(f"{json.dumps(record)}\n" for record in records))
        source = find_source(name)
        files = DatasetFiles(source, path, complete_options(source, {}))
        done = self.change(fault, lambda writer: ingest_dataset(writer, files, splits=SplitFractions()))
        self.becomes(done, Held({**self.held.datasets, name: dict(rows)}))

    @rule(name=names, rows=rows, fault=fault)
    def put(self, name: str, rows: Rows, fault: Fault) -> None:
        self.ingest(name, rows, fault)

    @precondition(lambda self: self.held.datasets)
    @rule(data=st.data(), changes=rows, fault=fault)
    def edit(self, data: st.DataObject, changes: Rows, fault: Fault) -> None:
        """Adds rows and changes ratings; takes out what there is already with that rating."""
        name = data.draw(st.sampled_from(sorted(self.held.datasets)))
        before = self.held.datasets[name]
        kept = {key: rating for key, rating in before.items() if changes.get(key) != rating}
        added = {key: rating for key, rating in changes.items() if before.get(key) != rating}
        if kept | added:
            self.ingest(name, kept | added, fault)

    @precondition(lambda self: self.held.datasets)
    @rule(data=st.data(), fault=fault)
    def delete(self, data: st.DataObject, fault: Fault) -> None:
        after = self.held.without(data.draw(st.sampled_from(sorted(self.held.datasets))))
        self.becomes(self.change(fault, lambda writer: forget_unconfigured(writer, after.datasets)), after)

    @rule(size=st.integers(1, 5), fault=fault)
    def embed(self, size: int, fault: Fault) -> None:
        done = self.change(
            fault,
            lambda writer: embed.embed_missing(
                writer, BackboneSettings(str(self.backbone)), embed.EmbedSettings(shard_conversations=size)
            ),
        )
        after = self.embedded | self.held.texts
        there = stored_texts(self.store)
        assert there == after if done else self.embedded <= there <= after
        self.embedded = there

    @rule(name=st.sampled_from("abc"), fault=fault)
    def tag(self, name: str, fault: Fault) -> None:
        head = self.store.head()
        if not head.number:
            return
        done = self.change(fault, lambda writer: pointers.tag(writer, name, head))
        pointer = self.store.head().pointers.get(name)
        if done or (pointer and pointer.number == head.number):
            self.tags[name] = replace(self.held)

    @precondition(lambda self: self.tags)
    @rule(data=st.data(), fault=fault)
    def untag(self, data: st.DataObject, fault: Fault) -> None:
        name = data.draw(st.sampled_from(sorted(self.tags)))
        if self.change(fault, lambda writer: pointers.untag(writer, name)) or name not in self.store.head().pointers:
            del self.tags[name]

    @rule(keep_last=st.integers(1, 3), trash_days=st.sampled_from([0, 7]), fault=fault)
    def collect(self, keep_last: int, trash_days: float, fault: Fault) -> None:
        little = RetentionSettings(keep_days=0, keep_last=keep_last, grace_hours=0, trash_days=trash_days)
        self.change(fault, lambda writer: collect(writer, little, now=LATER), kind="gc")

    @invariant()
    def nothing_else_is_there(self) -> None:
        for store in (self.store, Store(self.folder / "store")):
            assert stored_ratings(store, store.head()) == self.held.ratings
            assert store.head().pointers.keys() == self.tags.keys()
            for name, held in self.tags.items():
                assert stored_ratings(store, store.snapshot(name)) == held.ratings
        assert stored_texts(self.store) == self.embedded
        assert verify(self.store).damages == ()

    def teardown(self) -> None:
        try:
            self._compare_by_sql()
        finally:
            self.opened.close()
            shutil.rmtree(self.folder)

    def _compare_by_sql(self) -> None:
        store = Store(self.folder / "store")
        with connect(store) as catalog:
            conversations = catalog.execute("SELECT 'conversation', conversation_id FROM conversations").fetchall()
            texts = catalog.execute("SELECT kind, id FROM features").fetchall()
        assert len(conversations) == len(set(conversations))
        assert set(conversations) == {text for text in self.held.texts if text[0] == "conversation"}
        assert (len(texts), set(texts)) == (len(self.embedded), self.embedded)
        for shards in shards_of(store.head()):
            reader = FeatureReader(store, shards.backbone_id)
            for kind, id in self.embedded:
                assert np.array_equal(reader.gather(kind, [id])[0], vector(id))  # type: ignore[arg-type]


def drive(monkeypatch: pytest.MonkeyPatch, folder: Path, *, n_examples: int, n_steps: int) -> None:
    monkeypatch.setattr(chunks, "plan_texts", fake_texts)
    monkeypatch.setattr(chunks, "run_passes", fake_passes)
    monkeypatch.setattr(embed, "take_canaries", lambda *_, **__: None)
    monkeypatch.setattr(embed, "check_canaries", lambda *_, **__: 0.0)
    monkeypatch.setattr(backbone, "load", lambda _, fingerprint: SimpleNamespace(fingerprint=fingerprint))
    StoreMachine.backbone = tiny.write_backbone(folder / "backbone")
    run_state_machine_as_test(
        StoreMachine,
        settings=settings(
            max_examples=n_examples,
            stateful_step_count=n_steps,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_a_store_holds_what_it_was_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    drive(monkeypatch, tmp_path, n_examples=20, n_steps=8)


@pytest.mark.slow
def test_a_store_holds_what_it_was_told_500_times(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    drive(monkeypatch, tmp_path, n_examples=500, n_steps=12)
    print(dict(StoreMachine.counts))
