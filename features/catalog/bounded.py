"""Functions of the project in a process of its own, which is ended at its limits whatever it is doing.

DuckDB can be interrupted in most places, but not in its parser or in the middle of a function, and a function may take
memory that its own limit does not count. A process can be killed anywhere. Arguments and results travel as JSON, the
latter piece by piece: so much is told of an answer's size before anybody has it, and of the time it takes to read.
"""

import ctypes
import json
import math
import os
import re
import resource
import select
import signal
import subprocess
import sys
import time as clock
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from importlib import import_module
from io import RawIOBase
from numbers import Integral, Real
from tempfile import TemporaryFile
from typing import IO, Any, Final
from uuid import UUID

from armorm.features import errors
from armorm.features.errors import QueryError
from armorm.features.units import size

BEGUN: Final = b"\0begun\n"
"""What the process writes when everything is imported, from when on its time counts."""

CHUNK: Final = 1 << 20
"""Bytes that are read at once."""

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
    answer_bytes: int = 10**9
    """The largest answer: about what it takes of the memory of whoever asks."""

    @property
    def memory(self) -> int:
        """The memory in bytes."""
        return self.memory_bytes or half_of_memory()


class Ended(Exception):
    """A process that has ended in the middle of its work."""

    def __init__(self, code: int, said: str) -> None:
        super().__init__(said or f"ended with {code}")
        self.out_of_memory: Final = bool(NO_MEMORY.search(said))
        self.by_signal: Final = max(0, -code)
        """The signal that has ended it; 0 for none."""


class Worker:
    """A process that calls one function of the project after the other, as it is asked."""

    def __init__(self, memory_bytes: int, *, parent: int | None = None) -> None:
        """Start it; what it may take besides `memory_bytes` is what Python and its libraries need.

        Args:
            memory_bytes: the most memory that its work may take.
            parent: the process whose end it may not outlive; None for one that ends when nobody can ask it any more.
        """
        self._memory_bytes, self._parent = memory_bytes + RUNTIME_BYTES, parent
        self._said = TemporaryFile()  # noqa: SIM115 - it is closed at the end
        # -P: a folder of the user's that is called like one of ours is not to be imported
        command = [sys.executable, "-P", "-m", __name__]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, bufsize=0
        )
        assert self._process.stdin
        assert self._process.stdout
        self._asked, self._answers = self._process.stdin, self._process.stdout
        self._left = b""

    def ask(
        self,
        function: Callable[..., Iterable[Any]],
        arguments: Mapping[str, Any],
        *,
        time_s: float = math.inf,
        work_s: float = 0,
        answer_bytes: int = 10**9,
    ) -> Iterator[Any]:
        """Yield what a function of a module gives, piece by piece. Unless all is taken, the process is ended.

        Args:
            function: of a module of this project; it gives what JSON can hold, or dates, decimals, bytes and the like.
            arguments: by name, of the same kinds.
            time_s: the longest time for all, from when the function begins, the reading of its pieces included.
            work_s: the most time of a processor for one piece; 0 for any. Waiting for others takes none.
            answer_bytes: the most memory that the pieces may take.

        Raises:
            TimeoutError: it takes longer than `time_s`.
            Ended: it takes too much memory or work, or fails.
            FeatureStoreError: what the function raises.
        """
        request = {
            "parent": self._parent,
            "module": function.__module__,
            "function": function.__qualname__,
            "memory_bytes": self._memory_bytes,
            "work_s": work_s,
            "answer_bytes": answer_bytes,
        }
        try:
            sent = f"{json.dumps(request | {'arguments': encode(arguments)})}\n".encode()
        except (RecursionError, ValueError) as error:  # the latter of an integer of many thousand digits
            raise QueryError("got a parameter that nests too deep or is too large; expected a smaller one") from error
        kind = ""
        try:
            with suppress(BrokenPipeError):  # it has ended; why, is read below
                _write(self._asked, sent)
            while not self._line(math.inf).endswith(BEGUN):  # after what is printed before
                pass
            until = clock.monotonic() + time_s
            while kind != "end":
                line = self._line(until)
                kind, value = json.loads(line)
                value = decode(value) if TAGGED in line else value
                if kind == "error":
                    raise _error(**value)
                if kind == "piece":
                    yield value
        finally:
            if kind != "end":
                self.end()

    @property
    def has_ended(self) -> bool:
        """Whether it cannot be asked any more."""
        return self._process.poll() is not None

    def end(self) -> None:
        """Kill it."""
        self._process.kill()
        self._process.wait()
        for stream in (self._asked, self._answers, self._said):
            stream.close()

    def _line(self, until: float) -> bytes:
        """Return the next line that it writes.

        Raises:
            TimeoutError: it is not there in time.
            Ended: it will not come.
        """
        parts, ready = [], select.poll()
        ready.register(self._answers)
        while b"\n" not in self._left:
            parts.append(self._left)
            left_s = until - clock.monotonic()
            if left_s <= 0 or not ready.poll(None if left_s == math.inf else left_s * 1000):
                raise TimeoutError
            self._left = os.read(self._answers.fileno(), CHUNK)
            if not self._left:
                code = self._process.wait()  # its last words come after the end of its answers
                self._said.seek(0)
                *_, last = ["", *self._said.read().decode(errors="replace").strip().splitlines()]
                raise Ended(code, last)
        last_part, _, self._left = self._left.partition(b"\n")
        if clock.monotonic() > until:
            raise TimeoutError
        return b"".join([*parts, last_part, b"\n"])


