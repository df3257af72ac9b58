"""Whether this machine, the store and the backbone can do what is asked of them: each check says what to do if not."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Final, Literal
from uuid import uuid4

from packaging.requirements import Requirement

from armorm.features.embedding import gguf_file
from armorm.features.embedding.fingerprint import BackboneSettings, chat_template, local_path
from armorm.features.embedding.folder import read_config, weight_files
from armorm.features.errors import FeatureStoreError
from armorm.features.secrets import redacted
from armorm.features.store import Store, leases
from armorm.features.units import size

RIVALS: Final = 16
"""Who try at once to create one name."""

ROUNDS: Final = 8

DISK_BYTES: Final = 5 << 30

Verdict = Literal["ok", "warning", "failed"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check has found."""

    check: str
    verdict: Verdict
    what: str


def examine(store: Store, rival: Callable[[], Store], backbone: BackboneSettings) -> list[Finding]:
    """Return all checks. Writes and deletes small files below `doctor/` in the store.

    Args:
        store: the configured one; it may not exist yet.
        rival: opens the same store anew, as another process would.
        backbone: the configured one.
    """
    checks: list[tuple[str, Callable[[], tuple[Verdict, str]]]] = [
        ("versions", _versions),
        ("store: permissions", lambda: _permissions(store)),
        ("store: create-if-absent", lambda: _exclusive(rival)),
        ("store: clock", lambda: _clock(store)),
        ("disk", lambda: _disk(store)),
        ("backbone", lambda: _backbone(backbone)),
        ("memory", lambda: _memory(backbone)),
        ("dtype", lambda: _dtype(backbone)),
    ]
    return list(_findings(checks))


def _findings(checks: list[tuple[str, Callable[[], tuple[Verdict, str]]]]) -> Iterator[Finding]:
    for name, check in checks:
        try:
            yield Finding(name, *check())
        except (FeatureStoreError, OSError) as error:
            yield Finding(name, "failed", redacted(str(error)))


def _versions() -> tuple[Verdict, str]:
    wrong = []
    for line in requires("armorm") or []:
        requirement = Requirement(line)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            found = "none"
        if found == "none" or not requirement.specifier.contains(found, prereleases=True):
            wrong.append(f"got {requirement.name} {found}, expected {requirement.specifier}")
    told = f"Python {sys.version.split()[0]}, armorm {version('armorm')}"
    return ("failed", f"{told}; {'; '.join(wrong)}; install from constraints.txt") if wrong else ("ok", told)


def _permissions(store: Store) -> tuple[Verdict, str]:
    name, moved = f"doctor/{uuid4().hex}", f"doctor/{uuid4().hex}"
    store.storage.replace(name, b"probe")
    store.storage.move(name, moved)
    same = store.storage.read(moved) == b"probe" and moved in {file.name for file in store.storage.files("doctor")}
    store.storage.remove(moved)
    if not same:
        return "failed", f"{store.place}: what was written is not read back, or not listed; choose another place"
    return "ok", f"{store.place}: write, list, move, read and delete work"


def _exclusive(rival: Callable[[], Store]) -> tuple[Verdict, str]:
    """Check that the store supports atomic create-if-absent: of several clients exactly one may create a name."""
    folder = f"doctor/{uuid4().hex}"
    stores = [rival() for _ in range(RIVALS)]
    with ThreadPoolExecutor(RIVALS) as pool:
        for round in range(ROUNDS):
            name = f"{folder}/{round}"

            def attempt(number: int, name: str = name) -> bool:
                return stores[number].storage.create(name, f"{number}".encode())

            told = list(pool.map(attempt, range(RIVALS)))
            holder = stores[0].storage.read(name).decode()
            stores[0].storage.remove(name)
            if told.count(True) != 1 or holder != str(told.index(True)):
                return "failed", (
                    f"{stores[0].place}: {told.count(True)} of {RIVALS} were told that they created one and the same "
                    "name; commits could be lost there: use a service whose conditional writes are exclusive"
                )
    return "ok", f"of {RIVALS} that created one name at once, always one was told so, {ROUNDS} times"


def _clock(store: Store) -> tuple[Verdict, str]:
    """Compare this machine's clock with the store's: leases expire by the clock of whoever reads them."""
    name = f"doctor/{uuid4().hex}"
    store.storage.replace(name, b"probe")
    (file,) = [file for file in store.storage.files("doctor") if file.name == name]
    store.storage.remove(name)
    apart = abs((datetime.now(UTC) - file.modified_at).total_seconds())
    allowed = leases.LASTS.total_seconds() / 2
    if apart > allowed:
        return "failed", f"the clocks of this machine and the store are {apart:.0f} s apart; set them right"
    return "ok", f"within {apart + 0.5:.0f} s of this machine's"


def _disk(store: Store) -> tuple[Verdict, str]:
    folder = store.storage.scratch
    while not folder.is_dir():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    told = f"{size(free)} free at {folder}"
    return ("warning", f"{told}; vectors of 4,096 floats take 16 kB a text") if free < DISK_BYTES else ("ok", told)


def _backbone(settings: BackboneSettings) -> tuple[Verdict, str]:
    folder = local_path(settings)
    if folder is None:
        return "ok", f"{settings.path} is fetched from the Hub at the first run"
    if folder.is_file():
        if not gguf_file.is_whole(made := gguf_file.cached(folder)):
            gguf_file.require_packages(folder)
            told = f"{folder}: {size(folder.stat().st_size)}; the first plan or run writes its weights in float32"
            return "ok", f"{told} to {made.parent}, up to 16 times as much"
        folder = made
    read_config(folder)
    chat_template(folder, settings)
    return "ok", f"{folder}: {size(_weights_bytes(folder))} of weights, with a chat template"


def _memory(settings: BackboneSettings) -> tuple[Verdict, str]:
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    folder = local_path(settings)
    if folder and folder.is_file():
        folder = gguf_file.cached(folder)
    needed = 2 * _weights_bytes(folder) if folder and settings.device == "cpu" else 0
    told = f"{size(free)} free"
    if free < needed:
        return "warning", f"{told}; loading the backbone may take {size(needed)}"
    return "ok", told


def _dtype(settings: BackboneSettings) -> tuple[Verdict, str]:
    if settings.device != "cpu" or settings.dtype == "float32":
        return "ok", f"{settings.dtype} on {settings.device}"
    from armorm.features.embedding.slowdown import slowdown  # torch, seconds to import

    if times := slowdown(settings.dtype, settings.device):
        told = f"this processor is {times:.1f} times slower in {settings.dtype} than in float32"
        return "warning", f'{told}; set dtype = "float32" in [backbone]'
    return "ok", f"this processor is as fast in {settings.dtype} as in float32, or faster"


def _weights_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in weight_files(folder))
