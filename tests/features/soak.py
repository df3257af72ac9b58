"""What is killed: the pipeline from native files to an evaluated model, stage by stage, in a process of its own.

Processes are forked off one that has imported all this and has no threads, so one costs next to nothing. What is
committed they tell to whoever holds the other end of a pipe, before they go on.
"""

import random
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from armorm.config import DecorrelationConfig, EvaluationConfig, GateConfig, PreferenceConfig, RegressionConfig
from armorm.features.catalog import notebook
from armorm.features.checks.contamination import CONTAMINATION, ContaminationSettings
from armorm.features.conversation import SplitFractions
from armorm.features.embedding import backbone  # what is imported here is not imported by every process
from armorm.features.embedding.embed import EmbedSettings, embed_missing
from armorm.features.embedding.fingerprint import BackboneSettings, read_fingerprint
from armorm.features.embedding.packs import Pack
from armorm.features.errors import NotInStore, StoreBusy
from armorm.features.ingest.dataset import DatasetFiles, ingest_dataset
from armorm.features.sources import complete_options, find_source
from armorm.features.store import Artifact, Recipe, Run, Store, Writer, pointers
from armorm.features.upkeep.gc import RetentionSettings, collect
from armorm.features.upkeep.verify import verify
from armorm.stages.decorrelate import DECORRELATE
from armorm.stages.evaluate import EVALUATE
from armorm.stages.gate import GATE
from armorm.stages.model import MODEL
from armorm.stages.preference import PREFERENCE_STAGE
from armorm.stages.regress import REGRESS
from armorm.stages.statistics import STATISTICS

DATASETS: Final = ("helpsteer", "ultrafeedback", "beavertails-30k", "hh-rlhf", "rewardbench")

KEEP_LITTLE: Final = RetentionSettings(keep_days=0, keep_last=2, grace_hours=0, trash_days=0)

GATE_CONFIG: Final = GateConfig(hidden_dim=8, n_hidden=1, steps=10, batch_size=32)

TAG: Final = "done"


class Teller:
    """An observer that tells what was committed."""

    def __init__(self, tell: Connection) -> None:
        self._tell = tell

    def started(self, run: Run, recipe: Recipe) -> None: ...

    def failed(self, run: Run, recipe: Recipe, error: BaseException) -> None: ...

    def completed(self, run: Run, artifact: Artifact) -> None:
        self._tell.send(("committed", artifact.recipe.slot, artifact.artifact_id))


def ingest_all(writer: Writer, folder: Path) -> None:
    """The sample's datasets."""
    for name in DATASETS:
        source = find_source(name)
        dataset = DatasetFiles(source, folder / "data" / name, complete_options(source, {}))
        ingest_dataset(writer, dataset, splits=SplitFractions())


def stages(folder: Path) -> Mapping[str, Callable[[Writer], object]]:
    """All of them in order, over the sample in `folder`."""
    settings = BackboneSettings(str(folder / "backbone"), max_tokens=48)

    def ingest(writer: Writer) -> None:
        ingest_all(writer, folder)
        CONTAMINATION.ensure(writer, ContaminationSettings())

    def embed(writer: Writer) -> None:
        embed_missing(writer, settings, EmbedSettings(shard_conversations=64))

    def train(writer: Writer) -> None:
        id = read_fingerprint(settings).backbone_id
        STATISTICS.ensure(writer, None, id)
        REGRESS.ensure(writer, RegressionConfig(), id)
        PREFERENCE_STAGE.ensure(writer, PreferenceConfig(), id)
        DECORRELATE.ensure(writer, DecorrelationConfig(), id)
        GATE.ensure(writer, GATE_CONFIG, id)
        MODEL.ensure(writer, None, id)
        EVALUATE.ensure(writer, EvaluationConfig(n_resamples=20), id)

    def tag(writer: Writer) -> None:
        if TAG not in writer.store.head().pointers:
            pointers.tag(writer, TAG, writer.store.head())

    return {"ingest": ingest, "embed": embed, "train": train, "tag": tag}