def call(function: Callable[..., Iterable[Any]], arguments: Mapping[str, Any], limits: Limits) -> Iterator[Any]:
    """Yield the pieces that a function gives, made by a process that ends with this one at the latest.

    Args:
        function: see `Worker.ask`.
        arguments: by name.
        limits: of its time, its memory and its answer.

    Raises:
        QueryError: it takes too long or too much.
        FeatureStoreError: what the function raises.
    """
    worker = Worker(limits.memory, parent=os.getpid())
    answer_bytes = min(limits.answer_bytes, limits.memory)
    try:
        yield from worker.ask(function, arguments, time_s=limits.time_s, answer_bytes=answer_bytes)
    except TimeoutError as error:
        raise too_long(limits.time_s) from error
    except Ended as ended:
        if ended.by_signal == signal.SIGSEGV:  # of a value or statement that is nested deeper than DuckDB's stack
            raise QueryError(
                f"got a query that DuckDB breaks down on ({ended}); expected one that it can run; nest texts, types "
                "and brackets less deep"
            ) from ended
        if ended.by_signal or ended.out_of_memory:
            raise too_much(limits, str(ended)) from ended
        raise QueryError(
            f"got a process for the query that failed ({ended}); expected an answer; see `armorm doctor`"
        ) from ended
    finally:
        worker.end()


def too_long(time_s: float) -> QueryError:
    """Return the error of work that needs more than its time."""
    return QueryError(
        f"got a query that took more than {time_s:g} s; expected a shorter one; ask for less, or raise --time-limit"
    )


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
TAGGED: Final = b'"$": '
"""What stands in the text of a value that is not what JSON makes of it."""

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
    """Read requests from standard input, a line each, and write the answers to standard output."""
    # sent to the group: the parent hears, too, and ends this process
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with os.fdopen(os.dup(1), "wb", buffering=0) as answers:
        os.dup2(2, 1)  # whatever prints does not print into the answer
        for line in sys.stdin.buffer:
            _answer(json.loads(line), answers)


def _answer(request: Mapping[str, Any], answers: RawIOBase) -> None:
    """Do what is asked and write it, piece by piece."""
    if request["parent"] is not None:
        _end_with(request["parent"])
    function: Any = import_module(request["module"])
    for part in request["function"].split("."):
        function = getattr(function, part)
    limit = request["memory_bytes"]
    _, allowed = resource.getrlimit(resource.RLIMIT_DATA)
    limit = limit if allowed == resource.RLIM_INFINITY else min(limit, allowed)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))  # not the files that are mapped, such as shards
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _write(answers, BEGUN)
    left = request["answer_bytes"]
    try:
        signal.setitimer(signal.ITIMER_PROF, request["work_s"])
        for piece in function(**decode(request["arguments"])):
            text = json.dumps(("piece", encode(piece)))
            left -= _memory_of(text)
            if left < 0:
                raise QueryError(
                    f"got an answer of more than {size(request['answer_bytes'])}; expected a smaller one; ask for less"
                )
            _write(answers, f"{text}\n".encode())
            signal.setitimer(signal.ITIMER_PROF, request["work_s"])
        answer = json.dumps(("end", None))
    except RecursionError:
        answer = _told(QueryError("got an answer whose values nest too deep; expected less; select parts of them"))
    except errors.FeatureStoreError as error:
        answer = _told(error)
    signal.setitimer(signal.ITIMER_PROF, 0)
    _write(answers, f"{answer}\n".encode())


def _memory_of(text: str) -> int:
    """Return about how much memory the values of a JSON text take: numbers some 24 bytes, lists and mappings 64."""
    return len(text) + 24 * text.count(",") + 64 * (text.count("[") + text.count("{"))


def _write(out: IO[bytes] | RawIOBase, content: bytes) -> None:
    """Write all of it: a pipe takes what there is room for."""
    rest = memoryview(content)
    while rest:
        rest = rest[out.write(rest) or 0 :]


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
