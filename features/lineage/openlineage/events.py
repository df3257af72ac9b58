"""What a stage read and made, as OpenLineage events: values in, values out, nothing is sent here.

Only ids, names, counts and columns go into an event. Settings, summaries and the text of errors may quote a
conversation or hold a secret, so none of them does. Needs the client of OpenLineage.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import reduce
from itertools import chain
from typing import Final, Literal

import pyarrow as pa
from openlineage.client import event_v2 as ol
from openlineage.client import facet_v2 as facets
from openlineage.client.facet_v2 import base_subset_dataset as subset
from openlineage.client.uuid import generate_static_uuid

from armorm.features.store import Artifact, ObjectRef, Recipe, Run, content_id
from armorm.features.store.json_records import read_summary
from armorm.features.store.stage import Stage
from armorm.features.store.storage import without_credentials
from armorm.features.store.summaries import IngestSummary
from armorm.features.tables import SCHEMAS
from armorm.features.vectors.shards import SLOT as SHARDS

INTEGRATION: Final = "ARMORM"

SHARD_COLUMNS: Final[Mapping[str, str]] = {
    "kind": "string",
    "id": "string",
    "n_tokens": "int32",
    "truncated": "bool",
    "norm": "float",
    "vector": "fixed_size_list<item: float>",
}
"""The fields of a feature shard; how long its vectors are is the backbone's affair."""

NATIVE_FILE: Final = re.compile(r"file \d+\b")
"""How recipes name native files among their inputs; all else there are slots."""

Condition = subset.BaseSubsetCondition
Field = facets.schema_dataset.SchemaDatasetFacetFields


@dataclass(frozen=True, slots=True)
class Place:
    """A dataset of OpenLineage, and which part of it is meant."""

    dataset: str
    dimension: str = ""
    """What its parts are: `file`, `shard` or `backbone`."""
    part: str = ""
    """Empty where the whole dataset is meant."""


def place_of(slot: str) -> Place:
    """Return the dataset that a slot belongs to: itself, but for those of which there are many alike."""
    match slot.split("/"):
        case [first, backbone_id, shard] if first == SHARDS:
            return Place(f"{SHARDS}/{backbone_id}", "shard", shard)
        case ["backbone", backbone_id]:
            return Place("backbone", "backbone", backbone_id)
        case _:
            return Place(slot)


def kind_of(error: BaseException) -> str:
    """Return an error's class and its documentation's first line, never its text, which may quote data."""
    kind = type(error)
    lines = (kind.__doc__ or "").strip().splitlines()
    name = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
    return f"{name}: {lines[0]}" if lines else name


