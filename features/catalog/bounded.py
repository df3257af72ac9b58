"""A function of the project in a process of its own, which is ended at its limits whatever it is doing.

DuckDB can be interrupted in most places, but not in its parser or in the middle of a function, and a function may take
memory that its own limit does not count. A process can be killed anywhere. Arguments and results travel as JSON.
"""

import ctypes
import json
import os
import re
import resource
import signal
import subprocess
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from importlib import import_module
from numbers import Integral, Real
from typing import Any, Final
from uuid import UUID

from armorm.features import errors
from armorm.features.errors import QueryError
from armorm.features.units import size

BEGUN: Final = b"\0begun\n"
"""What the process writes when everything is imported, from when on its time counts."""

RUNTIME_BYTES: Final = 512 * 1024**2
"""Memory that Python and its libraries take besides what the work is allowed."""


NO_MEMORY: Final = re.compile("MemoryError|OutOfMemory|Out of Memory|bad_alloc|[Cc]annot allocate memory")
"""What the last line of a process says that ran out of memory."""


def half_of_memory() -> int:
    """Return half of this machine's memory, in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


@dataclass(frozen=True, slots=True)
class Limits:
    """What a process may take."""

    time_s: float = 300.0
    """The time from when the process begins its work."""
    memory_bytes: int = 0
    """The most memory; 0 stands for half of the machine's."""
    temporary_bytes: int = 20 * 10**9
    """The most space on disk, for what does not fit into memory."""
    rows: int = 1_000_000
    """The most rows of an answer."""
    answer_bytes: int = 500 * 10**6
    """The largest answer, as text."""

    @property
    def memory(self) -> int:
        """The memory in bytes."""
        return self.memory_bytes or half_of_memory()


