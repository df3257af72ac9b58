"""Sends an event for what the store's writer does. Whatever fails here is said once, and no run waits for it."""

import atexit
import logging
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from armorm.features.errors import InputError
from armorm.features.lineage.openlineage.places import store_namespace
from armorm.features.store import Artifact, Recipe, Run
from armorm.features.store.stage import Stage

if TYPE_CHECKING:
    from openlineage.client.event_v2 import RunEvent
    from openlineage.client.transport import Transport

    from armorm.features.lineage.openlineage.events import Events

TIMEOUT_S: Final = 2.0
"""How long a server may take to answer."""
LAST_WAIT_S: Final = 3.0
"""How long a process that ends waits for events that are still to be sent."""
MAX_WAITING: Final = 1000
"""Events that wait for a slow server; more are dropped."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OpenLineageSettings:
    """`[openlineage]`: where events go; nowhere by default."""

    file: str | None = None
    """A JSONL file that events are added to."""
    url: str | None = None
    """A server that takes events, e.g. `http://localhost:5000`."""
    endpoint: str = "api/v1/lineage"
    """The path on the server."""
    namespace: str = "armorm"
    """The namespace of jobs, which tells them from those of other installations."""

    def __post_init__(self) -> None:
        if self.file and self.url:
            raise ValueError("got file and url; expected one of them; remove the other")
        if self.url:
            _check_url(self.url)
        if not self.namespace:
            raise ValueError("namespace: got nothing; expected a name")

    def __bool__(self) -> bool:
        return bool(self.file or self.url)


def observe(
    settings: OpenLineageSettings,
    *,
    root: Path,
    store: str | Path,
    stages: Mapping[str, Stage],
    api_key: str | None = None,
) -> "LineageObserver":
    """Return an observer that sends where the settings say.

    Args:
        settings: of which `file` or `url` is set.
        root: the folder that `file` is relative to.
        store: folder or address of the store; its datasets are named after it.
        stages: what is known of the stages' code, by the name that recipes have for them.
        api_key: sent to the server as a bearer token.

    Raises:
        InputError: the client of OpenLineage is not installed.
    """
    try:
        from openlineage.client.transport.file import FileConfig, FileTransport
        from openlineage.client.transport.http import HttpConfig, HttpTransport

        from armorm.features.lineage.openlineage.events import Events
    except ModuleNotFoundError as error:
        raise InputError(
            f"[openlineage]: got no module {error.name}; expected the client of OpenLineage; "
            "run `pip install 'armorm[openlineage]'`, or remove the section"
        ) from error
    events = Events(settings.namespace, store_namespace(store), stages)
    if settings.file:
        file = FileTransport(FileConfig(str(root / settings.file), append=True))
        return LineageObserver(events, file, where=settings.file, in_background=False)
    auth = {"type": "api_key", "apiKey": api_key} if api_key else {}
    config: dict[str, Any] = {"url": settings.url, "endpoint": settings.endpoint, "timeout": TIMEOUT_S, "auth": auth}
    # One more try: a server may have closed the connection since the last event.
    http = HttpTransport(HttpConfig.from_dict(config | {"retry": {"total": 1, "backoff_factor": 0.1}}))
    return LineageObserver(events, http, where=str(settings.url), in_background=True)


class LineageObserver:
    """An observer of the store's writer that tells other tools; a stage with nothing to do gives no event."""

    def __init__(self, events: "Events", transport: "Transport", *, where: str, in_background: bool) -> None:
        self._events = events
        self._where = where
        self._warned = False
        self._outbox = Outbox(transport, self._warn) if in_background else None
        self._send = self._outbox.put if self._outbox else transport.emit

    def started(self, run: Run, recipe: Recipe) -> None:
        """Send that a stage begins."""
        self._tell(lambda: self._events.start(run, recipe))

    def completed(self, run: Run, artifact: Artifact) -> None:
        """Send that a stage's artifact is committed."""
        self._tell(lambda: self._events.complete(run, artifact))

    def failed(self, run: Run, recipe: Recipe, error: BaseException) -> None:
        """Send that a stage has ended in an error."""
        self._tell(lambda: self._events.fail(run, recipe, error))

    def close(self) -> None:
        """Wait a moment for what is still to be sent. Happens at the end of the process, at the latest."""
        if self._outbox:
            self._outbox.close()

    def _tell(self, make: Callable[[], "RunEvent"]) -> None:
        try:
            self._send(make())
        except Exception as error:  # of whatever kind: a run is not to end for an event
            self._warn(error)

    def _warn(self, error: Exception) -> None:
        """Warn once, without the error's text, which may show an address with its secrets, or the event."""
        if self._warned:
            return
        self._warned = True
        status = getattr(getattr(error, "response", None), "status_code", None)
        _log.warning(
            "openlineage: got %s from %s; expected it to take events; the run goes on without, correct [openlineage]",
            f"status {status}" if status else type(error).__name__,
            self._where,
        )


class Outbox:
    """A queue that gives events to a transport, in order, in a thread that ends with the last one."""

    def __init__(self, transport: "Transport", on_error: Callable[[Exception], None]) -> None:
        self._transport = transport
        self._on_error = on_error
        self._waiting: deque[RunEvent] = deque()
        self._lock = Lock()
        self._worker: Thread | None = None
        self._failing = self._closing = False
        atexit.register(self.close)

    def put(self, event: "RunEvent") -> None:
        """Take an event and return at once.

        Raises:
            TimeoutError: too many wait already; this one is dropped.
        """
        with self._lock:
            if len(self._waiting) >= MAX_WAITING:
                raise TimeoutError
            self._waiting.append(event)
            if not self._worker:
                # A daemon: a server that never answers does not keep the process from ending.
                self._worker = Thread(target=self._work, name="openlineage", daemon=True)
                self._worker.start()

    def close(self) -> None:
        """Wait for events that are still to be sent, as long as it is worth it, and no longer than a moment."""
        self._closing = True
        if worker := self._worker:
            worker.join(LAST_WAIT_S)
            if worker.is_alive():
                self._on_error(TimeoutError())

    def _work(self) -> None:
        while event := self._next():
            try:
                self._transport.emit(event)
                self._failing = False
            except Exception as error:
                self._failing = True
                self._on_error(error)

    def _next(self) -> "RunEvent | None":
        with self._lock:
            if self._waiting and not (self._closing and self._failing):
                return self._waiting.popleft()
            self._waiting.clear()
            self._transport.close()
            self._worker = None
            return None


def _check_url(url: str) -> None:
    """Let only addresses through that may be shown."""
    parts = urlsplit(url)
    if "@" in url or parts.query:
        raise ValueError("url: got credentials; expected none in it; set OPENLINEAGE_API_KEY in the environment")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"url: got {url}; expected http://host or https://host")
