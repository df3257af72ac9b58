"""Prefect's temporary server, which ends with the process that has started it, however that ends.

A pipe tells: its one writer is the parent, and when the parent is gone, even killed, reading it comes to an end.
"""

import os
import subprocess
import sys
from typing import Any, Final

ENVIRONMENT: Final = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
"""The environment that Prefect 3.8 sets for this server."""


def tether() -> None:
    """Have Prefect start its temporary server so, if it is going to start one.

    The method that is replaced is a private one, and does the same but for the pipe and the session: Ctrl-C, which a
    terminal sends to the whole group, is not for the server, which is told last how the run has ended.
    """
    from prefect.settings import PREFECT_API_URL

    if PREFECT_API_URL.value():
        return
    from prefect.server.api.server import SubprocessASGIServer

    setattr(SubprocessASGIServer, "_run_uvicorn_command", _start)  # noqa: B010 - mypy allows no assignment


def _start(server: Any) -> subprocess.Popen[Any]:
    from prefect.settings import get_current_settings

    settings = get_current_settings().to_environment_variables(exclude_unset=True)
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "armorm.flows.cli.temporary_server", str(server.port)],
        stdin=subprocess.PIPE,
        env=os.environ | ENVIRONMENT | settings,
        start_new_session=True,
    )
