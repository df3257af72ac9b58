"""What `armorm run` would do: the files that it reads or fetches, and the stages that it runs."""

from collections.abc import Callable
from dataclasses import dataclass

from armorm.stages import evaluate
from armorm.stages.decorrelate import decorrelate
from armorm.stages.gate import train_gate
from armorm.stages.model import assemble
from armorm.stages.regress import regress
from features.contamination import find_contamination
from features.embedding.fingerprint import fingerprint
from features.ingest.dataset import data_files, ingest_dataset
from features.ingest.hub import download_dataset, parse_uri
from features.plan import Files, backbone_files, hub_files, local_files, why_embed, why_run
from features.quality import check_quality
from features.store import Done, Store, Writer
from flows.console import size
from flows.settings import Settings, check_trainable
from flows.steps import Step


@dataclass(frozen=True, slots=True)
class Plan:
    """The files of the datasets and of the backbone, and the stages with why each would run."""

    files: list[Files]
    steps: list[Step]


def plan_run(settings: Settings) -> Plan:
    """Asks the file system, the Hub and the store; what depends on a stage that would run is not known yet.

    Raises:
        ConfigError: a run would refuse the settings.
    """
    check_trainable(settings)
    store = settings.open_store()
    datasets = [_files(settings, name) for name in settings.datasets]
    backbone = backbone_files(settings.local_backbone())
    gone = sorted(store.head().within("ingest").keys() - settings.datasets.keys())
    steps = [
        *(_ingest(store, settings, files) for files in datasets),
        *(Step(f"ingest {name}", "no longer in the configuration", "leaves the snapshot") for name in gone),
    ]
    waiting = {"ingest"} if any(step.reason for step in steps) else set()
    if backbone.problem or backbone.missing_bytes:
        waiting |= {"fetching the backbone"}
    return Plan([*datasets, backbone], steps + _later(store, settings, waiting))


def _files(settings: Settings, name: str) -> Files:
    section = settings.datasets[name]
    if section.uri:
        return hub_files(name, parse_uri(section.uri), settings.hub_patterns(name))
    dataset = settings.dataset(name)
    return local_files(name, dataset.path, lambda: data_files(dataset))


def _ingest(store: Store, settings: Settings, files: Files) -> Step:
    name = f"ingest {files.name}"
    if files.problem:
        return Step(name, "cannot be told", files.problem)
    what = f"{files.n_files} files, {size(files.size_bytes)}"
    if files.missing_bytes:
        return Step(name, "not fetched yet", f"{what}, of which {size(files.missing_bytes)} are to be fetched")
    uri = settings.datasets[files.name].uri
    dataset = settings.dataset(files.name, download_dataset(uri, settings.hub_patterns(files.name)) if uri else None)
    return Step(name, why_run(store, lambda writer: ingest_dataset(writer, dataset, splits=settings.split)), what)


def _later(store: Store, settings: Settings, waiting: set[str]) -> list[Step]:
    """Every stage after ingest: why it would run, or what it waits for."""
    backbone_id = "" if waiting else fingerprint(settings.local_backbone()).backbone_id
    vector_type = settings.embed.vector_type_of(settings.backbone.dtype)

    def asked(stage: Callable[[Writer], Done]) -> Callable[[], str | None]:
        return lambda: why_run(store, stage)

    stages: dict[str, tuple[tuple[str, ...], Callable[[], str | None]]] = {
        "quality": (("ingest",), asked(lambda writer: check_quality(writer, settings.checks))),
        "contamination": (("ingest",), asked(lambda writer: find_contamination(writer, settings.contamination))),
        "embed": (
            ("ingest", "fetching the backbone"),
            lambda: why_embed(store, backbone_id, vector_type),
        ),
        "regress": (
            ("embed", "contamination"),
            asked(lambda writer: regress(writer, backbone_id, settings.regression)),
        ),
        "decorrelate": (
            ("regress",),
            asked(lambda writer: decorrelate(writer, backbone_id, settings.decorrelation)),
        ),
        "gate": (("decorrelate",), asked(lambda writer: train_gate(writer, backbone_id, settings.gate))),
        "model": (("gate",), asked(lambda writer: assemble(writer, backbone_id))),
        "evaluate": (("model",), asked(lambda writer: evaluate.evaluate(writer, backbone_id, settings.evaluation))),
    }
    steps = []
    for name, (after, why) in stages.items():
        waits_for = next((one for one in after if one in waiting), None)
        reason = f"after {waits_for}" if waits_for else why()
        steps.append(Step(name, reason, ""))
        waiting = waiting | {name} if reason else waiting
    return steps
