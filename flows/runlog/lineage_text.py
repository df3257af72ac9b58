"""How `armorm trace` and `armorm impact` are told to a person."""

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from armorm.features.lineage.graph import Node
from armorm.features.lineage.impact import Affected, Impact
from armorm.features.lineage.trace import RowCheck, Trace
from armorm.flows.runlog import console
from armorm.report.sections import Cell, shown

SHOWN_FILES = 2
"""Files of a dataset that are shown; JSON has all of them."""

LEFT_OUT = ("trained_on", "source_row", "other_id", "messages", "other_messages")
"""Columns of rows that a table has no room for; messages are printed below it."""

SHOWN_DIGITS = 12
"""Digits of an id that are shown: enough for `armorm impact`."""


def print_trace(found: Trace) -> None:
    """Print what made an artifact, with which settings, of which rows, and whether these are the rows that it names."""
    print(_line(found.node))
    if stages := _stages(found.made_from):
        console.print_table(["stage", "artifact", "version", "code", "settings"], stages, title="Made by")
    for record in found.backbones:
        console.print_table(
            ["of the backbone", ""], [(name, str(of)) for name, of in record.items() if name != "measured"]
        )
    columns = ["dataset", "stage", "use", "rows", "native rows", "files", "from", "revision", "licence"]
    rows = [(*row[:5], _files(row[5]), *row[6:]) for row in found.datasets.rows]
    console.print_table(columns, rows, title="Rows that it saw")
    if records := list(found.rows.records):
        columns = [name for name in found.rows.columns if name not in LEFT_OUT]
        rows = [tuple(_cell(name, record[name]) for name in columns) for record in records]
        console.print_table(columns, rows, title="The first of them")
        for record in records:
            _print_texts(record)
    if found.gone:
        print(f"no snapshot holds these any more, so their rows cannot be told: {', '.join(found.gone)}")
    for check in found.checks:
        print(_told(check))


def print_impact(found: Impact) -> None:
    """Print where a key stands, what was made with it, and which models have to be trained again without it."""
    print(f"{found.key.kind} {found.key.id}")
    console.print_table(found.places.columns, found.places.rows, title="Native rows")
    rows = [
        (of.node.artifact.recipe.slot, of.node.artifact_id, _snapshots(of.node), _ways(of)) for of in found.affected
    ]
    console.print_table(["slot", "artifact", "snapshots", "saw it as"], rows, title="Artifacts that saw it")
    print(to_retrain(found.retrain))


def to_retrain(models: Sequence[Node]) -> str:
    """Return which models have to be trained again, in one line for people."""
    if not models:
        return "no model was trained on it: there is nothing to retrain"
    listed = ", ".join(f"{node.artifact_id} ({_snapshots(node)})" for node in models)
    return f"to retrain if it must be deleted, wherever they were copied to: {listed}"


def _line(node: Node) -> str:
    by = f" by `{node.run.command}`" if node.run else ""
    return f"{node.stage} {node.artifact_id}, made {node.artifact.created_at}{by}, {_snapshots(node)}"


def _stages(made_from: Sequence[Node]) -> list[tuple[str, str, int, str, str]]:
    """Return a row an artifact; ingests are told with their rows, and shards of one run are one row together."""
    rows = []
    told = [node for node in made_from if node.stage not in ("ingest", "backbone")]
    for (stage, run), group in groupby(told, key=lambda node: (node.stage, node.run)):
        nodes = list(group)
        recipe = nodes[0].artifact.recipe
        what = nodes[0].artifact_id if len(nodes) == 1 else f"{len(nodes)} shards"
        settings = json.dumps(recipe.parameters.get("settings", dict(recipe.parameters)))
        rows.append((stage, what, recipe.version, run.code_version if run else "", settings))
    return rows


def _cell(column: str, value: Any) -> Cell:
    cell: Cell = value[:SHOWN_DIGITS] if value and column.endswith(("_row", "_id")) else value
    return cell


def _print_texts(record: Mapping[str, Any]) -> None:
    """Print the messages of a row, or of both sides of a pair, if they were asked for."""
    for column in ("messages", "other_messages"):
        if messages := record.get(column):
            print(f"{record['file']}:{record['line']}")
            for turn in messages:
                print(f"  {shown(turn['role'])}: {shown(turn['content'])}")


def _files(files: Sequence[str]) -> str:
    more = len(files) - SHOWN_FILES
    return ", ".join(files[:SHOWN_FILES]) + (f" and {more} more" if more > 0 else "")


def _told(check: RowCheck) -> str:
    line = f"{check.name}: {check.found.n_rows} rows, SHA-256 {check.found.sha256}"
    if check.recorded is None:
        return f"{line}; nothing is recorded to compare with, as it is of an earlier format"
    if check.agrees:
        return f"{line}; the very rows that are recorded"
    return f"{line}; NOT what is recorded: {check.recorded.n_rows} rows, SHA-256 {check.recorded.sha256}"


def _snapshots(node: Node) -> str:
    return f"snapshot {node.first}" if node.first == node.last else f"snapshots {node.first} to {node.last}"


def _ways(one: Affected) -> str:
    return ", ".join(f"{way} ({n_items})" for way, n_items in one.ways.items())
