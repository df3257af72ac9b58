"""What a chat template writes, in a process of its own, which is ended at its limits.

A template is a program of the backbone's author: it may loop for ever or write gigabytes, for every conversation or for
one alone, and none of that can be stopped from within Python.
"""

import atexit
import json
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from transformers.utils.chat_template_utils import render_jinja_template

from armorm.features.catalog.bounded import Ended, Worker
from armorm.features.errors import BackboneError
from armorm.features.units import size

WORK_S: Final = 2.0
"""The most time of a processor for one conversation; a usual one takes less than a thousandth of it."""

MEMORY_BYTES: Final = 512 * 1024**2

CHARACTERS: Final = 100_000
"""What a template may write besides ten times what a conversation says."""

MOST_ENDED: Final = 3
"""How many of some conversations may come to such an end: so many cost themselves alone, more are the template's."""

ITS_OWN: Final = (signal.SIGPROF, signal.SIGSEGV)
"""Signals that a template brings upon itself: of its time, and of a stack that is too deep."""

Turns = Sequence[Mapping[str, str]]


@dataclass(slots=True)
class _Writer:
    """The process that renders for this one, which starts it when it is first needed."""

    lock: threading.Lock
    worker: Worker | None = None
    of_process: int = 0

    def started(self) -> Worker:
        """Return the process: after a fork, or after an end, a new one."""
        if self.worker is None or self.worker.has_ended or self.of_process != os.getpid():
            self.worker, self.of_process = Worker(MEMORY_BYTES), os.getpid()
        return self.worker

    def end(self) -> None:
        if self.worker and self.of_process == os.getpid():
            self.worker.end()


_writer: Final = _Writer(threading.Lock())
atexit.register(_writer.end)


def write(name: str, template: str, tokens: Mapping[str, Any], conversations: Sequence[Turns]) -> list[tuple[str, str]]:
    """Return what a template writes for each conversation, and why it does not; one of the two is empty.

    Args:
        name: the backbone's.
        template: Jinja.
        tokens: the tokenizer's special tokens by their names.
        conversations: messages with `role` and `content`.

    Raises:
        BackboneError: the template takes too long, or too much memory, for several of them.
    """
    found: list[tuple[str, str]] = []
    n_ended = 0
    with _writer.lock:
        while len(found) < len(conversations):
            rest = {"template": template, "tokens": tokens, "conversations": conversations[len(found) :]}
            try:
                found += map(tuple, _writer.started().ask(written, rest, work_s=WORK_S))
            except Ended as ended:
                if not (ended.out_of_memory or ended.by_signal in ITS_OWN):
                    raise BackboneError(
                        name, f"got no answer of the process that renders chat templates ({ended}); run it again"
                    ) from ended
                n_ended += 1
                why = f"takes more than {WORK_S:g} s of a processor, or {size(MEMORY_BYTES)} of memory"
                found.append(("", f"it {why}"))
                if n_ended == MOST_ENDED:
                    raise BackboneError(
                        name,
                        f"got a chat template that {why}, for {n_ended} of {len(found)} conversations; expected one "
                        "that ends; set chat_template in [backbone] to it",
                    ) from ended
    return found


def written(template: str, tokens: Mapping[str, Any], conversations: Sequence[Turns]) -> Iterator[tuple[str, str]]:
    """Yield what `write` returns, within the process that may be ended."""
    for turns in conversations:
        try:
            if not turns:
                raise ValueError("it has no messages")
            of_one: Any = {"conversations": [turns], "chat_template": template}
            rendered: Any = render_jinja_template(**of_one, **tokens)
        except MemoryError:
            raise
        except Exception as error:  # a template may raise anything
            yield "", " ".join(str(error).split()) or type(error).__name__
            continue
        ((text,), _) = rendered
        most = CHARACTERS + 10 * len(json.dumps(turns, ensure_ascii=False))
        too_long = f"it writes {len(text):,} characters; expected at most {most:,}" if len(text) > most else ""
        yield ("", too_long) if too_long else (str(text), "")