def run_line(place: Path, folder: Path, tell: Connection, seed: int) -> None:
    """Every stage, then a collection; waits for whoever else writes."""
    store = Store(place)
    with store.writing("line", wait_s=600, observers=[Teller(tell)]) as writer:
        for name, stage in stages(folder).items():
            tell.send(("begins", name, time.monotonic()))
            stage(writer)
        tell.send(("tagged", TAG))
    tell.send(("begins", "gc", time.monotonic()))
    with store.writing("line", wait_s=600, kind="gc") as writer:
        collect(writer, KEEP_LITTLE)
    tell.send(("begins", "end", time.monotonic()))


def collect_always(place: Path, folder: Path, tell: Connection, seed: int) -> None:
    """Collects whenever nobody writes; a moment after another process is killed, that is."""
    while True:
        try:
            with Store(place).writing("collector", kind="gc") as writer:
                collect(writer, KEEP_LITTLE)
        except StoreBusy:
            time.sleep(0.01)


def read_always(place: Path, folder: Path, tell: Connection, seed: int) -> None:
    """Verifies, asks and gathers; whatever it finds wrong ends it with an error."""
    while True:
        store = Store(place)
        snapshot = store.head()
        if not snapshot.number:
            continue
        assert verify(store).damages == ()
        try:
            _use(place, snapshot.number)
        except NotInStore:
            if not Store(place).manifests.read(snapshot.number).expired:  # before there was a lease on it
                raise


def _use(place: Path, number: int) -> None:
    with notebook.connect(place, at=str(number)) as opened:
        ids = [id for (id,) in opened.sql("SELECT conversation_id FROM conversations ORDER BY 1").fetchall()]
        opened.sql("SELECT count(*) FROM ratings JOIN preferences USING (prompt_id)").fetchall()
        embedded = {id for (id,) in opened.sql("SELECT id FROM features WHERE kind = 'conversation'").fetchall()}
        if present := [id for id in ids if id in embedded]:
            drawn = random.sample(present, min(5, len(present)))
            assert opened.vectors(drawn).any(axis=1).all()


def embed_in_small_passes(place: Path, folder: Path, tell: Connection, seed: int) -> None:
    """Embeds all that the store holds, and tells of each pass before it begins.

    Shards of some hundred milliseconds and parts of some ten stand for shards of minutes and parts of half a minute.
    """
    forward = backbone.forward

    def telling(model: Any, last_layer: Any, pack: Pack) -> Any:
        if len(pack.features[0].id) == 32:  # of texts, and not those that loading probes with, nor canaries
            tell.send(("forwards", pack.n_tokens))
        return forward(model, last_layer, pack)

    backbone.forward = telling  # in a process of its own
    settings = EmbedSettings(token_budget=512, shard_conversations=128, save_every_s=0.05)
    with Store(place).writing("embed", wait_s=600) as writer:
        embed_missing(writer, BackboneSettings(str(folder / "backbone")), settings)


ROLES: Final[Mapping[str, Callable[[Path, Path, Connection, int], None]]] = {
    "line": run_line,
    "collector": collect_always,
    "reader": read_always,
    "embed": embed_in_small_passes,
}


def work(role: str, place: Path, folder: Path, tell: Connection, seed: int) -> None:
    """What a process does from its beginning."""
    random.seed(seed)
    ROLES[role](place, folder, tell, seed)


def undisturbed(place: Path, folder: Path, tell: Connection) -> None:
    """The line, and the id that it ends in."""
    run_line(place, folder, tell, 0)
    tell.send(("id", Store(place).head().snapshot_id))


def told(hear: Connection) -> list[tuple[Any, ...]]:
    """What has come through the pipe by now."""
    messages = []
    try:
        while hear.poll():
            messages.append(hear.recv())
    except EOFError:  # the other end is closed, or was killed in the middle of a message
        pass
    return messages
