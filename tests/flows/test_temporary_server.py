"""Prefect's temporary server, which says nothing more once it was told to end."""

import logging
import signal

import pytest
import uvicorn

from armorm.flows.cli.temporary_server import QuietlyEnded


def test_what_is_interrupted_is_not_told(capfd: pytest.CaptureFixture[str]) -> None:
    server = QuietlyEnded(uvicorn.Config("nothing:app"))
    try:
        server.handle_exit(signal.SIGTERM, None)
        logging.getLogger("prefect.server").error("interrupted")
    finally:
        logging.disable(logging.NOTSET)
    assert server.should_exit
    assert capfd.readouterr().err == ""
