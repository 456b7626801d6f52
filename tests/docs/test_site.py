"""The site builds without a warning, needs no network, and holds what it should."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import yaml

from tests.conftest import ROOT

LOADED = re.compile(r"""<(?:script|img|iframe|source)[^>]*\ssrc="?(https?:[^"\s>]+)""")
STYLES = re.compile(
    r"""<link[^>]*\srel="?(?:stylesheet|preload|icon)[^>]*href="?(https?:[^"\s>]+)"""
)


def test_every_page_is_in_reach(site: Path) -> None:
    home = (site / "index.html").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert f'href="{page.stem}.html"' in home


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        text = page.read_text()
        assert not LOADED.findall(text) + STYLES.findall(text), page


class Paragraphs(HTMLParser):
    """The text of a page's paragraphs."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.found = False, [""]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "p":
            self.inside = True
            self.found.append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag != "p"

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.found[-1] += data


def test_lists_and_tables_are_what_they_look_like(site: Path) -> None:
    """GitHub's Markdown needs no blank line before a list or a table, the site's does."""
    for page in site.glob("*.html"):
        parser = Paragraphs()
        parser.feed(page.read_text())
        for text in parser.found:
            assert not re.search(r"^(- |\||\d+\. |```)", text, re.M), (page.name, text)


def dotted(config: object, prefix: str = "") -> list[str]:
    """Names of the values of a config."""
    if not isinstance(config, dict):
        return []
    return [
        name
        for key, value in config.items()
        if not key.startswith("_") and key not in ("defaults", "examples", "hydra")
        for name in (dotted(value, f"{prefix}{key}.") or [prefix + key])
    ]


def test_every_key_is_in_the_reference(site: Path) -> None:
    text = (site / "configuration.html").read_text()
    for path in sorted((ROOT / "conf").glob("**/*.yaml")):
        group = path.relative_to(ROOT / "conf").parts[0]
        if group in ("experiment", "study"):
            assert f"{group}={path.stem}" in text
            continue
        for key in dotted(yaml.safe_load(path.read_text())):
            name = key.removeprefix("named.")  # which nobody types
            shown = (f"<code>{part}</code>" for part in (name, name.rpartition(".")[0]))
            assert any(part in text for part in shown), (path, name)  # {a: 1} is one value
