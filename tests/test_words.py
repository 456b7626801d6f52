"""Docstrings that an outsider reads once: the first line says what the thing does or is."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("src", "callbacks", "data_modules")

OPENINGS = ("What", "Whether", "How")
"""First words that announce a thing in place of saying it."""

FEWEST_WORDS = 4


def docstrings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and text of each docstring, with those below an attribute or a constant."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if not isinstance(body, list):  # a lambda's is an expression
            continue
        for before, item in zip([None, *body], body, strict=False):
            match item:
                case ast.Expr(ast.Constant(str() as text)) if isinstance(
                    before, ast.Assign | ast.AnnAssign | None
                ):
                    yield item.lineno, text


def complaint(text: str) -> str | None:
    """Say what is wrong with a docstring's opening, if anything is."""
    words = text.split()
    if words and words[0].strip(",.:`") in OPENINGS:
        return f"begins with {words[0]}"
    return f"has {len(words)} words" if len(words) < FEWEST_WORDS else None


@pytest.mark.parametrize("folder", FOLDERS)
def test_docstrings_open_with_what_the_thing_does_or_is(folder: str) -> None:
    """No docstring begins with What, Whether or How, and none has three words or fewer."""
    faults = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        name = str(path.relative_to(ROOT))
        for line, text in docstrings(ast.parse(path.read_text())):
            if fault := complaint(text):
                faults.append(f"{name}:{line}: {fault}: {text.strip().splitlines()[0]}")
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("What a worker knows.", "begins with What"),
        ("Whether the file is whole.", "begins with Whether"),
        ("How, then?", "begins with How,"),
        ("Take them.", "has 2 words"),
        ("", "has 0 words"),
        ("True where the file is whole.", None),
        ("Whatever is found, in order.", None),
    ],
)
def test_an_opening_is_judged(text: str, fault: str | None) -> None:
    assert complaint(text) == fault


def test_docstrings_of_all_kinds_are_found() -> None:
    """Modules, classes, functions, attributes and constants have them; other strings are none."""
    tree = ast.parse(
        '"""one"""\nA = 1\n"""two"""\nclass B:\n    """three"""\n    c: int\n    """four"""\n'
        'async def d():\n    """five"""\n    return "six"\nprint("seven")\n"eight"\n'
    )
    assert sorted(text for _, text in docstrings(tree)) == ["five", "four", "one", "three", "two"]