def call(function: Callable[..., Any], arguments: Mapping[str, Any], limits: Limits) -> Any:
    """Return what a function of a module gives, made by a process that ends with this one at the latest.

    Args:
        function: of a module of this project; it gives what JSON can hold, or dates, decimals, bytes and the like.
        arguments: by name, of the same kinds.
        limits: of its time and memory.

    Raises:
        QueryError: it takes too long or too much.
        FeatureStoreError: what the function raises.
    """
    request = {
        "parent": os.getpid(),
        "module": function.__module__,
        "function": function.__qualname__,
        "memory_bytes": limits.memory + RUNTIME_BYTES,
    }
    try:
        sent = json.dumps(request | {"arguments": encode(arguments)}).encode()
    except (RecursionError, ValueError) as error:  # the latter of an integer of many thousand digits
        raise QueryError("got a parameter that nests too deep or is too large; expected a smaller one") from error
    # -P: a folder of the user's that is called like one of ours is not to be imported
    command = [sys.executable, "-P", "-m", "armorm.features.catalog.bounded"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert process.stdin
        assert process.stdout
        process.stdin.write(sent + b"\n")
        process.stdin.flush()
        begun = _has_begun(process.stdout.fileno())
        answer, said = process.communicate(timeout=limits.time_s if begun else None)
    except subprocess.TimeoutExpired as expired:
        raise QueryError(
            f"got a query that took more than {limits.time_s:g} s; expected a shorter one; ask for less, or raise "
            "--time-limit"
        ) from expired
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            assert stream
            stream.close()
    if process.returncode:
        *_, last = ["", *said.decode(errors="replace").strip().splitlines()]
        if process.returncode < 0 or NO_MEMORY.search(last):
            raise too_much(limits, last or f"ended with {process.returncode}")
        raise QueryError(f"got a process for the query that failed ({last}); expected an answer; see `armorm doctor`")
    kind, value = json.loads(answer)
    if kind == "error":
        raise _error(**value)
    return decode(value)


def _has_begun(stdout: int) -> bool:
    """Wait until the process says that it begins its work, whatever is printed before; False if it ends first.

    Bytes are read one by one: a buffer would keep the beginning of an answer that comes at once from `communicate`.
    """
    seen = b""
    while not seen.endswith(BEGUN):
        byte = os.read(stdout, 1)
        if not byte:
            return False
        seen = (seen + byte)[-len(BEGUN) :]
    return True


def too_much(limits: Limits, said: str) -> QueryError:
    """Return the error of work that needs more than its memory or temporary space."""
    return QueryError(
        f"got a query that needs more than {size(limits.memory)} of memory, or "
        f"{size(limits.temporary_bytes)} on disk ({said}); expected a smaller one; "
        "ask for less, or raise --memory-limit"
    )


def _error(name: str, message: str, facts: Mapping[str, Any]) -> errors.FeatureStoreError:
    """Return an error of the tree as it was raised, with its facts."""
    kind = getattr(errors, name)
    error: errors.FeatureStoreError = kind.__new__(kind, message)
    error.args = (message,)
    vars(error).update(facts)
    return error


TAG: Final = "$"

_TEXTUAL: Final[Mapping[str, tuple[type, Callable[[Any], str], Callable[[str], Any]]]] = {
    "datetime": (datetime, datetime.isoformat, datetime.fromisoformat),
    "date": (date, date.isoformat, date.fromisoformat),
    "time": (time, time.isoformat, time.fromisoformat),
    "decimal": (Decimal, str, Decimal),
    "uuid": (UUID, str, UUID),
    "bytes": (bytes, lambda value: b64encode(value).decode(), b64decode),
}
"""Types by their name on the way: what a datetime is comes before date, of which it is one."""


def encode(value: Any) -> Any:
    """Return the value as JSON can hold it; what JSON does not know is a mapping with a tag.

    Raises:
        QueryError: it is of a type that would come out as another.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Integral):  # of numpy, as `Real` is
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, list):
        return [encode(item) for item in value]
    if isinstance(value, tuple):
        return {TAG: "tuple", "value": [encode(item) for item in value]}
    if isinstance(value, Mapping):
        if all(isinstance(name, str) for name in value) and TAG not in value:
            return {name: encode(item) for name, item in value.items()}
        return {TAG: "mapping", "value": [[encode(name), encode(item)] for name, item in value.items()]}
    if isinstance(value, timedelta):
        return {TAG: "timedelta", "value": [value.days, value.seconds, value.microseconds]}
    for name, (kind, to_text, _) in _TEXTUAL.items():
        if isinstance(value, kind):
            return {TAG: name, "value": to_text(value)}
    kind = type(value)
    raise QueryError(
        f"got a value of type {kind.__module__}.{kind.__qualname__}; expected a number, text, bytes, a date or time, "
        "or a list or mapping of these; convert it, a column with ::VARCHAR"
    )


def decode(value: Any) -> Any:
    """Return what `encode` was given."""
    if isinstance(value, list):
        return [decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    match value.get(TAG):
        case None:
            return {name: decode(item) for name, item in value.items()}
        case "tuple":
            return tuple(decode(item) for item in value["value"])
        case "mapping":
            return {decode(name): decode(item) for name, item in value["value"]}
        case "timedelta":
            return timedelta(*value["value"])
        case name:
            return _TEXTUAL[name][2](value["value"])


def main() -> None:
    """Read a request from standard input, do it, and write the answer to standard output."""
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
        signal.SIGHUP,
    ):  # sent to the group: the parent hears, too, and ends this process
        signal.signal(number, signal.SIG_IGN)
    request = json.loads(sys.stdin.readline())
    _end_with(request["parent"])
    function: Any = import_module(request["module"])
    for part in request["function"].split("."):
        function = getattr(function, part)
    limit = request["memory_bytes"]
    _, allowed = resource.getrlimit(resource.RLIMIT_DATA)
    limit = limit if allowed == resource.RLIM_INFINITY else min(limit, allowed)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))  # not the files that are mapped, such as shards
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers = os.dup(1)
    os.dup2(2, 1)  # whatever prints does not print into the answer
    os.write(answers, BEGUN)
    try:
        answer = json.dumps(("value", encode(function(**decode(request["arguments"])))))
    except RecursionError:
        answer = _told(QueryError("got an answer whose values nest too deep; expected less; select parts of them"))
    except errors.FeatureStoreError as error:
        answer = _told(error)
    with os.fdopen(answers, "wb") as out:
        out.write(answer.encode())


def _told(error: errors.FeatureStoreError) -> str:
    facts = {name: of if isinstance(of, int | float | str) else str(of) for name, of in vars(error).items()}
    return json.dumps(("error", {"name": type(error).__name__, "message": str(error), "facts": facts}))


def _end_with(parent: int) -> None:
    """Have the system kill this process when its parent ends, where the system can."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:  # it has ended already
        os._exit(1)


if __name__ == "__main__":
    main()
