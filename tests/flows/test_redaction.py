"""A password in an address that does not answer: no command, traceback, log or run of Prefect shows it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from prefect import flow
from prefect.client.orchestration import get_client

from armorm.flows.configuration.settings import load_settings
from armorm.flows.runlog.observers import writing
from tests.flows.console import ARMORM

PASSWORD = "s3cr3t-9c2e"
NOWHERE = f"http://user:{PASSWORD}@127.0.0.1:1"


def said(code: str, *words: str, **environment: str) -> tuple[int, str]:
    """Exit code, and all that a program prints."""
    given = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    ended = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, env=given | environment
    )
    return ended.returncode, ended.stdout + ended.stderr


BUCKET = {
    "AWS_ENDPOINT_URL": NOWHERE,
    "AWS_ACCESS_KEY_ID": "planted",
    "AWS_SECRET_ACCESS_KEY": PASSWORD,
    "ARMORM_STORE": "s3://bucket/store",
}


@pytest.mark.parametrize(
    ("command", "environment"),
    [
        (["status"], BUCKET),
        (["doctor"], BUCKET),
        (["serve"], {"PREFECT_API_URL": f"{NOWHERE}/api"}),
        (["ingest"], {"PREFECT_API_URL": f"{NOWHERE}/api"}),
        (["plan"], {"HF_ENDPOINT": NOWHERE, "HF_HUB_OFFLINE": "0", "ARMORM_BACKBONE__PATH": "owner/backbone"}),
    ],
)
def test_no_command_shows_the_password_of_what_does_not_answer(
    command: list[str], environment: dict[str, str], config: Path, tmp_path: Path
) -> None:
    home = {"PREFECT_HOME": str(tmp_path / "prefect"), "HF_HOME": str(tmp_path / "hub")}
    _, text = said(ARMORM, *command, "--config", str(config), **home, **environment)
    assert text
    assert "Traceback" not in text
    assert PASSWORD not in text


def test_neither_does_a_traceback() -> None:
    code = f"""
import sys, threading, types
from armorm.flows.cli import program

def fail():
    try:
        raise OSError("no route to {NOWHERE}")
    except OSError as error:
        raise ZeroDivisionError("nothing from {NOWHERE}") from error

def command():
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    fail()

sys.modules["armorm.flows.cli.app"] = cli = types.ModuleType("armorm.flows.cli.app")
cli.main = command
program.main()
"""
    number, text = said(code)
    assert number == 1
    assert text.count("ZeroDivisionError") == 2
    assert PASSWORD not in text


def test_nor_does_prefect_keep_it(config: Path, server: None, caplog: pytest.LogCaptureFixture) -> None:
    @flow
    def failing() -> None:
        with writing(load_settings(config), "test"):
            try:
                raise OSError(f"no route to {NOWHERE}")
            except OSError as error:
                raise ZeroDivisionError(f"nothing from {NOWHERE}") from error

    state = failing(return_state=True)
    assert state.is_failed()
    with get_client(sync_client=True) as client:
        kept = client.read_flow_run(state.state_details.flow_run_id)
    assert "ZeroDivisionError" in caplog.text
    assert PASSWORD not in f"{state.message}{kept.state}{caplog.text}"
