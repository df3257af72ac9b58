"""The pipeline as plain function calls, for a scheduler that is not Prefect: python plain.py armorm.toml

Each function is what the flow of that name calls; it does nothing where nothing has changed, and commits what it
makes. So a scheduler may run this as one job, or its parts as jobs one after the other, and repeat any of them.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from armorm.errors import ArmormError
from armorm.features.checks.quality import QUALITY, require_passed
from armorm.features.embedding.embed import embed_missing
from armorm.features.embedding.fingerprint import read_fingerprint
from armorm.features.errors import FeatureStoreError, HubUnreachable, StoreBusy
from armorm.features.ingest.dataset import forget_unconfigured, ingest_dataset
from armorm.features.ingest.hub import download_dataset
from armorm.features.store import Done, Writer
from armorm.features.store.freshness import RUN, record_success
from armorm.flows.configuration.settings import Settings, check_trainable, load_settings
from armorm.release.report import write_report
from armorm.stages.model import write_model_folder
from armorm.stages.pipeline import computed
from armorm.stages.preconditions import require_data


def ingest(writer: Writer, settings: Settings) -> Iterator[Done]:
    """Native files to tables, then the checks of them, then the prompts to leave out."""
    uris = {name: of.uri for name, of in settings.datasets.items() if of.uri}
    fetched = {name: download_dataset(uri, settings.hub_patterns(name)) for name, uri in uris.items()}
    forget_unconfigured(writer, settings.datasets)
    for name in settings.datasets:
        yield ingest_dataset(writer, settings.dataset(name, fetched.get(name)), splits=settings.split)
    for stage in computed("check"):
        yield stage.ensure(writer, stage.settings_in(settings))
        if stage is QUALITY:
            require_passed(QUALITY.told(writer.store, writer.store.head().artifacts[stage.name]))


def train(writer: Writer, settings: Settings) -> Iterator[Done]:
    """Every stage of the training, the model's folder, its figures and their report."""
    backbone_id = read_fingerprint(settings.local_backbone()).backbone_id
    for stage in computed("train"):
        yield stage.ensure(writer, stage.settings_in(settings), backbone_id)
    write_model_folder(writer.store, settings.models_path)
    for stage in computed("evaluate"):
        yield stage.ensure(writer, stage.settings_in(settings), backbone_id)
    write_report(writer.store, settings.models_path)


def run(config: Path) -> None:
    """All of it, with a line for each stage that had something to do."""
    settings = load_settings(config)
    check_trainable(settings)
    with settings.open_store().writing("plain.py") as writer:
        for done in ingest(writer, settings):
            _say(done)
        require_data(writer.store, writer.store.head(), settings.decorrelation, settings.gate)
        embedded = embed_missing(writer, settings.local_backbone(), settings.embed)
        print(f"embed: {embedded.n_conversations} conversations and {embedded.n_prompts} prompts")
        for done in train(writer, settings):
            _say(done)
        record_success(writer, RUN)  # which `armorm status --max-age` looks at


def _say(done: Done) -> None:
    if done.reason:
        print(f"{done.artifact.recipe.slot}: made ({done.reason})")


if __name__ == "__main__":
    try:
        run(Path(sys.argv[1]))
    except (HubUnreachable, StoreBusy) as error:
        print(error, file=sys.stderr)
        sys.exit(os.EX_TEMPFAIL)  # 75: the same later may succeed
    except (ArmormError, FeatureStoreError, OSError) as error:
        print(error, file=sys.stderr)
        sys.exit(1)
