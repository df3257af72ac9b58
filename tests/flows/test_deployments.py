"""The deployments as they are said: one definition, the repository's file, and what a wrong schedule is told."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from prefect.client.schemas.schedules import CronSchedule
from prefect.deployments.runner import RunnerDeployment
from prefect.events.schemas.deployment_triggers import DeploymentEventTrigger

from armorm.flows.configuration.profiles import template
from armorm.flows.configuration.schedule import SCHEDULES, ScheduleSettings, interval_s
from armorm.flows.configuration.settings import CONFIG_NAME, ConfigError, Settings, load_settings
from armorm.flows.deployments import scheduled, to_runner, to_yaml
from armorm.flows.runlog.events import CHANGED, COMMITTED, resource_id

ROOT = Path(__file__).parent.parent.parent


def settings_of(folder: Path, **changes: str) -> Settings:
    text = template()
    for default, other in changes.items():
        assert default in text
        text = text.replace(default, other)
    config = folder / CONFIG_NAME
    config.write_text(text)
    return load_settings(config)


def test_the_file_of_the_repository_is_what_is_written_for_the_default_settings(tmp_path: Path) -> None:
    assert (ROOT / "prefect.yaml").read_text() == to_yaml(settings_of(tmp_path), Path(CONFIG_NAME), "armorm")


def test_workers_and_the_serving_process_get_the_same(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    written = yaml.safe_load(to_yaml(settings, tmp_path / CONFIG_NAME, "pool"))["deployments"]
    served = to_runner(settings, tmp_path / CONFIG_NAME)
    assert len(written) == len(served) == 7
    for one, other in zip(written, served, strict=True):
        assert one["name"] == other.name
        assert one["entrypoint"] == other.entrypoint
        assert one["parameters"] == other.parameters
        assert one["tags"] == other.tags == ["armorm", other.name.removeprefix("armorm-")]
        assert one["description"] == other.description
        assert (one["concurrency_limit"]["limit"], one["concurrency_limit"]["collision_strategy"]) == (1, "CANCEL_NEW")
        assert other.concurrency_limit == 1
        assert other.concurrency_options is not None
        assert other.concurrency_options.collision_strategy == "CANCEL_NEW"
        assert [said["cron"] for said in one["schedules"]] == [of.schedule.cron for of in other.schedules or []]
        assert len(one["triggers"]) == len(other.triggers)
        for trigger in one["triggers"]:
            DeploymentEventTrigger.model_validate(trigger)


def trigger_of(deployments: list[RunnerDeployment], stage: str) -> Any:
    (trigger,) = next(of.triggers for of in deployments if of.name.endswith(f"-{stage}"))
    return trigger


def test_embedding_waits_for_this_store_and_the_alarm_for_silence(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    served = to_runner(settings, tmp_path / CONFIG_NAME)
    mine = {"prefect.resource.id": resource_id(settings.open_store())}
    for stage, event in (("embed", COMMITTED), ("train", CHANGED)):
        trigger = trigger_of(served, stage)
        assert (trigger.expect, trigger.match.root) == ({event}, mine)
    alarm = trigger_of(served, "freshness")
    assert alarm.posture == "Proactive"
    assert alarm.within.total_seconds() == 36 * 3600
    assert alarm.match_related.root["prefect.resource.name"] == ["armorm-ingest", "armorm-run"]


def test_workers_listen_to_a_store_with_an_address_and_else_to_any(tmp_path: Path) -> None:
    folder = settings_of(tmp_path)
    bucket = settings_of(tmp_path, **{'store = "store"': 'store = "s3://bucket/folder"'})
    ids = {resource_id(bucket.open_store()), "armorm.store.*"}
    found = set()
    for settings in (folder, bucket):
        for of in yaml.safe_load(to_yaml(settings, Path(CONFIG_NAME), "armorm"))["deployments"]:
            found |= {t["match"]["prefect.resource.id"] for t in of["triggers"] if t["posture"] == "Reactive"}
    assert found == ids


def test_what_is_turned_off_has_no_schedule_and_no_alarm(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, **{'ingest = "0 2 * * *"': 'ingest = ""', 'max_age = "36h"': 'max_age = ""'})
    served = {of.name: of for of in to_runner(settings, tmp_path / CONFIG_NAME)}
    assert served["armorm-ingest"].schedules == []
    assert "armorm-freshness" not in served
    assert "schedules: []" in to_yaml(settings, Path(CONFIG_NAME), "armorm")


def test_only_the_network_is_tried_again_and_no_result_is_kept(tmp_path: Path) -> None:
    for of in scheduled(settings_of(tmp_path)):
        assert of.flow.retries == 0
        assert of.flow.persist_result is False


@pytest.mark.parametrize(
    ("default", "given", "facts"),
    [
        ('"0 2 * * *"', '"nightly"', r"\bingest: .*'nightly'.*\bcron\b"),
        ('"0 2 * * *"', '"99 2 * * *"', r"\bingest: .*'99 2 \* \* \*'.*\bcron\b"),
        ('"0 2 * * *"', '"0s"', r"\bingest: .*'0s'"),
        ('"UTC" ', '"Mars/Base" ', r"\btimezone: .*'Mars/Base';.*\bIANA\b"),
        ('"36h"', '"soon"', r"\bmax_age: .* soon;.*\b1h30m\b"),
        ('"armorm"', '"a b"', r"\bname: .*'a b';"),
    ],
)
def test_a_wrong_schedule_is_one_line(tmp_path: Path, default: str, given: str, facts: str) -> None:
    with pytest.raises(ConfigError, match=facts) as caught:
        settings_of(tmp_path, **{default: given})
    assert "\n" not in str(caught.value)


fields = [(0, 59), (0, 23), (1, 28), (1, 12), (0, 6)]
field = [st.one_of(st.just("*"), st.integers(*of).map(str), st.integers(1, 9).map("*/{}".format)) for of in fields]


@given(st.tuples(*field).map(" ".join))
def test_what_is_allowed_here_is_allowed_by_prefect(cron: str) -> None:
    for name in SCHEDULES:
        assert getattr(ScheduleSettings(**{name: cron}), name) == cron
    assert CronSchedule(cron=cron).cron == cron
    assert interval_s(cron) is None