@dataclass(frozen=True, slots=True)
class Events:
    """The maker of events of the runs that write to one store."""

    namespace: str
    """The namespace of jobs."""
    store: str
    """The namespace of datasets."""
    stages: Mapping[str, Stage]
    """The stages by the name that recipes have for them."""

    def start(self, run: Run, recipe: Recipe) -> ol.RunEvent:
        """Return the event of a stage that has begun."""
        return self._event(ol.RunState.START, run, recipe, self._output(recipe))

    def complete(self, run: Run, artifact: Artifact) -> ol.RunEvent:
        """Return the event of a stage that has made an artifact."""
        output = self._output(artifact.recipe)
        output.facets = _dataset_facets(self.store, artifact.artifact_id) | {
            "schema": facets.schema_dataset.SchemaDatasetFacet(fields=_fields(artifact.objects))
        }
        output.outputFacets = (output.outputFacets or {}) | {"outputStatistics": _statistics(artifact)}
        return self._event(ol.RunState.COMPLETE, run, artifact.recipe, output, origin=_origin(artifact))

    def fail(self, run: Run, recipe: Recipe, error: BaseException) -> ol.RunEvent:
        """Return the event of a stage that has ended in an error."""
        event = self._event(ol.RunState.FAIL, run, recipe, self._output(recipe))
        message = facets.error_message_run.ErrorMessageRunFacet(message=kind_of(error), programmingLanguage="Python")
        event.run.facets = (event.run.facets or {}) | {"errorMessage": message}
        return _signed(event)

    def _event(
        self, state: ol.RunState, run: Run, recipe: Recipe, output: ol.OutputDataset, *, origin: str | None = None
    ) -> ol.RunEvent:
        event = ol.RunEvent(
            eventType=state,
            producer=_package(run),
            eventTime=datetime.now(UTC).isoformat(timespec="milliseconds"),
            run=ol.Run(run_uuid(run, recipe.slot), self._run_facets(run)),
            job=ol.Job(self.namespace, _job_name(recipe), self._job_facets(run, recipe)),
            inputs=list(self._inputs(recipe, origin)),
            outputs=[output],
        )
        return _signed(event)

    def _run_facets(self, run: Run) -> dict[str, facets.RunFacet]:
        parent = facets.parent_run
        return {
            "parent": parent.ParentRunFacet(parent.Run(run_uuid(run)), parent.Job(self.namespace, run.command)),
            "nominalTime": facets.nominal_time_run.NominalTimeRunFacet(nominalStartTime=run.started_at),
            "processing_engine": facets.processing_engine_run.ProcessingEngineRunFacet(
                name="armorm", version=run.code_version, openlineageAdapterVersion=run.code_version
            ),
        }

    def _job_facets(self, run: Run, recipe: Recipe) -> dict[str, facets.JobFacet]:
        tag = facets.tags_job.TagsJobFacetFields("stage_version", str(recipe.version), source=INTEGRATION)
        found: dict[str, facets.JobFacet] = {
            "jobType": facets.job_type_job.JobTypeJobFacet(
                processingType="BATCH", integration=INTEGRATION, jobType="STAGE"
            ),
            "tags": facets.tags_job.TagsJobFacet(tags=[tag]),
        }
        if code := self.stages.get(recipe.stage):
            path = f"{code.code.replace('.', '/')}.py"
            found["sourceCodeLocation"] = facets.source_code_location_job.SourceCodeLocationJobFacet(
                type="package", url=f"{_package(run)}#{path}", path=path, version=run.code_version
            )
        return found

    def _inputs(self, recipe: Recipe, origin: str | None) -> Iterator[ol.InputDataset]:
        """Yield an input for each dataset, whatever the number of its parts that the recipe names."""
        parts: dict[str, dict[Place, str]] = {}
        for name, id in recipe.inputs.items():
            native = NATIVE_FILE.match(name)
            place = Place(f"native/{recipe.slot.partition('/')[2]}", "file", name) if native else place_of(name)
            parts.setdefault(place.dataset, {})[place] = id
        for dataset, ids in parts.items():
            is_native = dataset.startswith("native/")
            described = _dataset_facets(origin if is_native else self.store, _version(ids))
            reads: dict[str, facets.InputDatasetFacet] = {}
            if conditions := [*_partitions(ids), *self._rows_read(dataset, recipe)]:
                reads["subset"] = subset.InputSubsetInputDatasetFacet(_joined("AND", conditions))
            yield ol.InputDataset(self.store, dataset, inputFacets=reads, facets=described)

    def _rows_read(self, dataset: str, recipe: Recipe) -> Iterator[Condition]:
        """Yield which rows of its files or tables enter the result, where it is not all of them."""
        if dataset.startswith("native/") and "share" in recipe.parameters:
            yield _compare("position(prompt_id, 'share')", "LESS_THAN", str(recipe.parameters["share"]))
        code = self.stages.get(recipe.stage)
        if dataset.startswith("ingest/") and code and code.splits:
            yield _joined("OR", [_compare("split", "EQUAL", split) for split in code.splits])

    def _output(self, recipe: Recipe) -> ol.OutputDataset:
        place = place_of(recipe.slot)
        written: dict[str, facets.OutputDatasetFacet] = {}
        if place.part:
            partition = subset.Partition(identifier=place.part, dimensions={place.dimension: place.part})
            condition = subset.PartitionSubsetCondition([partition])
            written["subset"] = subset.OutputSubsetOutputDatasetFacet(condition)
        return ol.OutputDataset(self.store, place.dataset, outputFacets=written, facets=_dataset_facets(self.store))


def run_uuid(run: Run, slot: str = "") -> str:
    """Return the UUID of a stage's run, or of its command: it follows from the run's id and sorts by time."""
    return str(generate_static_uuid(datetime.fromisoformat(run.started_at), f"{run.run_id}/{slot}".encode()))


