"""A backbone by Hub id: downloaded from a stand-in of the Hub on loopback, then taken from the cache offline."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.features import tiny

COMMIT = "c0ffee" * 6 + "cafe"
NAME = "somebody/tiny-backbone"

CODE = """
import json, sys
from features.embedding.fingerprint import BackboneSettings, fingerprint
from features.errors import BackboneError
try:
    print(json.dumps(fingerprint(BackboneSettings(sys.argv[1])).backbone_id))
except BackboneError as error:
    print(json.dumps(str(error)))
"""


class Hub(BaseHTTPRequestHandler):
    """The two endpoints that a download needs: what is in a repository, and its files."""

    folder: Path

    def log_message(self, format: str, *args: object) -> None:
        """Keeps quiet."""

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        files = sorted(file.name for file in self.folder.iterdir())
        if path.startswith(f"/api/models/{NAME}/tree/"):
            sizes = [(name, (self.folder / name).stat().st_size) for name in files]
            tree = [{"type": "file", "path": name, "size": size, "oid": "0" * 40} for name, size in sizes]
            self._send(json.dumps(tree).encode(), with_body)
        elif path.startswith(f"/api/models/{NAME}"):
            info = {"id": NAME, "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]}
            self._send(json.dumps(info).encode(), with_body)
        elif path.startswith(f"/{NAME}/resolve/") and path.split("/")[-1] in files:
            self._send((self.folder / path.split("/")[-1]).read_bytes(), with_body)
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def _send(self, content: bytes, with_body: bool) -> None:
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if with_body:
            self.wfile.write(content)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[str]:
    """The address of a Hub that has one model."""
    folder = tiny.write_backbone(tmp_path / "published")
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("OneModelHub", (Hub,), {"folder": folder}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def fingerprinted(name: str | Path, home: Path, endpoint: str, *, offline: bool = False) -> object:
    env = os.environ | {
        "HF_HOME": str(home),
        "HF_ENDPOINT": endpoint,
        "HF_HUB_OFFLINE": str(int(offline)),
        "HF_HUB_DISABLE_XET": "1",
    }
    program = [sys.executable, "-c", CODE, str(name)]
    result = subprocess.run(program, env=env, capture_output=True, text=True, check=True)
    return json.loads(result.stdout)


def test_a_hub_id_is_downloaded_once_and_is_the_same_backbone_as_its_folder(hub: str, tmp_path: Path) -> None:
    local = fingerprinted(tmp_path / "published", tmp_path / "home", hub)
    assert len(str(local)) == 32
    assert fingerprinted(NAME, tmp_path / "home", hub) == local
    assert fingerprinted(NAME, tmp_path / "home", "http://127.0.0.1:9", offline=True) == local


def test_what_the_hub_does_not_have_is_one_line(hub: str, tmp_path: Path) -> None:
    said = str(fingerprinted("somebody/else", tmp_path / "home", hub))
    assert "not to be had from the Hub" in said
    assert "\n" not in said
    offline = str(fingerprinted(NAME, tmp_path / "empty", "http://127.0.0.1:9", offline=True))
    assert "not to be had from the Hub" in offline
