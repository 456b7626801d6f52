"""MkDocs hooks: the README is the home page, and each file that a page links to is a page, too."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import Any

from configuration import configuration_page
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
HOME, CONFIGURATION, SOURCE = "index.md", "configuration.md", "source/"
SAME = {ROOT / "README.md": HOME, ROOT / "conf": CONFIGURATION}
LINK = re.compile(
    r"(?P<image>!?)\[(?P<text>[^\[\]]*)\]\((?P<path>[^()#:\s]+)(?P<anchor>#[^()\s]*)?\)"
)
LANGUAGES = {".py": "python", ".yaml": "yaml", ".sh": "sh", ".sbatch": "sh", ".toml": "toml"}

log = logging.getLogger("mkdocs.hooks")


def on_config(config: Any) -> Any:
    """Put pages that the nav does not name at its end: none is out of reach."""
    pages = {path.name for path in (ROOT / "docs").glob("*.md")}
    if others := sorted(pages - set(listed(config.nav))):
        config.nav.append({"More": others})
    return config


def listed(nav: Any) -> list[str]:
    """The pages that a part of the nav names."""
    if isinstance(nav, str):
        return [nav]
    parts = nav.values() if isinstance(nav, dict) else nav
    return [page for part in parts for page in listed(part)]


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are not in docs/."""
    readme = (ROOT / "README.md").read_text()
    texts = {f.src_uri: f.content_string for f in files.documentation_pages()}
    made = {HOME: readme, CONFIGURATION: configuration_page(ROOT / "conf")}
    for page, text in {**texts, HOME: readme}.items():
        for link in LINK.finditer(text):
            path = target(page, link["path"])
            if is_source(path) and path not in SAME:
                made[source_page(path)] = source_text(path)
    for name, content in made.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let links out of docs/ lead to pages of the site."""
    here = page.file.src_uri
    if here.startswith(SOURCE):
        return markdown
    return LINK.sub(lambda link: rewritten(here, link), markdown)


def rewritten(page: str, link: re.Match[str]) -> str:
    """A link as the site has it; one to a folder is its text alone."""
    path = target(page, link["path"])
    if path.is_relative_to(ROOT / "docs"):
        to = path.relative_to(ROOT / "docs").as_posix()
    elif path in SAME:
        to = SAME[path]
    elif is_source(path):
        to = source_page(path)
    elif path.is_dir():
        return link["text"]
    else:
        log.warning("%s links to %s, which is not there", page, link["path"])
        return link["text"]
    relative = os.path.relpath(to, Path(page).parent)
    return f"{link['image']}[{link['text']}]({relative}{link['anchor'] or ''})"


def target(page: str, path: str) -> Path:
    """The file or folder that a page's link means; the home page is the repository's README."""
    folder = ROOT if page == HOME else (ROOT / "docs" / page).parent
    return Path(os.path.normpath(folder / path))


def is_source(path: Path) -> bool:
    """Whether it is a file of the repository outside docs/."""
    inside = path.is_relative_to(ROOT) and not path.is_relative_to(ROOT / "docs")
    return inside and path.is_file()


def source_page(path: Path) -> str:
    """Where the site shows a file of the repository."""
    return f"{SOURCE}{path.relative_to(ROOT).as_posix()}.md"


def source_text(path: Path) -> str:
    """A page that shows a file of the repository."""
    head = "---\nsearch:\n  exclude: true\n---\n"
    fence = "``````"
    language = LANGUAGES.get(path.suffix, "text")
    name = path.relative_to(ROOT).as_posix()
    return f"{head}# {name}\n\n{fence}{language}\n{path.read_text()}{fence}\n"
