"""OpenLineage's own JSON schemas, where a copy of its `spec/` folder is named in OPENLINEAGE_SPEC.

None is kept here: `git clone https://github.com/OpenLineage/OpenLineage` and name `OpenLineage/spec`.
"""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

Json = dict[str, Any]


class Spec:
    """The schemas by the address that events name them by."""

    def __init__(self, folder: Path) -> None:
        schemas = [
            json.loads(path.read_text()) for path in [folder / "OpenLineage.json", *folder.glob("facets/*.json")]
        ]
        self._by_id = {schema["$id"]: schema for schema in schemas}
        resources = [(id, Resource.from_contents(schema)) for id, schema in self._by_id.items()]
        self._registry: Registry[Any] = Registry().with_resources(resources)

    def errors(self, event: Json) -> list[str]:
        """What is wrong with an event, and with each facet by the schema that it names; none if it is valid."""
        found = self._errors({"$ref": event["schemaURL"]}, event)
        for name, facet in facets_of(event):
            id = facet["_schemaURL"].partition("#")[0]
            if id not in self._by_id:
                found.append(f"{name}: no schema {id}")
                continue
            found += self._errors({"$ref": facet["_schemaURL"]}, facet)
            found += self._errors(self._by_id[id], {name: facet})  # which also says how the facet is to be called
            if name not in self._by_id[id]["properties"]:
                found.append(f"{name}: expected {', '.join(self._by_id[id]['properties'])}")
        return found

    def _errors(self, schema: Mapping[str, Any], value: Any) -> list[str]:
        checker = Draft202012Validator.FORMAT_CHECKER
        validator = Draft202012Validator(schema, registry=self._registry, format_checker=checker)
        return [f"{'/'.join(map(str, error.path))}: {error.message}" for error in validator.iter_errors(value)]


def facets_of(event: Json) -> Iterator[tuple[str, Json]]:
    """Every facet of an event, by its name."""
    holders = [event["run"], event["job"], *event["inputs"], *event["outputs"]]
    for holder in holders:
        for kind in ("facets", "inputFacets", "outputFacets"):
            yield from holder.get(kind, {}).items()


def official_spec() -> Spec:
    """The official schemas; the test is skipped where they are not named."""
    if "OPENLINEAGE_SPEC" not in os.environ:
        pytest.skip("OPENLINEAGE_SPEC names no copy of OpenLineage's spec/")
    return Spec(Path(os.environ["OPENLINEAGE_SPEC"]))
