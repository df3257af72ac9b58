"""The pipeline as a value: each stage comes after what it reads, and says so once."""

from importlib import import_module
from itertools import pairwise
from pkgutil import iter_modules

import armorm.stages
from armorm.features.lineage.training_rows import KEYS
from armorm.features.store.stage import Computed, Stage
from armorm.stages.pipeline import PIPELINE, STAGES, computed, table

PARTS = ("ingest", "check", "embed", "train", "evaluate")


def test_a_stage_comes_after_those_that_it_waits_for() -> None:
    names = [stage.name for stage in PIPELINE]
    assert len({*names}) == len(names)
    for place, stage in enumerate(PIPELINE):
        assert {*stage.after} <= {*names[:place]}, stage.name


def test_parts_follow_each_other() -> None:
    places = [PARTS.index(stage.part) for stage in PIPELINE]
    assert all(one <= other for one, other in pairwise(places))


def test_the_stage_that_it_waits_for_last_stands_first() -> None:
    names = [stage.name for stage in PIPELINE]
    for stage in computed("train", "evaluate"):
        if "embed" not in stage.after:
            assert stage.after[0] == max(stage.after, key=names.index)


def test_other_tools_are_told_of_every_stage() -> None:
    assert {stage.name for stage in PIPELINE} <= STAGES.keys()
    assert all(stage.code.startswith("armorm.") for stage in STAGES.values())


def test_settings_are_those_of_a_table_of_the_configuration() -> None:
    from armorm.flows.configuration.settings import Settings

    tables = {stage.table for stage in PIPELINE if isinstance(stage, Computed) and stage.table}
    assert tables <= Settings.model_fields.keys()


def test_every_stage_that_a_module_makes_is_in_it_once() -> None:
    names = [f"armorm.stages.{module.name}" for module in iter_modules(armorm.stages.__path__)]
    made = [
        of for name in names for of in vars(import_module(name)).values() if isinstance(of, Stage) and of.code == name
    ]
    assert made == [stage for name in names for stage in STAGES.values() if stage.code == name]
    assert {*PIPELINE} == {stage for stage in STAGES.values() if stage.part}


def test_what_it_says_of_rows_is_told_to_lineage() -> None:
    for stage in PIPELINE:
        assert {*stage.trains_on} <= {*stage.splits}
        assert stage.splits or not stage.rows
        assert not stage.training_rows or stage.training_rows in KEYS


def test_the_table_lists_the_stages_as_they_are() -> None:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table().splitlines()[2:]]
    assert [(name, part, after.split(", ")[0]) for name, part, after, *_ in rows] == [
        (stage.name, stage.part, [*stage.after, ""][0]) for stage in PIPELINE
    ]
