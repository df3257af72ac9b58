"""`forget`: no later snapshot holds a native row or a prompt, nor is anything made of it.

A dataset that holds none of it keeps its tables: it is known without reading that they would come out the same.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final

from armorm.features.catalog.views import empty_connection, mount, parquet_paths
from armorm.features.embedding import rejected
from armorm.features.errors import InputError
from armorm.features.ingest.forgotten import REASON, Entry, Kind, forgotten_of, make_list, read_entries
from armorm.features.ingest.native import RowChunk, decode
from armorm.features.ingest.normalise import Rules, normalise
from armorm.features.lineage.graph import read_graph
from armorm.features.lineage.impact import KINDS, Impact, Key, impact
from armorm.features.lineage.relations import relations
from armorm.features.store import Artifact, Made, Recipe, Store, Writer
from armorm.features.store.stage import Stage
from armorm.features.store.store import utc_now
from armorm.features.vectors.shards import SLOT, shard_without, slot_of

FETCH_ROWS: Final = 1024


@dataclass(frozen=True, slots=True)
class Forgetting:
    """What was forgotten, and what that asks for."""

    entry: Entry
    before: Impact
    """What it had touched by then; the models to retrain among it."""
    affected: Sequence[str]
    """Datasets whose tables hold it, or may: they have to be read again."""


def forget(writer: Writer, key: str, reason: str, rules: Mapping[str, Rules], *, stages: Sequence[Stage]) -> Forgetting:
    """Put a native row or a prompt on the list of what every ingest leaves out.

    The same commit tells every dataset that holds none of it that the list has changed. Those that hold it are stale
    from then on, and the next ingest of their files leaves it out.

    Args:
        key: the beginning of its id, 8 hex digits or more.
        rules: how the rows of each configured dataset are read.

    Raises:
        InputError: the key is of something else, or no key.
        NotInStore: the store knows none, or several.
    """
    store = writer.store
    before = impact(store, key, stages=stages)
    entry = Entry(_kind(before), before.key.id, reason, utc_now())
    known = read_entries(store)
    entries = [*known, *([] if (entry.kind, entry.id) in {(e.kind, e.id) for e in known} else [entry])]
    holders = {one.node.artifact_id for one in before.affected if one.ways.keys() - {"ingest dropped"}}
    affected, untouched = [], list[tuple[Recipe, Made]]()
    for name, artifact in store.head().within("ingest").items():
        up_to_date = artifact.recipe.parameters.get("forgotten") == forgotten_of(known).parameter.get("forgotten")
        holds = artifact.artifact_id in holders or _may_refuse(store, artifact, rules.get(name), entry)
        if up_to_date and not holds:
            parameters = {**artifact.recipe.parameters, **forgotten_of(entries).parameter}
            same = Made(artifact.objects, artifact.summary, artifact.provenance)
            untouched.append((replace(artifact.recipe, parameters=parameters), same))
        else:
            affected.append(name)
    writer.commit_all([make_list(store, entries), *untouched])
    return Forgetting(entry, before, affected)


@dataclass(frozen=True, slots=True)
class LeftVector:
    """A vector of a text that no table of the newest snapshot holds any more, or a record that it has none."""

    slot: str
    """The slot of the shard, or of the rejected texts."""
    kind: str
    id: str

    @property
    def rejected(self) -> bool:
        """Whether it is of a text that has no vector; what is recorded of that says what the text was."""
        return self.slot.startswith(f"{rejected.SLOT}/")


def left_vectors(store: Store, key: Key) -> list[LeftVector]:
    """Return the newest snapshot's vectors and rejected texts that only this row's or prompt's texts need."""
    graph, number = read_graph(store), store.head().number
    current = {n for n, node in graph.nodes.items() if node.last == number}
    held = " OR ".join(f"{column} = $id" for column in KINDS[key.kind])
    with relations(store, graph.nodes.values(), stages=()) as connection:
        rows = connection.execute(
            f"""
            WITH
                mine AS (
                    SELECT unnest(['conversation', 'conversation', 'prompt']) AS kind,
                        unnest([conversation_id, other_id, prompt_id]) AS id
                    FROM items WHERE {held}
                ),
                others AS (
                    SELECT unnest(['conversation', 'prompt']) AS kind, unnest([conversation_id, prompt_id]) AS id
                    FROM stored_conversations WHERE list_contains($current, node)
                )
            SELECT DISTINCT node, kind, id
            FROM (FROM stored_vectors UNION ALL FROM rejected_texts)
            SEMI JOIN mine USING (kind, id) ANTI JOIN others USING (kind, id)
            WHERE list_contains($current, node) ORDER BY ALL
            """,
            {"id": key.id, "current": sorted(current)},
        ).fetchall()
    return [LeftVector(graph.nodes[node].artifact.recipe.slot, kind, id) for node, kind, id in rows]


def replace_shards(writer: Writer, left: Sequence[LeftVector]) -> None:
    """Put shards without these vectors in the place of those that hold them, in one commit.

    The same with texts that were rejected; parts of a shard that is not finished just go.
    """
    artifacts = writer.store.head().artifacts
    changes = []
    for slot in sorted({vector.slot for vector in left}):
        artifact, (folder, backbone_id, *_) = artifacts[slot], slot.split("/")
        without = {(vector.kind, vector.id) for vector in left if vector.slot == slot}
        if folder == SLOT and (made := shard_without(writer.store, artifact, without)):
            changes.append((replace(artifact.recipe, slot=slot_of(backbone_id, made.objects["shard"])), made))
        if folder == rejected.SLOT and (change := rejected.without(writer.store, artifact, backbone_id, without)):
            changes.append(change)
    writer.commit_all(changes, remove={vector.slot for vector in left})


def _kind(found: Impact) -> Kind:
    if found.key.kind == "row":
        return "row"
    if found.key.kind == "prompt":
        return "prompt"
    rows = sorted({place["source_row"] for place in found.places.records})
    raise InputError(
        f"got {found.key.kind} {found.key.id}; expected a native row or a prompt; forget its rows: {', '.join(rows)}"
    )


def _may_refuse(store: Store, artifact: Artifact, rules: Rules | None, entry: Entry) -> bool:
    """Return whether a refused row may have the prompt, by the dataset's own rules if there are any.

    By its id a refused row is known to `impact`.
    """
    if entry.kind == "row":
        return False
    if rules is None:
        return True
    asking = replace(rules, forgotten=forgotten_of([entry]))
    for file, raws in _refused(store, artifact):
        rows = decode(RowChunk(file, 1, len(raws), raws, 0))
        if REASON in normalise(asking, rows, file=file)["native_rows"]["reason"].to_pylist():
            return True
    return False


def _refused(store: Store, artifact: Artifact) -> Iterator[tuple[str, list[bytes]]]:
    """Yield refused native rows, some of one file at a time."""
    with empty_connection() as connection:
        for table in ("rejects", "native_rows"):
            mount(connection, table, table, parquet_paths(store, [artifact], table))
        cursor = connection.execute(
            """
            SELECT min(file), raw FROM rejects JOIN native_rows USING (dataset, source_row)
            GROUP BY source_row, raw ORDER BY 1
            """
        )
        while rows := cursor.fetchmany(FETCH_ROWS):
            for file, of_file in groupby(rows, key=lambda row: str(row[0])):
                yield file, [raw.encode() for _, raw in of_file]
