"""The whole line as plain function calls, for a scheduler that is not Prefect: python plain.py armorm.toml

Each function is what the flow of that name calls; it does nothing where nothing has changed, and commits what it
makes. So a scheduler may run this as one job, or its parts as jobs one after the other, and repeat any of them.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from armorm.errors import ArmormError
from armorm.features.checks.contamination import find_contamination
from armorm.features.checks.quality import check_quality, read_results, require_passed
from armorm.features.embedding.embed import embed_missing
from armorm.features.embedding.fingerprint import fingerprint
from armorm.features.errors import FeatureStoreError, HubUnreachable, StoreBusy
from armorm.features.ingest.dataset import forget_unconfigured, ingest_dataset
from armorm.features.ingest.hub import download_dataset
from armorm.features.store import Done, Writer
from armorm.features.store.freshness import RUN, record_success
from armorm.flows.configuration.settings import Settings, check_trainable, load_settings
from armorm.stages.decorrelate import decorrelate
from armorm.stages.evaluate import evaluate
from armorm.stages.gate import train_gate
from armorm.stages.model import assemble, write_model_folder
from armorm.stages.preconditions import require_data
from armorm.stages.regress import regress
from armorm.stages.report import write_report
from armorm.stages.statistics import update_statistics


def ingest(writer: Writer, settings: Settings) -> Iterator[Done]:
    """Native files to tables, then the checks of them, then the prompts to leave out."""
    uris = {name: of.uri for name, of in settings.datasets.items() if of.uri}
    fetched = {name: download_dataset(uri, settings.hub_patterns(name)) for name, uri in uris.items()}
    forget_unconfigured(writer, settings.datasets)
    for name in settings.datasets:
        yield ingest_dataset(writer, settings.dataset(name, fetched.get(name)), splits=settings.split)
    checked = check_quality(writer, settings.checks)
    require_passed(read_results(writer.store, checked.artifact))
    yield checked
    yield find_contamination(writer, settings.contamination)


def train(writer: Writer, settings: Settings) -> Iterator[Done]:
    """Statistics, regression, decorrelation, gate, the model and its figures."""
    backbone_id = fingerprint(settings.local_backbone()).backbone_id
    yield update_statistics(writer, backbone_id)
    yield regress(writer, backbone_id, settings.regression)
    yield decorrelate(writer, backbone_id, settings.decorrelation)
    yield train_gate(writer, backbone_id, settings.gate)
    yield assemble(writer, backbone_id)
    write_model_folder(writer.store, settings.models_path)
    yield evaluate(writer, backbone_id, settings.evaluation)
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
