"""A plan is run as it was made or not at all; a limit refuses what is more, and what nobody knows."""

from dataclasses import replace
from pathlib import Path

import pytest

from armorm.features.errors import InputError, OverLimit, PlanOutdated
from armorm.features.store.estimate import Planned, unknown
from armorm.flows.plan import Plan, Premises, require_unmoved, require_within, write_plan

PREMISES = Premises(3, "3" * 32, "0.1.0", {"gate": "a", "embed": "b"}, {"helpsteer": "f", "backbone": "e"})
EMBED = Planned("embed", "new texts", rows=10, tokens=500, bytes=40, seconds=20.0, basis="at 25 tokens/s")
PLAN = Plan(PREMISES, [], [Planned("quality", None), EMBED])


@pytest.mark.parametrize(
    ("moved", "what"),
    [
        ({"snapshot_id": "4" * 32}, "snapshot"),
        ({"code_version": "0.2.0"}, "version of armorm"),
        ({"settings": {"gate": "c", "embed": "b"}}, "settings of gate"),
        ({"inputs": {"helpsteer": "g", "backbone": "e"}}, "files of helpsteer"),
        ({"inputs": {"helpsteer": "f", "shp": "g", "backbone": "e"}}, "files of shp"),
    ],
)
def test_a_plan_of_another_world_is_refused(tmp_path: Path, moved: dict[str, object], what: str) -> None:
    path = tmp_path / "plan.json"
    write_plan(PLAN, path)
    require_unmoved(path, PLAN)
    require_unmoved(path, replace(PLAN, premises=replace(PREMISES, snapshot=4)))  # the same content under a new tag
    with pytest.raises(PlanOutdated, match=rf"^{path}: {what}: ") as refused:
        require_unmoved(path, replace(PLAN, premises=replace(PREMISES, **moved)))  # type: ignore[arg-type]
    assert refused.value.what == what


def test_a_stage_that_was_not_planned_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    write_plan(PLAN, path)
    with pytest.raises(PlanOutdated, match=rf"^{path}: .*\bquality: .*\bversion 1 -> 2;"):
        require_unmoved(path, replace(PLAN, steps=[Planned("quality", "version 1 -> 2"), EMBED]))
    path.write_text("{}")
    with pytest.raises(InputError, match=rf"^{path}: .*`armorm plan --out FILE`"):
        require_unmoved(path, PLAN)


def test_limits_hold_for_the_total_and_for_what_is_not_known() -> None:
    require_within(PLAN, max_rows=10, max_seconds=20)
    require_within(PLAN, max_rows=None, max_seconds=None)
    with pytest.raises(OverLimit, match=r"^--max-rows: .*\b10 rows\b.*\b9 rows;"):
        require_within(PLAN, max_rows=9, max_seconds=None)
    with pytest.raises(OverLimit, match=r"^--max-time: .*\b20 s\b.*\b19 s;"):
        require_within(PLAN, max_rows=None, max_seconds=19)
    blind = replace(PLAN, steps=[EMBED, unknown("gate", "after embed", "no speed")])
    with pytest.raises(OverLimit, match=r"^--max-time: .*\(gate: no speed\).*\b1 h;"):
        require_within(blind, max_rows=None, max_seconds=3600)
    with pytest.raises(OverLimit, match=r"^--max-rows: .*\bunknown\b.*\b1,?000 rows;"):
        require_within(blind, max_rows=1000, max_seconds=None)