def _dataset_facets(address: str | None, version: str | None = None) -> dict[str, facets.DatasetFacet]:
    """Return facets of where the data are and which version they have, as far as either is known."""
    found: dict[str, facets.DatasetFacet] = {}
    if address:
        found["dataSource"] = facets.datasource_dataset.DatasourceDatasetFacet(name=address, uri=address)
    if version:
        found["version"] = facets.dataset_version_dataset.DatasetVersionDatasetFacet(version)
    return found


def _job_name(recipe: Recipe) -> str:
    """Return the job's name: `ingest/helpsteer`, `embed/<backbone>`, `regress`."""
    _, slash, rest = place_of(recipe.slot).dataset.partition("/")
    return f"{recipe.stage}{slash}{rest}"


def _version(ids: Mapping[Place, str]) -> str:
    """Return the artifact's id; of several parts, an id over theirs."""
    return next(iter(ids.values())) if len(ids) == 1 else content_id({place.part: id for place, id in ids.items()})


def _partitions(ids: Mapping[Place, str]) -> Iterator[Condition]:
    named = [
        subset.Partition(identifier=place.part, dimensions={place.dimension: place.part, "version": id})
        for place, id in ids.items()
        if place.part
    ]
    if named:
        yield subset.PartitionSubsetCondition(named)


def _compare(field: str, comparison: str, value: str) -> Condition:
    return subset.CompareSubsetCondition(
        subset.FieldBaseCompareExpression(field), subset.LiteralCompareExpression(value), comparison
    )


def _joined(operator: Literal["AND", "OR"], conditions: Sequence[Condition]) -> Condition:
    return reduce(lambda left, right: subset.BinarySubsetCondition(left, right, operator), conditions)


def _fields(objects: Mapping[str, ObjectRef]) -> list[Field]:
    """Return the columns of the one table that an artifact is, or a field for each of its tables and records.

    A shard's index repeats what stands in the shard.
    """
    formats = {name.partition("/")[0]: ref.format for name, ref in objects.items() if name != "index"}
    fields = [_field(number, *named) for number, named in enumerate(formats.items(), start=1)]
    only = fields[0] if len(fields) == 1 else None
    return only.fields if only and only.fields else fields


def _field(number: int, name: str, format: str) -> Field:
    columns: Mapping[str, pa.DataType | str] = {}
    if name in SCHEMAS:
        columns = dict(zip(SCHEMAS[name].names, SCHEMAS[name].types, strict=True))
    elif format == "arrow":
        columns = SHARD_COLUMNS
    nested = [Field(column, str(type), ordinal_position=n) for n, (column, type) in enumerate(columns.items(), start=1)]
    return Field(name, format, ordinal_position=number, fields=nested)


def _statistics(artifact: Artifact) -> facets.OutputDatasetFacet:
    """Return bytes, files, and the rows of those tables that the artifact's summary counts."""
    tables = {name.partition("/")[0] for name in artifact.objects}
    counted = [artifact.summary[name] for name in ("rows", *sorted(tables)) if name in artifact.summary]
    rows = [count for count in counted if isinstance(count, int)]
    return facets.output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
        rowCount=sum(rows) if rows else None,
        size=sum(ref.size_bytes for ref in artifact.objects.values()),
        fileCount=len(artifact.objects),
    )


def _origin(artifact: Artifact) -> str | None:
    """Return where native files are from, as far as the artifact says it."""
    uri = read_summary(artifact, IngestSummary).origin.uri if artifact.recipe.stage == "ingest" else None
    return without_credentials(uri) if uri else None


def _package(run: Run) -> str:
    """Return the producer of events, as a package URL: an address that holds wherever the code is kept."""
    return f"pkg:generic/armorm@{run.code_version}"


def _signed(event: ol.RunEvent) -> ol.RunEvent:
    """Name the event's producer in each of its facets; the client could do so only for the whole process."""
    of_inputs = chain.from_iterable((dataset.facets, dataset.inputFacets) for dataset in event.inputs or [])
    of_outputs = chain.from_iterable((dataset.facets, dataset.outputFacets) for dataset in event.outputs or [])
    for group in chain((event.run.facets, event.job.facets), of_inputs, of_outputs):
        for facet in (group or {}).values():
            facet._producer = event.producer
    return event
