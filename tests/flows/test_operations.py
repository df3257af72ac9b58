"""Every procedure of docs/operations.md, carried out as it is written there."""

import errno
import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from armorm.features.catalog.query import query
from armorm.features.sample.backbone import sample_texts, write_backbone
from armorm.features.store import Store
from armorm.flows.configuration.profiles import template
from tests import prefect_server, s3_server
from tests.damage import overwrite
from tests.features.test_verify import flip
from tests.flows.console import Terminal, Typed, program, sections, terminal

ROOT = Path(__file__).parent.parent.parent
PAGE = sections(ROOT / "docs" / "operations.md")

Home = Callable[..., Terminal]


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a server that all commands share, which is quicker than one for each."""
    with prefect_server.serve(tmp_path_factory.mktemp("prefect")) as server:
        yield server.environment


@pytest.fixture
def home(ran: Store, prefect: dict[str, str], tmp_path: Path) -> Home:
    """Makes terminals in a copy of a folder in which a whole run has been made."""

    def copy(folder: Path = tmp_path / "home", **environment: str) -> Terminal:
        shutil.copytree(Path(ran.place).parent, folder, dirs_exist_ok=True)
        return terminal(folder, **prefect, **environment)

    return copy


def store_of(terminal: Terminal) -> Store:
    return Store(terminal.folder / "store")


def model_of(terminal: Terminal) -> str:
    return store_of(terminal).find("model").artifact_id


def file_size(path: Path) -> int:
    return path.stat().st_size


def collect(terminal: Terminal, typed: list[Typed], **names: str) -> None:
    """Follows a page up to the line that names the model of its own run, then the rest."""
    at = next(place for place, line in enumerate(typed) if "b82d55e0" in line.command)
    terminal.follow(typed[:at], **names)
    terminal.follow(typed[at:], **names, b82d55e0=model_of(terminal)[:8])


def kept_snapshots(terminal: Terminal) -> set[int]:
    """By number: after a collection at once, the newest and what the pointer and the tag before it name."""
    return {snapshot.number for snapshot in store_of(terminal).history() if not snapshot.expired}


def change_gate(terminal: Terminal, steps: int) -> None:
    """So that a run has something to do, which is soon done."""
    config = terminal.folder / "armorm.toml"
    config.write_text(re.sub(r"(?m)^steps = \d+", f"steps = {steps}", config.read_text()))


def test_every_procedure_is_carried_out_below() -> None:
    code = Path(__file__).read_text()
    assert all(f'PAGE["{heading}"]' in code for heading in PAGE)
    assert all(PAGE.values())


@pytest.mark.slow
def test_the_lines_for_every_day(home: Home) -> None:
    terminal = home()
    every_day = next(re.finditer(r"```console\n(.*?)```", (ROOT / "docs" / "operations.md").read_text(), re.DOTALL))[1]
    terminal.follow(
        [Typed(line.removeprefix("$ "), ()) for line in re.sub("# exit code 1", "# 1", every_day).splitlines()]
    )


@contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[None]:
    """A file system of its own at a folder; the test is skipped where none can be mounted."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "armorm-test", str(folder)]
    if os.getuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here: it takes root")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill(path: Path) -> None:
    """Takes all that a disk has left, to the last block."""
    with path.open("wb", buffering=0) as ballast:
        while True:
            ballast.write(bytes(4096))


@pytest.mark.slow
def test_a_full_disk(home: Home, ran: Store, tmp_path: Path) -> None:
    taken = sum(path.stat().st_blocks * 512 for path in Path(ran.place).parent.rglob("*"))
    disk = tmp_path / "disk"
    disk.mkdir()
    with small_disk(disk, taken + (1 << 22)):
        terminal = home(disk)
        trash = disk / "store" / "trash" / "20261101T020000" / "objects"
        trash.mkdir(parents=True)
        (trash / "collected").write_bytes(bytes(1 << 20))
        change_gate(terminal, 31)
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            fill(disk / "ballast")
        terminal.follow(PAGE["The disk is full"])


@pytest.mark.slow
def test_a_run_that_hangs(home: Home) -> None:
    terminal = home()
    change_gate(terminal, 200_000)
    run = subprocess.Popen(
        ["armorm", "run"],
        cwd=terminal.folder,
        env=terminal.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
    )
    lock = terminal.folder / "store" / "lock"
    while f"pid {run.pid}, armorm run" not in lock.read_text():
        assert run.poll() is None
        time.sleep(0.05)
    run.send_signal(signal.SIGSTOP)
    said, *rest = PAGE["A run hangs"]
    terminal.type(said, **{"48211": str(run.pid)})
    change_gate(terminal, 31)
    terminal.follow(rest, **{"48211": str(run.pid)})
    assert run.wait() == -signal.SIGKILL


@pytest.mark.slow
def test_a_damaged_file(home: Home, seed: int) -> None:
    terminal = home()
    before = store_of(terminal).head().snapshot_id
    shards = [a for slot, a in store_of(terminal).head().artifacts.items() if slot.startswith("features/")]
    damaged = max((store_of(terminal).objects.path(of) for of in shards[0].objects.values()), key=file_size)
    overwrite(damaged, flip(damaged.read_bytes(), random.Random(seed)))
    terminal.follow(PAGE["A file of the store is damaged"])
    assert store_of(terminal).head().snapshot_id == before


