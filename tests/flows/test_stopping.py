"""A signal ends the program with its own exit code and one line, wherever it is; nothing of it stays behind."""

import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from armorm.features.store import Store
from tests.flows.console import usual_signals

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

COMMAND = """
import hashlib, os, signal, subprocess, sys, time, types
from armorm.flows import stopping
from armorm.flows.cli import program

def ready():
    print("ready", flush=True)

def command():
{body}

sys.modules["armorm.flows.cli.app"] = cli = types.ModuleType("armorm.flows.cli.app")
cli.main = command
stopping._stop.grace_s = {grace_s}
for number in stopping.SIGNALS:  # whoever runs the tests under `nohup` ignores some
    signal.signal(number, signal.SIG_DFL)
{before}
program.main()
"""

WAITS = "ready(); time.sleep(600)"
WAITS_FOR_A_CHILD = "subprocess.run(['sh', '-c', 'echo ready; exec sleep 600'])"
IN_C = "ready(); hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)"
SWALLOWS = """
    ready()
    while True:
        try:
            time.sleep(600)
        except BaseException:
            pass
"""
FAILS_OTHERWISE = """
    try:
        ready(); time.sleep(600)
    except BaseException:
        raise RuntimeError("whatever a library makes of it")
"""
ENDS_AS_IF_NOTHING_WERE = """
    try:
        ready(); time.sleep(600)
    except BaseException:
        sys.exit(0)
"""
IN_A_DESTRUCTOR = """
    class Slow:
        def __del__(self):
            ready(); time.sleep(600)
    Slow()
    time.sleep(600)
"""
LIKE_PREFECT = """
    def taken(number, frame):
        raise RuntimeError("taken")
    usual = signal.signal(signal.SIGTERM, taken)
    try:
        ready(); time.sleep(600)
    except RuntimeError:
        time.sleep(0.5)
        signal.signal(signal.SIGTERM, usual)
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(600)
        finally:
            time.sleep(0.5)
            print("unwound", flush=True)
"""


def start(body: str, *, grace_s: float = 60, before: str = "") -> subprocess.Popen[str]:
    """The program with another command line, when it is in the midst of that."""
    body = body if body.startswith("\n") else f"    {body}"
    code = COMMAND.format(body=body, grace_s=grace_s, before=before)
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.05)  # into the call after that
    return process


def said(process: subprocess.Popen[str], number: int) -> str:
    """Standard output of a process that has ended as it ought to."""
    out, errors = process.communicate(timeout=50)
    assert process.returncode == 128 + number
    assert len(errors.splitlines()) == 1
    assert signal.Signals(number).name in errors
    return out


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("body", [WAITS, WAITS_FOR_A_CHILD, FAILS_OTHERWISE, ENDS_AS_IF_NOTHING_WERE])
def test_a_signal_has_one_end_wherever_it_comes(body: str, number: signal.Signals) -> None:
    process = start(body)
    process.send_signal(number)
    said(process, number)


@pytest.mark.parametrize("body", [IN_C, SWALLOWS, IN_A_DESTRUCTOR])
def test_what_does_not_listen_is_ended(body: str) -> None:
    process = start(body, grace_s=0.5)
    process.send_signal(signal.SIGTERM)
    said(process, signal.SIGTERM)


def test_a_second_signal_ends_at_once() -> None:
    process = start(SWALLOWS, grace_s=3600)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    said(process, signal.SIGTERM)


def test_what_prefect_sends_once_more_is_no_second_signal() -> None:
    process = start(LIKE_PREFECT)
    process.send_signal(signal.SIGTERM)
    assert said(process, signal.SIGTERM) == "unwound\n"


def test_it_listens_before_it_imports() -> None:
    code = """
import sys
class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "armorm.flows.cli.app":
            print("ready", flush=True)
            import time; time.sleep(600)
sys.meta_path.insert(0, Slow())
from armorm.flows.cli.program import main
main()
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    said(process, signal.SIGTERM)


def test_a_signal_to_a_forked_process_is_not_for_this_one() -> None:
    forks = """
    child = os.fork()
    if child == 0:
        time.sleep(600)
    os.kill(child, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
    time.sleep(0.5)
    ready()
"""
    process = start(forks)
    _, errors = process.communicate(timeout=50)
    assert (process.returncode, errors) == (0, "")


def test_what_nohup_ignores_stays_ignored() -> None:
    process = start("ready(); time.sleep(1)", before="signal.signal(signal.SIGINT, signal.SIG_IGN)")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=50)
    assert (process.returncode, errors) == (0, "")


def servers(home: Path) -> list[Path]:
    """Processes of Prefect's temporary server that keep their database there."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            ours = f"PREFECT_HOME={home}".encode() in (process / "environ").read_bytes().split(b"\0")
            if ours and b"armorm.flows.cli.temporary_server" in (process / "cmdline").read_bytes().split(b"\0"):
                found.append(process)
        except OSError:  # it has ended, or is another user's
            continue
    return found


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("number", [*SIGNALS, signal.SIGKILL])
def test_the_temporary_server_ends_with_the_run(
    config: Path, tmp_path: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.write_text(re.sub(r"(?m)^steps = \d+", "steps = 10_000_000", config.read_text()))
    home = tmp_path / "prefect"
    monkeypatch.setenv("PREFECT_HOME", str(home))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    code = "import sys; sys.argv[0] = 'armorm'; from armorm.flows.cli.program import main; main()"
    run = subprocess.Popen(
        [sys.executable, "-c", code, "run", "--config", str(config)],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=usual_signals,
    )
    store = Store(config.parent / "store")
    while "decorrelate" not in store.head().artifacts:
        assert run.poll() is None, run.communicate()
        time.sleep(0.1)
    assert servers(home)
    run.send_signal(number)
    _, errors = run.communicate()
    if number is signal.SIGKILL:
        assert run.returncode == -number
    else:
        assert run.returncode == 128 + number
        assert "Traceback" not in errors, errors[errors.index("Traceback") - 1500 :]
    deadline = time.monotonic() + 30
    while servers(home) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert servers(home) == []
    with store.writing("the next one"):
        assert "decorrelate" in store.head().artifacts


def test_a_demo_that_was_stopped_can_be_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from armorm.features import sample
    from armorm.features.sample import backbone
    from armorm.flows.cli import app as cli

    ran: list[Path] = []
    monkeypatch.setattr(cli, "run", lambda config, format: ran.append(config))
    monkeypatch.setattr(sample, "write_sample", partial(sample.write_sample, scale=0.02))
    (tmp_path / ".unfinished-killed").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(backbone, "write_backbone", interrupted)
        with pytest.raises(KeyboardInterrupt):
            cli.demo(tmp_path)
    cli.demo(tmp_path)
    assert ran == [tmp_path / "armorm.toml"]
    assert {"data", "backbone"} <= {path.name for path in tmp_path.iterdir()}


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt
