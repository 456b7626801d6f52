"""The screenshots of a fit's report: its beginning on a desktop and on a phone.

    python docs/scripts/report_pages.py laws/report.html docs

writes ``report.png`` and ``report-phone.png``. Needs Chromium on the PATH.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from mlflow_pages import CHROMIUM, shoot
from playwright.sync_api import sync_playwright

SIZES = {"report": (1200, 1900), "report-phone": (390, 1900)}


def main() -> None:
    """Write the screenshots."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path)
    parser.add_argument("output", type=Path)
    given = parser.parse_args()
    with sync_playwright() as playwright:
        program = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=program, args=CHROMIUM)
        for name, (width, height) in SIZES.items():
            finger = name == "report-phone"
            page = browser.new_page(viewport={"width": width, "height": height}, has_touch=finger)
            page.goto(given.report.resolve().as_uri())
            page.locator(".plot .main-svg").first.wait_for(timeout=60_000)
            shoot(page, given.output / f"{name}.png")
        browser.close()


if __name__ == "__main__":
    main()
