"""Debian's Chromium without a screen, driven by Playwright."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright


@contextmanager
def launched() -> Iterator[Browser]:
    """A browser that is gone after the block."""
    command = shutil.which("chromium") or shutil.which("google-chrome")
    assert command, "no browser: install chromium (.ci/packages.txt)"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=command, args=["--no-sandbox"])
        yield browser
        browser.close()
