"""A PostgreSQL of its own on loopback, by the programs that the system has; for root, another user runs it."""

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.prefect_server import free_port

USERS = ("postgres", "nobody")


def _programs() -> Path | None:
    """The folder of the newest version that is installed."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent  # a link to it may stand alone
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[4]))
    return versions[-1].parent if versions else None


def _user() -> pwd.struct_passwd | None:
    """Who runs it: whoever is at work, or for root one of those that nothing belongs to."""
    if os.getuid():
        return pwd.getpwuid(os.getuid())
    known = {user.pw_name: user for user in pwd.getpwall()}
    return next((known[name] for name in USERS if name in known), None)


@contextmanager
def serve() -> Iterator[str]:
    """The URL of an empty database for asyncpg, with a password; the test is skipped where that cannot be."""
    programs, user = _programs(), _user()
    if not programs or not user:
        pytest.skip("no PostgreSQL is installed (Debian: apt install postgresql), or nobody may run it")
    folder = Path(tempfile.mkdtemp(prefix="armorm-postgres-"))  # pytest's own folders are closed to other users
    os.chown(folder, user.pw_uid, user.pw_gid)
    password, port = secrets.token_hex(16), free_port()
    (folder / "password").write_text(password)
    os.chown(folder / "password", user.pw_uid, user.pw_gid)

    def call(program: str, *words: object, **environment: str) -> None:
        subprocess.run(
            [programs / program, *map(str, words)],
            cwd=folder,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", **environment},
            stdout=subprocess.DEVNULL,
            check=True,
            user=None if os.getuid() else user.pw_uid,
            group=None if os.getuid() else user.pw_gid,
            extra_groups=None if os.getuid() else [],
        )

    data = folder / "data"
    try:
        call("initdb", "-D", data, "-U", "prefect", "--auth=scram-sha-256", f"--pwfile={folder / 'password'}")
        options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={folder} -c fsync=off"
        call("pg_ctl", "-D", data, "-l", folder / "log", "-o", options, "-w", "start")
        try:
            call("createdb", "-h", "127.0.0.1", "-p", port, "-U", "prefect", "prefect", PGPASSWORD=password)
            yield f"postgresql+asyncpg://prefect:{password}@127.0.0.1:{port}/prefect"
        finally:
            call("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder)


def dump(url: str) -> bytes:
    """All that a database holds, as SQL."""
    programs = _programs()
    assert programs
    plain = url.replace("+asyncpg", "")
    return subprocess.run([programs / "pg_dump", plain], stdout=subprocess.PIPE, check=True).stdout
