"""Texts that a backbone gives no usable vector for: recorded by name, shown in the view `rejects`, not tried again.

They stand beside the rows that ingest refused: `dataset` is the backbone (no dataset's name has a slash), `source_row`
the text's id, `scope` its kind, `raw` its messages.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from armorm.features.conversation import Conversation, canonical_bytes
from armorm.features.embedding.vectors import Reject
from armorm.features.store import Artifact, Made, Recipe, Snapshot, Store
from armorm.features.store.summaries import VectorSummary
from armorm.features.tables import SCHEMAS, make_table, write_parquet
from armorm.features.vectors.shards import Name

SLOT: Final = "rejected"

TABLE: Final = "rejects"

OF_BACKBONE: Final = "SELECT source_row FROM rejects WHERE dataset = 'backbone/' || ? AND scope = ?"
"""Ids of the rejected texts of a backbone and a kind."""


def change_of(
    store: Store,
    recipe: Recipe,
    rejects: Iterable[Reject],
    messages: Mapping[Name, Conversation],
    *,
    backbone_id: str,
) -> tuple[Recipe, Made]:
    """Return what a commit records of texts that were rejected.

    Args:
        store: keeps the table.
        recipe: by which they were; its slot is where all those of the backbone stand.
        rejects: the texts.
        messages: what each of them says, by kind and id.
        backbone_id: of the backbone.
    """
    rows: list[Mapping[str, Any]] = [
        {
            "dataset": f"backbone/{backbone_id}",
            "source_row": reject.id,
            "scope": reject.kind,
            "reason": reject.reason,
            "detail": reject.detail,
            "raw": canonical_bytes(messages[reject.kind, reject.id]).decode(),
        }
        for reject in rejects
    ]
    return _change(store, recipe, backbone_id, make_table(TABLE, rows))


def without(
    store: Store, artifact: Artifact, backbone_id: str, names: Collection[tuple[str, str]]
) -> tuple[Recipe, Made] | None:
    """Return what records rejected texts with some left out, by kind and id; None where none would be left."""
    table = pq.read_table(store.objects.path(artifact.objects[f"{TABLE}/000"]), schema=SCHEMAS[TABLE])
    of = zip(table["scope"].to_pylist(), table["source_row"].to_pylist(), strict=True)
    kept = table.filter(pa.array([name not in names for name in of], pa.bool_()))
    return _change(store, artifact.recipe, backbone_id, kept) if len(kept) else None


def _change(store: Store, recipe: Recipe, backbone_id: str, table: pa.Table) -> tuple[Recipe, Made]:
    ref = store.objects.put("parquet", partial(write_parquet, table=table))
    own = replace(recipe, slot=f"{SLOT}/{backbone_id}/{ref.sha256[:16]}")
    return own, Made({f"{TABLE}/000": ref}, VectorSummary(len(table)))


def split_by_age(snapshot: Snapshot, recipe: Recipe) -> tuple[list[Artifact], list[Artifact]]:
    """Return a backbone's rejected texts: those of this recipe, and those of others, which are tried again."""
    fresh: list[Artifact] = []
    stale: list[Artifact] = []
    for artifact in snapshot.within(recipe.slot).values():
        same = (artifact.recipe.version, artifact.recipe.parameters) == (recipe.version, recipe.parameters)
        (fresh if same else stale).append(artifact)
    return fresh, stale
