"""Chromium, as a distribution packages it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect, sync_playwright

PATIENCE = 60_000  # milliseconds
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """A page of 1440 by 900 pixels; without Chromium a test is skipped, or fails in CI.

    For a module: while Playwright is there, its event loop runs, and no other can.
    """
    program = shutil.which("chromium")
    if program is None:
        message = "no chromium on the PATH: apt-get install chromium"
        if os.environ.get("AGENT_SCALING_BROWSER") == "required":
            pytest.fail(message)
        pytest.skip(message)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        made = browser.new_page(viewport={"width": 1440, "height": 900})
        made.set_default_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)
        yield made
        browser.close()
