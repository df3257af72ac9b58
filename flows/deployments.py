"""The scheduled deployments, said once: `armorm serve` runs them here, and `prefect.yaml` gives them to workers."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy, StateType
from prefect.client.schemas.schedules import construct_schedule
from prefect.deployments.runner import RunnerDeployment
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.deployment_triggers import DeploymentEventTrigger
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.runner import Runner
from prefect.settings import get_current_settings
from prefect.types.entrypoint import EntrypointType

from armorm.features.units import parse_duration
from armorm.flows import stopping
from armorm.flows.configuration.schedule import interval_s
from armorm.flows.configuration.settings import Settings
from armorm.flows.runlog.events import CHANGED, COMMITTED, resource_id

TAG: Final = "armorm"

ALL_STORES: Final = "armorm.store.*"

ONE_AT_A_TIME: Final = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)
"""A run that is due while the last one is still at work has nothing to add: it is cancelled, and the next one comes."""

RUNS_END_WITHIN_S: Final = 50.0
"""The time that `armorm serve` has after SIGTERM: Prefect gives a run 30 s, systemd and the compose file wait 60."""

HEADER: Final = """\
# The scheduled deployments, for workers: `prefect deploy --all`, in the folder of this file and of armorm.toml.
# `armorm serve --write prefect.yaml` writes it from [schedule] of armorm.toml: change that, and write it again.
# Workers are started in the folder of their armorm.toml. `armorm serve` without --write needs neither it nor them.
"""


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A deployment, before it is one of Prefect's."""

    stage: str
    """Its tag, and what its name ends with."""
    entrypoint: str
    """The flow, by the module that it is in."""
    description: str
    schedule: str = ""
    """A cron expression or an interval; empty for none."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    triggers: Sequence[Mapping[str, Any]] = ()
    """Events, or their absence, that start it, as in `prefect.yaml`."""

    @property
    def when(self) -> str:
        """The schedule, for people."""
        return " and ".join(filter(None, (self.schedule, "on an event" if self.triggers else ""))) or "when asked to"

    @property
    def flow(self) -> Flow[..., Any]:
        """The flow itself."""
        found: Flow[..., Any] = load_flow_from_entrypoint(self.entrypoint)
        return found


def scheduled(settings: Settings, *, any_store: bool = False) -> list[Scheduled]:
    """Return all deployments of a configuration.

    Args:
        any_store: whether events of every store count, since the address of this one is not the same for workers.
    """
    of = settings.schedule
    limits = {"limits": {"wait": of.wait, "work": of.time_limit}}
    store = ALL_STORES if any_store else resource_id(settings.open_store())
    found = [
        Scheduled(
            "ingest",
            "armorm.flows.ingest.ingest",
            "Reads the native files that have changed, and says so, or that something still waits for a vector.",
            of.ingest,
            limits,
        ),
        Scheduled(
            "embed",
            "armorm.flows.embed.embed",
            "Embeds what has no vector yet, whenever an ingest has said that there is something.",
            parameters=limits,
            triggers=[_on(COMMITTED, store)],
        ),
        Scheduled(
            "train",
            "armorm.flows.pipeline.retrain",
            "Trains and evaluates what has changed, promotes what is better; also when the data have changed enough.",
            of.train,
            {"promote": True} | limits,
            [_on(CHANGED, store)],
        ),
        Scheduled("verify", "armorm.flows.upkeep.verify", "Compares every checksum; fails if any is wrong.", of.verify),
        Scheduled(
            "gc",
            "armorm.flows.upkeep.gc",
            "Says what no kept snapshot refers to; with `delete`, collect it.",
            of.gc,
            {"delete": False} | limits,
        ),
        Scheduled(
            "run",
            "armorm.flows.pipeline.pipeline",
            "The pipeline in one run, as `armorm run --promote`.",
            of.run,
            {"promote": True} | limits,
        ),
    ]
    if of.max_age:
        found.append(
            Scheduled(
                "freshness",
                "armorm.flows.upkeep.freshness",
                f"The alarm: fails if nothing was ingested for {of.max_age}; begins then, and on its schedule.",
                of.freshness,
                parameters={"max_age": of.max_age, "of": "ingest"},
                triggers=[_on_silence([name_of(settings, "ingest"), name_of(settings, "run")], of.max_age)],
            )
        )
    return found


def name_of(settings: Settings, stage: str) -> str:
    """Return a deployment's name."""
    return f"{settings.schedule.name}-{stage}"


def _on(event: str, store: str) -> dict[str, Any]:
    """Return a trigger: something happened to the store."""
    match = {"prefect.resource.id": store}
    return {"type": "event", "posture": "Reactive", "expect": [event], "match": match}


def _on_silence(names: Sequence[str], max_age: str) -> dict[str, Any]:
    """Return a trigger: no run of these deployments has completed for so long; it repeats while none does."""
    return {
        "type": "event",
        "posture": "Proactive",
        "expect": ["prefect.flow-run.Completed"],
        "match": {"prefect.resource.id": "prefect.flow-run.*"},
        "match_related": {"prefect.resource.role": "deployment", "prefect.resource.name": list(names)},
        "threshold": 1,
        "within": parse_duration(max_age),
    }


