"""An S3-compatible server on loopback, in a process of its own."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager

BUCKET = "armorm"

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_REGION": "us-east-1",
    "AWS_ALLOW_HTTP": "true",
}


@contextmanager
def serve() -> Iterator[str]:
    """The server's address, with one empty bucket."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ))
    try:
        _make_bucket(address)
        yield address
    finally:
        server.kill()
        server.wait()


def _make_bucket(address: str) -> None:
    request = urllib.request.Request(f"{address}/{BUCKET}", method="PUT")
    for _ in range(600):
        try:
            with urllib.request.urlopen(request):
                return
        except OSError:
            time.sleep(0.05)
    raise TimeoutError("the S3-compatible server did not start within 30 s")
