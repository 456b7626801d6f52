"""The documentation's pages in a browser, on a desktop and on a phone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser
WIDTHS = (1280, 390)
LOOK = """() => ({
    over: document.documentElement.scrollWidth - window.innerWidth,
    broken: [...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.src),
})"""


@pytest.fixture
def own(page: Page) -> Iterator[Page]:
    """A page of this test's, for its sizes."""
    assert page.context.browser is not None
    made = page.context.browser.new_page()
    yield made
    made.close()


class Silent(SimpleHTTPRequestHandler):
    """Says nothing of what it serves."""

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def url(site: Path) -> Iterator[str]:
    """The site's address: from disk, pages open without their search."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=site)) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_the_search_finds_a_page(own: Page, url: str) -> None:
    own.goto(f"{url}/index.html")
    # What is typed before the words are indexed is never searched for.
    expect(own.locator(".md-search-result__meta")).to_have_text("Type to start searching")
    # The page listens to keys, not to what is filled in.
    own.locator("input[name=query]").first.press_sequentially("isoFLOP profiles")
    expect(own.locator(".md-search-result__item").first).to_contain_text("isoFLOP")


def test_no_page_overflows_misses_an_image_or_reports_an_error(
    own: Page, site: Path, url: str
) -> None:
    said: list[str] = []
    # Or each page would index the words of all pages, which takes a third of a CPU-second.
    empty = json.loads((site / "search" / "search_index.json").read_text()) | {"docs": []}
    own.route("**/search_index.json", lambda route: route.fulfill(json=empty))
    own.on("console", lambda told: said.append(told.text) if told.type == "error" else None)
    own.on("pageerror", lambda error: said.append(str(error)))
    pages = [path for path in sorted(site.glob("*.html")) if path.name != "404.html"]
    assert len(pages) > 20
    found = {}
    for path in pages:
        own.set_viewport_size({"width": WIDTHS[0], "height": 800})
        own.goto(f"{url}/{path.name}", wait_until="load")
        for width in WIDTHS:
            own.set_viewport_size({"width": width, "height": 800})
            looked = own.evaluate(LOOK)
            if looked["over"] > 0 or looked["broken"]:
                found[path.name, width] = looked
        if said:
            found[path.name, 0] = said.copy()
            said.clear()
    assert not found
