"""A page as a real headless browser sees it."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


PATIENCE_MS = 300_000
"""For what comes late: nothing here says how fast a machine has to be."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a browser did with a page."""

    messages: list[str]
    """Messages of the console, and errors."""
    requests: list[str]
    """But for the page itself and what it carries in it."""
    overflow: int
    """Pixels by which the page is wider than the window."""


def look(page: Path | str, *, scheme: str, width: int, picture: Path, until: str = "") -> Seen:
    """Opens a page, by its file or address, with every part unfolded, and takes a picture of all of it.

    With `until` it waits for a text that comes late. Where no browser is installed the test is skipped. With
    `TEST_SCREENSHOTS` the pictures are kept in that folder.
    """
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not (browser := next(filter(None, map(shutil.which, NAMES)), None)):
        pytest.skip(f"no browser is installed: none of {', '.join(NAMES)} is in PATH")
    address = page if isinstance(page, str) else page.as_uri()
    messages: list[str] = []
    requests: list[str] = []
    with sync_api.sync_playwright() as playwright:
        # root has no sandbox, and the page is our own
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        try:
            tab = chromium.new_page(color_scheme=scheme, viewport={"width": width, "height": 900})
            tab.on("console", lambda message: messages.append(message.text))
            tab.on("pageerror", lambda error: messages.append(str(error)))
            tab.on("request", lambda request: requests.append(request.url))
            tab.goto(address)
            if until:
                tab.get_by_text(until).first.wait_for(timeout=PATIENCE_MS)
            tab.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
            overflow = tab.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            tab.screenshot(path=picture, full_page=True)
        finally:
            chromium.close()
    if kept := os.environ.get("TEST_SCREENSHOTS"):
        Path(kept).mkdir(parents=True, exist_ok=True)
        shutil.copy(picture, kept)
    return Seen(messages, [url for url in requests if url != address and not url.startswith("data:")], overflow)
