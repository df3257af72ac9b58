"""A real Prefect server in a process of its own: scheduler, triggers, automations and all, on any database."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

STARTS_WITHIN_S = 600


@dataclass(frozen=True)
class Server:
    """Where it answers, and how a process finds it."""

    url: str
    home: Path
    """Its PREFECT_HOME: the SQLite database lies there, and `server.log`."""
    environment: dict[str, str]
    """For the processes that use it; without anything of the user's own profile."""


@contextmanager
def serve(home: Path, *, database_url: str = "", port: int = 0, **settings: str) -> Iterator[Server]:
    """A server until the block ends.

    Args:
        home: a folder, which may be that of an earlier server: then it goes on with its database.
        database_url: by default SQLite in `home`.
        port: by default any that is free.
        settings: more of its environment, such as PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS.
    """
    home.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    url = f"http://127.0.0.1:{port}/api"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")} | {
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": url,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    database_url = database_url or f"sqlite+aiosqlite:///{home / 'prefect.db'}"
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with (home / "server.log").open("ab") as log:
        server = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=environment | settings | {"PREFECT_API_DATABASE_CONNECTION_URL": database_url},
        )
    try:
        _wait_for(f"{url}/health", server)
        yield Server(url, home, environment | settings)
    finally:
        server.terminate()
        try:
            server.wait(timeout=30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def free_port() -> int:
    """One that nobody listens on at this moment."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(url):
                return
        except OSError:
            time.sleep(0.2)
    raise TimeoutError(f"the Prefect server did not start within {STARTS_WITHIN_S} s; see its server.log")
