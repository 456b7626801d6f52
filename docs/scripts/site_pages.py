"""What the documentation looks like: every page of the site, its first screen on a desktop and on a
phone, as two sheets; and a replay on a phone.

    python docs/scripts/site_pages.py docs/screenshots first/episodes/replays/best.html

builds the site, writes ``site.png``, ``site-phone.png`` and ``replay-phone.png``. Needs Chromium on
the PATH.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from io import BytesIO
from pathlib import Path

from mlflow_pages import CHROMIUM, PHONE, shoot
from PIL import Image
from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
Shots = list[Image.Image]
SHEETS = {"site": ((1280, 800), 5), "site-phone": (PHONE, 9)}
"""By name: the window, and how many pages stand beside each other."""
WIDTH, GAP = 1300, 6
"""Pixels of a sheet, and between two pages."""


def main() -> None:
    """Write the screenshots."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("replay", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as site, sync_playwright() as playwright:
        build(Path(site))
        program = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=program, args=CHROMIUM)
        for name, (window, columns) in SHEETS.items():
            shots = first_screens(browser, pages(Path(site)), window)
            save(sheet(shots, columns), given.output / f"{name}.png")
        page = browser.new_page(viewport={"width": PHONE[0], "height": PHONE[1]})
        page.goto(given.replay.resolve().as_uri())
        page.get_by_role("button", name="play", exact=True).click()
        shoot(page, given.output / "replay-phone.png")
        browser.close()


def build(folder: Path) -> None:
    """The site, as ``make docs`` builds it."""
    program = Path(sys.executable).with_name("mkdocs")
    subprocess.run(
        [program, "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        check=True,
    )


def pages(site: Path) -> list[Path]:
    """The pages of documentation, the overview first; those that show a source file are not."""
    found = sorted(path for path in site.glob("*.html") if path.name != "404.html")
    return sorted(found, key=lambda path: path.name != "index.html")


def first_screens(
    browser: Browser, paths: list[Path], window: tuple[int, int]
) -> list[Image.Image]:
    """What is in sight where each page is opened."""
    page = browser.new_page(viewport={"width": window[0], "height": window[1]})
    shots = []
    for path in paths:
        page.goto(path.as_uri(), wait_until="load")
        shots.append(Image.open(BytesIO(page.screenshot())).convert("RGB"))
    page.close()
    return shots


def sheet(shots: Shots, columns: int) -> Image.Image:
    """The shots, made smaller, in rows."""
    width = (WIDTH - GAP) // columns - GAP
    height = shots[0].height * width // shots[0].width
    rows = -(-len(shots) // columns)
    made = Image.new("RGB", (WIDTH, GAP + rows * (height + GAP)), "#d0d0d0")
    for number, shot in enumerate(shots):
        row, column = divmod(number, columns)
        at = (GAP + column * (width + GAP), GAP + row * (height + GAP))
        made.paste(shot.resize((width, height), Image.Resampling.LANCZOS), at)
    return made


def save(image: Image.Image, path: Path) -> None:
    """In 24 colours."""
    image.quantize(24, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}  {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