def to_runner(settings: Settings, config: Path) -> list[RunnerDeployment]:
    """Return the deployments for a process that serves them on this machine."""
    return [
        RunnerDeployment.from_flow(
            of.flow,
            name_of(settings, of.stage),
            schedules=[
                DeploymentScheduleCreate(schedule=construct_schedule(**schedule), active=True)
                for schedule in _schedules(settings, of)
            ],
            concurrency_limit=ONE_AT_A_TIME,
            parameters={"config": str(config.resolve())} | dict(of.parameters),
            triggers=[DeploymentEventTrigger.model_validate(trigger) for trigger in of.triggers],
            description=of.description,
            tags=[TAG, of.stage],
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
        for of in scheduled(settings)
    ]


def to_yaml(settings: Settings, config: Path, pool: str) -> str:
    """Return `prefect.yaml`, for `prefect deploy --all`.

    A store in a folder may lie at another path for each worker, and then has another name in events: those of every
    store count there. At worst an embedding begins that finds nothing to do.
    """
    deployments = [
        {
            "name": name_of(settings, of.stage),
            "description": of.description,
            "tags": [TAG, of.stage],
            "entrypoint": of.entrypoint,
            "parameters": {"config": str(config)} | dict(of.parameters),
            "schedules": _schedules(settings, of),
            "triggers": list(of.triggers),
            "concurrency_limit": {
                "limit": ONE_AT_A_TIME.limit,
                "collision_strategy": ONE_AT_A_TIME.collision_strategy.value,
            },
            # Else a run begins in a temporary folder; this is the worker's own.
            "work_pool": {"name": pool, "job_variables": {"working_dir": "."}},
        }
        for of in scheduled(settings, any_store="://" not in settings.store)
    ]
    # No code is fetched: the flows are where armorm is installed.
    document = json.loads(json.dumps({"pull": [], "deployments": deployments}))  # nothing shared, so no anchors
    text: str = yaml.safe_dump(document, sort_keys=False, width=120, allow_unicode=True)
    return HEADER + text


def _schedules(settings: Settings, of: Scheduled) -> list[dict[str, Any]]:
    """Return one schedule or none; none removes the one that the server has."""
    if not of.schedule:
        return []
    every = interval_s(of.schedule)
    when = {"interval": every} if every else {"cron": of.schedule}
    return [when | {"timezone": settings.schedule.timezone}]


def watch_for_the_dead() -> None:
    """Register an automation for all deployments of armorm: a run whose process has died is marked as crashed.

    It can tell nobody, so it would stand as running for ever, and hold its deployment's only place if the server was
    started again meanwhile. Runs send a heartbeat every `PREFECT_FLOWS_HEARTBEAT_FREQUENCY` seconds, 180 by default,
    and are dead when three in a row are missing. A run that only seems to be dead does no harm: others wait until it
    lets go of the store.
    """
    every = get_current_settings().flows.heartbeat_frequency or 180
    ends = {f"prefect.flow-run.{end}" for end in ("Completed", "Failed", "Cancelled", "Crashed")}
    heartbeat = "prefect.flow-run.heartbeat"
    wanted = AutomationCore(
        name=f"{TAG}: runs whose process has died",
        description=f"Marks a run as crashed that has sent no heartbeat for {3 * every + 10} s.",
        trigger=EventTrigger(
            posture=Posture.Proactive,
            after={heartbeat},
            expect={heartbeat, *ends},
            match={"prefect.resource.id": "prefect.flow-run.*"},
            # A heartbeat names its deployment by id alone.
            match_related={"prefect.resource.role": "tag", "prefect.resource.id": f"prefect.tag.{TAG}"},
            for_each={"prefect.resource.id"},
            threshold=1,
            within=timedelta(seconds=3 * every + 10),
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED, name="Crashed", message="Its process sends no heartbeat.", force=False
            )
        ],
    )
    with get_client(sync_client=True) as client:
        for there in client.read_automations_by_name(wanted.name):
            if there.description == wanted.description:
                return  # a new one would not know of the runs that have just died
            client.delete_automation(there.id)
        client.create_automation(wanted)


def serve(settings: Settings, config: Path) -> None:
    """Register the deployments and run them on this machine, each in a process of its own, until it is stopped.

    Schedules stay active meanwhile: what was due when nobody served runs when somebody does again, once.
    """
    wanted = to_runner(settings, config)
    runner = Runner(name=settings.schedule.name, pause_on_shutdown=False, limit=len(wanted))
    for deployment in wanted:
        runner.add_deployment(deployment)
    asyncio.run(_until_stopped(runner))


async def _until_stopped(runner: Runner) -> None:
    """Serve until Ctrl-C or SIGTERM, which end the runs at work, then the runner: Prefect waits for neither."""
    serving = asyncio.create_task(runner.start())
    while not (runner.started or serving.done()):
        await asyncio.sleep(0.1)
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    with stopping.left_to(lambda: loop.call_soon_threadsafe(stop.set), within_s=RUNS_END_WITHIN_S):
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({serving, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if stop.is_set():
            await runner.astop()  # one run after the other: one at most works on the store, others end at once
        stopped.cancel()
        await serving
