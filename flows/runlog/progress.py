"""How far the work of a task has come: on a bar in the terminal, and in Prefect's UI, with the time that is left."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from uuid import UUID

from httpx import HTTPError
from prefect import get_run_logger
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.exceptions import PrefectException

from armorm.features.units import in_words, size
from armorm.flows.runlog import console
from armorm.flows.runlog.console import OnProgress

SHOWN_AFTER_S: Final = 3.0
"""Work that is done sooner is told by its result alone."""

EVERY_S: Final = 3.0
"""Between two things that Prefect's server is told."""

LOGGED_EVERY_S: Final = 60.0
"""Between two lines of the log, where there is no terminal to show a bar on."""


class _Shown:
    """The progress artifact of one piece of work."""

    def __init__(self, label: str, *, of_bytes: bool) -> None:
        self._label, self._of_bytes = label, of_bytes
        self._artifact: UUID | None = None
        self._said_at = time.monotonic() + SHOWN_AFTER_S - EVERY_S
        self._logged_at = time.monotonic()
        self._began: tuple[float, int] | None = None
        self._last: tuple[int, int | None, str] = (0, None, "")

    def update(self, done: int, total: int | None, note: str) -> None:
        """Tell the server now and then."""
        now = time.monotonic()
        self._began = self._began or (now, done)  # what an earlier run has done is no speed
        self._last = done, total, note
        if now - self._said_at >= EVERY_S:
            self._say(100 * done / total if total else 0.0, self._left(now))
            self._said_at = now
        if now - self._logged_at >= LOGGED_EVERY_S and not console.err.is_terminal:
            get_run_logger().info(f"{self._label}: {self._told(self._left(now))}")
            self._logged_at = now

    def end(self) -> None:
        """Show that the work has come to its end."""
        if self._artifact:
            self._say(100.0, "done")

    def _left(self, now: float) -> str:
        """Return the time that is left, at the speed since the work began."""
        done, total, _ = self._last
        began, first = self._began or (now, done)
        if not total or done <= first:
            return "time left not known yet"
        return f"about {in_words((now - began) * (total - done) / (done - first))} left"

    def _told(self, left: str) -> str:
        done, total, note = self._last
        shown = [size(count) if self._of_bytes else f"{count:,}" for count in (done, total or 0)]
        counted = f"{shown[0]} of {shown[1]}" if total else shown[0]
        return f"{' '.join(filter(None, [counted, note]))}; {left}"

    def _say(self, percent: float, left: str) -> None:
        text = f"**{self._label}**: {self._told(left)}"
        try:
            if self._artifact:
                update_progress_artifact(self._artifact, percent, description=text)
            else:
                key = f"armorm-progress-{re.sub('[^a-z0-9]+', '-', self._label.lower()).strip('-')}"
                created = create_progress_artifact(percent, key=key, description=text)
                assert isinstance(created, UUID)
                self._artifact = created
        except (HTTPError, PrefectException) as error:  # nobody's work is lost because it cannot be seen
            get_run_logger().debug(f"progress of {self._label} could not be told to Prefect: {type(error).__name__}")


@contextmanager
def progress(label: str, *, of_bytes: bool = False) -> Iterator[OnProgress]:
    """Show a bar while the block runs, of pieces or bytes, and in Prefect's UI an artifact if it runs for long."""
    shown = _Shown(label, of_bytes=of_bytes)
    with console.progress(label, of_bytes=of_bytes) as bar:

        def on_progress(done: int, total: int | None = None, note: str = "") -> None:
            bar(done, total, note)
            shown.update(done, total, note)

        yield on_progress
    shown.end()