@pytest.mark.slow
def test_another_backbone(home: Home) -> None:
    terminal = home()
    write_backbone(terminal.folder / "new-backbone", sample_texts(), seed=1)
    (old,) = store_of(terminal).head().within("backbone")
    *before, diff = PAGE["The backbone has changed"]
    terminal.follow(before)
    (new,) = store_of(terminal).head().within("backbone").keys() - {old}
    terminal.type(diff, **{"9c6b9b3a": old[:8], "a41f07d2": new[:8]})


@pytest.mark.slow
def test_a_withdrawn_dataset(home: Home) -> None:
    terminal = home()
    model = model_of(terminal)
    collect(terminal, PAGE["A dataset was withdrawn"], **{"4f21c07a": model[:8]})
    assert not list((terminal.folder / "models").glob(f"{model}*"))
    assert kept_snapshots(terminal) <= {store_of(terminal).head().number - commits for commits in range(3)}


@pytest.mark.slow
def test_a_row_that_must_be_deleted(home: Home) -> None:
    terminal = home()
    find, *rest = PAGE["A row must be deleted"]
    row = terminal.type(find).splitlines()[1]
    collect(terminal, rest, **{"5ac72064": row[:8], "4f21c07a": model_of(terminal)[:8]})
    found = query(store_of(terminal), f"SELECT outcome, reason FROM native_rows WHERE source_row = '{row}'").rows
    assert found == [("dropped", "forgotten")]  # its id stays, so that rows in are rows kept, rejected and dropped
    assert kept_snapshots(terminal) <= {store_of(terminal).head().number - commits for commits in range(3)}


@pytest.mark.slow
def test_a_store_that_moves(home: Home, tmp_path: Path) -> None:
    with s3_server.serve() as address:
        environment = s3_server.ENVIRONMENT | {"AWS_ENDPOINT_URL": address, "XDG_CACHE_HOME": str(tmp_path / "cache")}
        terminal = home(**environment)
        before = store_of(terminal).head()
        place = str(terminal.folder).encode()
        for path in (terminal.folder / "store" / "snapshots").iterdir():
            assert place not in path.read_bytes(), path
        typed = [
            Typed(line.command.replace("docs/", f"{ROOT}/docs/"), line.seen) for line in PAGE["The store must move"]
        ]
        terminal.follow(typed)
        shutil.rmtree(terminal.folder / "store")
        seen = Typed("armorm status", (f"snapshot {before.number} ({before.snapshot_id}), ..",))
        terminal.type(seen)


@pytest.mark.slow
def test_credentials_that_change(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INITIAL_NO_AUTH_ACTION_COUNT", "4")  # the bucket, then the four requests of `new_key`
    with s3_server.serve() as address:
        key, secret = new_key(address)
        environment = s3_server.ENVIRONMENT | {"AWS_ENDPOINT_URL": address, "XDG_CACHE_HOME": str(tmp_path / "cache")}
        terminal = home(**environment, ARMORM_STORE=f"s3://{s3_server.BUCKET}/store")
        names = {"new-key": key, "new-secret": secret}
        terminal.follow(PAGE["Credentials change"], **names)


def new_key(address: str) -> tuple[str, str]:
    """The key of a user who may do everything."""
    import boto3

    client = boto3.client(
        "iam", endpoint_url=address, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    )
    client.create_user(UserName="armorm")
    policy = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}'
    client.put_user_policy(UserName="armorm", PolicyName="all", PolicyDocument=policy)
    key = client.create_access_key(UserName="armorm")["AccessKey"]
    return key["AccessKeyId"], key["SecretAccessKey"]


@pytest.mark.slow
def test_an_upgrade(home: Home) -> None:
    terminal = home()
    before = store_of(terminal).head()
    armorm = terminal.folder / "bin" / "armorm"
    newer = armorm.read_text().replace(
        "from armorm.flows.cli.program",
        "from armorm.stages.evaluate import EVALUATE as of; type(of).version.__set__(of, of.version + 1); "
        "from armorm.flows.cli.program",
    )
    (terminal.folder / "newer").write_text(newer)
    program(terminal.folder / "bin" / "pip", f"cat {terminal.folder}/newer > {armorm}")
    terminal.follow(PAGE["An upgrade of armorm"])
    after = {slot: artifact for slot, artifact in store_of(terminal).head().artifacts.items() if slot != "evaluate"}
    assert after == {slot: artifact for slot, artifact in before.artifacts.items() if slot != "evaluate"}
    assert store_of(terminal).find("evaluate").recipe.version == before.artifacts["evaluate"].recipe.version + 1


@pytest.mark.slow
def test_a_model_that_was_a_mistake(home: Home) -> None:
    terminal = home()
    first = model_of(terminal)
    change_gate(terminal, 31)
    terminal.type(Typed("armorm train", ()))
    terminal.follow(PAGE["A model was a mistake"], **{"4f21c07a": first[:8], "b82d55e0": model_of(terminal)[:8]})


@pytest.mark.slow
def test_a_store_that_has_grown(home: Home) -> None:
    home().follow(PAGE["The store has grown"])


def test_the_settings_that_are_named_exist() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    for section, name in re.findall(r"ARMORM_([A-Z]+)__([A-Z_]+)=", text):
        assert re.search(rf"(?m)^\[{section.lower()}\][^\[]*?^#? ?{name.lower()} =", template(), re.DOTALL)
