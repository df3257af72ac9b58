"""An S3-compatible server on loopback, in a process of its own.

Moto, with a lock: by itself it looks whether a name is free and then writes, and of two requests at once both may find
it free, where S3 tells only one of them so. Of 1,600 commits by eight writers, four were lost that way.
"""

import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

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
    command = [sys.executable, __file__, "-H", "127.0.0.1", "-p", str(port)]
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


def _main() -> None:
    from moto.s3.responses import S3Response
    from moto.server import main

    lock, put_object = threading.Lock(), S3Response.put_object

    def put_alone(self: S3Response) -> Any:
        with lock:
            return put_object(self)

    S3Response.put_object = put_alone
    main(sys.argv[1:])


if __name__ == "__main__":
    _main()
