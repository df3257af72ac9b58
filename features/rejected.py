"""Texts that a backbone gives no usable vector for: recorded by name, shown in the view `rejects`, not tried again.

They stand beside the rows that ingest refused: `dataset` is the backbone (no dataset's name has a slash), `source_row`
the text's id, `scope` its kind, `raw` its messages.
"""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Final

from features.conversation import Conversation, canonical_bytes
from features.embedding.vectors import Reject
from features.shards import Name
from features.store import Artifact, Made, Recipe, Snapshot, Store
from features.tables import make_table, write_parquet

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
    """What a commit records of texts that were rejected.

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
    ref = store.objects.put("parquet", partial(write_parquet, table=make_table(TABLE, rows)))
    slot = f"{recipe.slot}/{ref.sha256[:16]}"
    own = Recipe(slot, recipe.stage, recipe.version, recipe.parameters, recipe.inputs)
    return own, Made({f"{TABLE}/000": ref}, {"rows": len(rows), "line": f"{len(rows)} texts without a usable vector"})


def recipe_of(backbone_id: str, version: int, parameters: Mapping[str, Any], inputs: Mapping[str, str]) -> Recipe:
    """How texts come to be rejected; under another version or other parameters they are tried again."""
    return Recipe(f"{SLOT}/{backbone_id}", SLOT, version, parameters, inputs)


def split_by_age(snapshot: Snapshot, recipe: Recipe) -> tuple[list[Artifact], list[Artifact]]:
    """A backbone's rejected texts: those by this recipe, and those by another one, which are to be tried again."""
    fresh: list[Artifact] = []
    stale: list[Artifact] = []
    for artifact in snapshot.within(recipe.slot).values():
        same = (artifact.recipe.version, artifact.recipe.parameters) == (recipe.version, recipe.parameters)
        (fresh if same else stale).append(artifact)
    return fresh, stale
