"""The report of a whole run, and one of hostile data, in a real browser."""

from pathlib import Path

import pytest

from armorm.features.store import Store
from armorm.flows.pipeline import pipeline
from armorm.release.report import load_page, report_path, write_report
from tests.armorm.test_page import FINDINGS, HOSTILE, page
from tests.browser import look

pytestmark = pytest.mark.slow

VIEWS = [("light", 1280), ("dark", 1280), ("light", 380), ("dark", 380)]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hostile") / "report.html"
    path.write_text(page(**FINDINGS))
    return path


@pytest.mark.parametrize(("scheme", "width"), VIEWS)
def test_hostile_data_stay_text_in_a_browser(hostile: Path, tmp_path: Path, scheme: str, width: int) -> None:
    seen = look(hostile, scheme=scheme, width=width, picture=tmp_path / f"hostile-{scheme}-{width}.png")
    assert (seen.messages, seen.requests, seen.overflow) == ([], [], 0), HOSTILE


def test_a_browser_tells_what_a_page_does(tmp_path: Path) -> None:
    path = tmp_path / "bad.html"
    path.write_text(
        '<!DOCTYPE html><img src="http://127.0.0.1:9/x"><script>console.log("run")</script><p style="width: 2000px">a'
    )
    seen = look(path, scheme="light", width=380, picture=tmp_path / "bad.png")
    assert "run" in seen.messages
    assert seen.requests == ["http://127.0.0.1:9/x"]
    assert seen.overflow > 1000


@pytest.mark.usefixtures("server")
def test_a_run_ends_in_a_page_that_a_browser_shows(config: Path, tmp_path: Path) -> None:
    pipeline(config)
    store, models = Store(config.parent / "store"), config.parent / "models"
    path = report_path(store, models)
    content = path.read_bytes()
    for chapter in ("objectives", "decorrelation-and-verbosity", "gate", "accuracy", "worst-mistakes", "lineage"):
        assert f'<h2 id="{chapter}">'.encode() in content
    assert content.count(b"<svg ") >= 8
    for scheme, width in VIEWS:
        seen = look(path, scheme=scheme, width=width, picture=tmp_path / f"run-{scheme}-{width}.png")
        assert (seen.messages, seen.requests, seen.overflow) == ([], [], 0)
    assert write_report(store, models).read_bytes() == load_page(store).encode() == content
