"""A stand-in for an OpenAI-compatible endpoint, on loopback."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[str], "str | int | bytes"]
"""Takes a prompt and returns what the model says, a status, or a body as it is."""


@dataclass
class Endpoint:
    """What it was asked."""

    url: str = ""
    prompts: list[str] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)


@contextmanager
def serving(answer: Answer) -> Iterator[Endpoint]:
    """Serve until the block ends."""
    endpoint = Endpoint()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request: Any = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            endpoint.prompts.append(request["messages"][0]["content"])
            endpoint.keys.add(self.headers.get("Authorization", ""))
            said = answer(endpoint.prompts[-1])
            status = said if isinstance(said, int) else 200
            message = {"choices": [{"message": {"role": "assistant", "content": said}}]}
            body = (
                said if isinstance(said, bytes) else json.dumps(message if status == 200 else {"error": "no"}).encode()
            )
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield endpoint
    finally:
        server.shutdown()
        server.server_close()
