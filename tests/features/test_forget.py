"""`forget`: a row or a prompt is in no later snapshot, and only what holds it is read again."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from armorm.features.catalog.query import query
from armorm.features.conversation import SplitFractions, prompt_id, single_turn
from armorm.features.embedding.embed import EmbedSettings, embed_missing
from armorm.features.embedding.fingerprint import BackboneSettings
from armorm.features.errors import InputError
from armorm.features.ingest.dataset import DatasetFiles, ingest_dataset, rules_of
from armorm.features.ingest.forgotten import Forgotten, read_entries, read_forgotten
from armorm.features.ingest.normalise import Rules
from armorm.features.lineage.forget import LeftVector, forget, left_vectors, replace_shards
from armorm.features.lineage.impact import Key, impact
from armorm.features.sources import complete_options, find_source
from armorm.features.store import Made, Recipe, Writer
from armorm.features.vectors.shards import Name, put_vectors
from armorm.stages.pipeline import PIPELINE
from tests.features import tiny

pytestmark = pytest.mark.usefixtures("in_process")

SECRET = "Where does Ada live?"
NAMES = ("helpsteer", "beavertails-30k", "hh-rlhf")


def helpsteer(prompt: str, response: str, raw: int) -> dict[str, Any]:
    names = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
    return {"prompt": prompt, "response": response} | dict.fromkeys(names, raw)


def safety(prompt: str, response: str, **cells: Any) -> dict[str, Any]:
    return {"prompt": prompt, "response": response, "is_safe": True} | cells


ROWS: dict[str, list[dict[str, Any]]] = {
    "helpsteer": [helpsteer(SECRET, "In a house.", 3), helpsteer(SECRET, "No idea.", 1), helpsteer("p", "a", 2)],
    "beavertails-30k": [safety("p", "a"), safety("p", "b"), safety("q", "c")],
    "hh-rlhf": [
        {"chosen": f"\n\nHuman: {question}\n\nAssistant: yes", "rejected": f"\n\nHuman: {question}\n\nAssistant: no"}
        for question in ("p", "q")
    ],
}


class Home:
    """A store and the files that it is made of."""

    def __init__(self, writer: Writer, folder: Path) -> None:
        self.writer, self.store, self.folder = writer, writer.store, folder

    def ingest(self) -> dict[str, str | None]:
        """Reads every dataset; says why each was read."""
        return {name: ingest_dataset(self.writer, self.files(name), splits=SplitFractions()).reason for name in NAMES}

    def files(self, name: str) -> DatasetFiles:
        source = find_source(name)
        return DatasetFiles(source, self.folder / f"{name}.jsonl", complete_options(source, {}))

    def write(self, **changed: list[dict[str, Any]]) -> None:
        for name, rows in {**ROWS, **{name.replace("_", "-"): rows for name, rows in changed.items()}}.items():
            (self.folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))

    def forget(self, key: str) -> list[str]:
        """Which datasets are to be read again."""
        return list(forget(self.writer, key, "asked", self.rules(), stages=PIPELINE).affected)

    def rules(self) -> dict[str, Rules]:
        return {name: rules_of(self.files(name), SplitFractions(), Forgotten()) for name in NAMES}

    def row(self, dataset: str, line: int) -> str:
        sql = f"SELECT source_row FROM native_rows WHERE dataset = '{dataset}' AND line = {line}"
        ((id,),) = query(self.store, sql).rows
        return str(id)

    def objects(self) -> dict[str, Any]:
        """What each dataset's tables are kept in."""
        return {name: dict(artifact.objects) for name, artifact in self.store.head().within("ingest").items()}

    def text(self) -> str:
        """All that the newest snapshot holds in words."""
        return str([query(self.store, f"FROM {view}").rows for view in ("conversations", "rejects", "native_rows")])


@pytest.fixture
def home(writer: Writer, tmp_path: Path) -> Home:
    home = Home(writer, tmp_path)
    home.write()
    home.ingest()
    return home


def test_a_forgotten_row_is_gone_and_counted(home: Home) -> None:
    before, id = home.objects(), home.row("helpsteer", 1)
    assert home.forget(id[:10]) == ["helpsteer"]
    reasons = home.ingest()
    assert "forgotten" in str(reasons.pop("helpsteer"))
    assert reasons == {
        "beavertails-30k": None,
        "hh-rlhf": None,
    }
    assert "In a house." not in home.text()
    assert "No idea." in home.text()
    assert query(home.store, "SELECT rows, kept, rejected, dropped FROM datasets WHERE dataset = 'helpsteer'").rows == [
        (3, 2, 0, 1)
    ]
    assert query(home.store, f"SELECT outcome, reason FROM native_rows WHERE source_row = '{id}'").rows == [
        ("dropped", "forgotten")
    ]
    assert query(home.store, "FROM preferences WHERE dataset = 'helpsteer'").rows == []
    after = home.objects()
    assert [name for name in NAMES if after[name] != before[name]] == ["helpsteer"]
    (entry,) = read_entries(home.store)
    assert (entry.kind, entry.id, entry.reason) == ("row", id, "asked")


def test_a_forgotten_prompt_is_gone_from_every_dataset(home: Home) -> None:
    assert home.forget(prompt_id(single_turn("p", ""))) == sorted(NAMES)
    home.ingest()
    rows = query(home.store, "SELECT dataset, kept, dropped FROM datasets ORDER BY 1").rows
    assert rows == [("beavertails-30k", 1, 2), ("helpsteer", 2, 1), ("hh-rlhf", 1, 1)]
    sql = "SELECT count(*) FROM conversations WHERE messages[1].content = 'p'"
    assert query(home.store, sql).rows == [(0,)]


