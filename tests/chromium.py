"""A real headless Chromium. Without one its tests fail: a page that nobody looked at isn't tested."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

_PROGRAM = "/usr/bin/chromium"
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser, until the block ends."""
    assert Path(_PROGRAM).exists(), f"{_PROGRAM} is missing: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_PROGRAM, headless=True, args=list(_FLAGS))
        yield browser
        browser.close()


@contextmanager
def faultless_page(browser: Browser | BrowserContext, **options: Any) -> Iterator[Page]:
    """A page on which nothing may go wrong unseen: an error or a breach of the content policy fails the test."""
    page = browser.new_page(**options)
    page.set_default_timeout(10_000)
    faults: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type == "error" and "status of 4" not in message.text and "ERR_" not in message.text:
            faults.append(message.text)

    page.on("console", note)
    page.on("pageerror", lambda error: faults.append(str(error)))
    yield page
    page.close()
    assert not faults
