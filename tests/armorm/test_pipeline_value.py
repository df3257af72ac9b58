"""The pipeline as a value: each stage comes after what it reads, and says so once."""

import re
from itertools import pairwise
from pathlib import Path

from armorm.features.store.stage import Computed
from armorm.stages.pipeline import PIPELINE, STAGES, computed

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


def test_the_documentation_lists_the_stages_as_they_are() -> None:
    page = (Path(__file__).parents[2] / "docs" / "plan.md").read_text()
    listed = re.findall(r"(?m)^\| (\w+) \| (\w+) \| (.*?) ?\| (.*?) \|$", page.partition("## Stages")[2])
    assert listed[1:] == [(s.name, s.part, ", ".join(s.after), ", ".join(s.splits) or "all") for s in PIPELINE]