def test_what_was_refused_is_forgotten_too(home: Home) -> None:
    """Refused rows are kept as they stood: by row whatever is wrong with them, by prompt if there is one to be read."""
    home.write(beavertails_30k=[*ROWS["beavertails-30k"], safety(SECRET, "x", is_safe="maybe"), {"response": SECRET}])
    home.ingest()
    assert home.text().count(SECRET) == 4
    assert home.forget(prompt_id(single_turn(SECRET, ""))) == ["beavertails-30k", "helpsteer"]
    home.ingest()
    assert home.text().count(SECRET) == 1
    assert home.forget(home.row("beavertails-30k", 5)) == ["beavertails-30k"]
    home.ingest()
    assert SECRET not in home.text()
    rows = query(
        home.store, "SELECT rows, kept, rejected, dropped FROM datasets WHERE dataset = 'beavertails-30k'"
    ).rows
    assert rows == [(5, 3, 0, 2)]


def test_the_list_stands_through_all_that_follows(home: Home) -> None:
    """Also for rows that come back, with a dataset that could not be read when the row was forgotten."""
    row = home.row("helpsteer", 1)
    home.forget(row)
    assert home.forget(home.row("beavertails-30k", 3)) == ["beavertails-30k", "helpsteer"], "it was not read since"
    home.ingest()
    assert [entry.kind for entry in read_entries(home.store)] == ["row", "row"]
    home.write(helpsteer=[*ROWS["helpsteer"], helpsteer("new", "n", 0)])
    assert home.ingest()["helpsteer"]
    assert "In a house." not in home.text()
    n_snapshots = home.store.head().number
    assert home.ingest() == dict.fromkeys(NAMES)
    assert home.store.head().number == n_snapshots
    assert home.forget(row) == [], "it was forgotten before, and older snapshots alone still hold it"
    assert len(read_entries(home.store)) == 2


def test_vectors_that_are_left_are_named(home: Home, tmp_path: Path) -> None:
    backbone = BackboneSettings(str(tiny.write_backbone(tmp_path / "backbone")))
    embed_missing(home.writer, backbone, EmbedSettings())
    shared, alone = home.row("helpsteer", 3), home.row("beavertails-30k", 3)
    for row in (shared, alone):
        home.forget(row)
    home.ingest()
    assert left_vectors(home.store, Key("row", shared)) == []
    (slot,) = (slot for slot in home.store.head().artifacts if slot.startswith("features/"))
    left = left_vectors(home.store, Key("row", alone))
    (id,) = {v.id for v in left}
    assert left == [LeftVector(slot, "conversation", id)], "the prompt is another row's as well"
    before = set(query(home.store, "SELECT kind, id, vector FROM features").rows)
    replace_shards(home.writer, left)
    assert left_vectors(home.store, Key("row", alone)) == []
    after = set(query(home.store, "SELECT kind, id, vector FROM features").rows)
    assert {(kind, gone) for kind, gone, _ in before - after} == {("conversation", id)}
    assert after < before
    n_snapshots = home.store.head().number
    assert embed_missing(home.writer, backbone, EmbedSettings()).n_shards == 0
    assert home.store.head().number == n_snapshots + 1, "that all have their vectors is said anew"


def test_a_rejected_text_is_forgotten_as_well(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is recorded of it says what the text was; a part of a shard that holds a vector of it goes."""
    monkeypatch.setattr("armorm.features.embedding.vectors.unusable", lambda vectors, _: ["not_finite"] * len(vectors))
    backbone = BackboneSettings(str(tiny.write_backbone(tmp_path / "backbone")))
    embed_missing(home.writer, backbone, EmbedSettings())
    (slot,) = (slot for slot in home.store.head().artifacts if slot.startswith("rejected/"))
    ((conversation,),) = query(
        home.store, "SELECT source_row FROM rejects WHERE scope = 'conversation' AND contains(raw, 'In a house.')"
    ).rows
    names: list[Name] = [("conversation", conversation)]
    part = Made({"part": put_vectors(home.store, names, [np.ones(4, np.float32)])})
    unfinished = f"unfinished/{slot.split('/')[1]}/some/000000"
    home.writer.commit(Recipe(unfinished, "unfinished", 1, {}, {}), part)
    ((n_rejects,),) = query(home.store, "SELECT count(*) FROM rejects").rows
    row = home.row("helpsteer", 1)
    home.forget(row)
    home.ingest()
    assert "In a house." in home.text()
    left = left_vectors(home.store, Key("row", row))
    assert {(of.slot, of.id, of.rejected) for of in left} == {
        (slot, conversation, True),
        (unfinished, conversation, False),
    }
    replace_shards(home.writer, left)
    assert "In a house." not in home.text()
    assert query(home.store, "SELECT count(*) FROM rejects").rows == [(n_rejects - 1,)]
    assert unfinished not in home.store.head().artifacts
    assert left_vectors(home.store, Key("row", row)) == []


def test_only_rows_and_prompts_can_be_forgotten(home: Home) -> None:
    ((pair, row),) = query(home.store, "SELECT pair_id, source_row FROM preferences WHERE dataset = 'helpsteer'").rows
    with pytest.raises(InputError, match=rf"\bpair {pair};.* {row.replace('+', ', ')}$"):
        home.forget(pair)
    assert read_forgotten(home.store) == Forgotten()
    assert impact(home.store, pair, stages=PIPELINE).retrain == []
