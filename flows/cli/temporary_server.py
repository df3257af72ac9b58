"""The program of Prefect's temporary server: `python -m armorm.flows.cli.temporary_server PORT`; see `tethered`."""

import logging
import os
import sys
import threading
from types import FrameType

import uvicorn


class QuietlyEnded(uvicorn.Server):
    """A server that logs nothing after it was told to end: what that interrupts is of no concern to a run's reader."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end."""
        logging.disable()
        super().handle_exit(sig, frame)


def end_with_the_parent() -> None:
    """End once standard input does, whose one writer is the parent."""
    while os.read(0, 1):
        pass
    os._exit(1)


def serve(port: int) -> None:
    """Serve until a signal comes, or the parent is gone."""
    threading.Thread(target=end_with_the_parent, daemon=True).start()
    app = "prefect.server.api.server:create_app"
    server = QuietlyEnded(uvicorn.Config(app, factory=True, port=port, log_level="error", lifespan="on"))
    server.run()  # which exits itself where the port is taken, so that Prefect tries another one


if __name__ == "__main__":
    serve(int(sys.argv[1]))
