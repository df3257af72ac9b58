"""The rule for SIGTERM, SIGINT and SIGHUP: one line, one exit code for each, and an end within seconds.

Python runs a signal's handler between two steps of the main thread, and Prefect has a handler of its own while a flow
runs. So a thread hears the signals as well, by the pipe that Python writes them to at once. The exception unwinds what
can be unwound: Prefect marks its runs, the store lets go of its lock. If that takes longer than `GRACE_S`, the thread
ends the process; locks, leases and scratch are made for that. A second signal ends it at once.

Imports the standard library alone, and `armorm.features.secrets`, which does the same: the rule holds while all else is
imported.
"""

import atexit
import logging
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

from armorm.features.secrets import redact_error

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

GRACE_S: Final = 8.0
"""From the signal to the end, at most."""


class _Stop:
    """What is known of a stop; there is one in a process."""

    def __init__(self) -> None:
        self.number: int | None = None
        """The signal that asked for it first."""
        self.deadline = 0.0
        """On the clock that only goes on; 0 until the thread has heard the signal."""
        self.echo = False
        """Whether Prefect, whose handler has taken the signal, is still to send it once more to this process."""
        self.said = False
        self.grace_s = GRACE_S
        self.on_stop: Callable[[], object] = lambda: None


_stop = _Stop()


def listen() -> None:
    """Take the signals from here on, in the main thread; one that is ignored, as under `nohup`, stays so."""
    heard, told = os.pipe()
    os.set_blocking(told, False)
    signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
    atexit.register(_end_if_asked)  # the first to be registered is the last to be called
    os.register_at_fork(before=_hold_back, after_in_parent=_let_through, after_in_child=_not_in_a_child)
    sys.unraisablehook = _unless_asked(sys.unraisablehook)
    threading.excepthook = _unless_asked(threading.excepthook)
    threading.Thread(target=_hear, args=(heard,), name="stopping", daemon=True).start()


def asked() -> int | None:
    """Return the number of the signal that has asked for an end, if one has."""
    return _stop.number


def exit_code() -> int:
    """Return what a shell gives for the signal: 143, 130 or 129."""
    return 128 + (_stop.number or 0)


def say() -> None:
    """Print the one line, once."""
    if _stop.number is None or _stop.said:
        return
    _stop.said = True
    name = signal.Signals(_stop.number).name
    line = f"armorm: stopped by {name}; what was committed is kept; the same command goes on from there\n"
    try:
        os.write(2, line.encode())
    except OSError:  # nobody is there to read it
        return


@contextmanager
def left_to(on_stop: Callable[[], object], *, within_s: float) -> Iterator[None]:
    """Have a function called in place of an exception, by another thread, while the block runs in the main thread.

    Args:
        on_stop: says to the block that it is to end.
        within_s: how long the block may take from then on.
    """
    before = {number: signal.signal(number, _leave) for number in SIGNALS}
    _stop.on_stop, _stop.grace_s = on_stop, within_s
    if asked():  # between the last step and this one
        _stop.deadline = time.monotonic() + within_s
        on_stop()
    try:
        yield
    finally:
        _stop.on_stop, _stop.grace_s = (lambda: None), GRACE_S
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    _stop.number = _stop.number or number  # the thread may come to it later than this one to its end
    raise KeyboardInterrupt


def _leave(number: int, frame: FrameType | None) -> None:
    pass  # a handler that is none would not write into the pipe


def _hear(pipe: int) -> None:
    """Wait for signals, then for the end."""
    while True:
        left_s = max(0.0, _stop.deadline - time.monotonic()) if _stop.deadline else None
        if not select.select([pipe], [], [], left_s)[0]:
            _end()
        number = os.read(pipe, 1)[0]
        if number in SIGNALS:
            _take(number)


def _take(number: int) -> None:
    """Note the first signal; end by the second."""
    ours = signal.getsignal(number) in (_interrupt, _leave)
    if not _stop.deadline:
        _stop.number = _stop.number or number
        _stop.echo = not ours
        _stop.deadline = time.monotonic() + _stop.grace_s
        if signal.getsignal(number) is not _leave:
            logging.disable()  # what is torn down complains, now and then with a traceback; the one line says it all
        _stop.on_stop()
    elif ours and _stop.echo:
        _stop.echo = False
    else:
        _end()


def _end() -> None:
    say()
    os._exit(exit_code())


def _end_if_asked() -> None:
    """Spare the process the taking apart of the interpreter, in which what an exception has left open complains."""
    if asked():
        _end()


def _hold_back() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def _let_through() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def _not_in_a_child() -> None:
    """Forget the pipe in a forked process, which shares it: what it is told is not for this one."""
    signal.set_wakeup_fd(-1)
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    _let_through()


def _unless_asked(hook: Callable[[Any], Any]) -> Callable[[Any], None]:
    """Return what fails in a thread or a destructor is said without secrets, and not at all when it was stopped."""

    def call(failed: Any) -> None:
        if not asked():
            redact_error(failed.exc_value)
            hook(failed)

    return call
