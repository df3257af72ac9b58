"""A stand-in of an OpenLineage server on loopback: records what it is sent, and can be slow or refuse."""

import json
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class LineageServer:
    url: str = ""
    status: int = 201
    delay_s: float = 0.0
    """Before every answer; infinite: until it is released."""
    bodies: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)
    """Set at the end, so that no answer is waited for."""

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(body) for body in self.bodies]


@contextmanager
def serving(**how: Any) -> Iterator[LineageServer]:
    """A server until the block ends."""
    served = LineageServer(**how)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            served.released.wait(None if math.isinf(served.delay_s) else served.delay_s)
            served.bodies.append(body)
            served.paths.append(self.path)
            served.keys.append(self.headers["Authorization"])
            try:
                self.send_response(served.status)
                self.send_header("Content-Length", "0")
                self.end_headers()
            except OSError:  # the client has given up
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    served.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield served
    finally:
        served.released.set()
        server.shutdown()
        thread.join()
        server.server_close()
