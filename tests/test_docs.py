"""Documents name tests as proof, and files to touch: each of them exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAMED = re.compile(r"`(tests/[\w/]+\.py|…)(?:::(test_\w+))?`")


def named(text: str) -> list[tuple[str, str | None]]:
    """File and test of each mention; `…` is the file named last."""
    found: list[tuple[str, str | None]] = []
    for file, test in NAMED.findall(text):
        found.append((found[-1][0] if file == "…" else file, test or None))
    return found


def functions_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("document", sorted((ROOT / "docs").glob("*.md")), ids=lambda p: p.name)
def test_every_test_that_a_document_names_is_there(document: Path) -> None:
    for file, test in named(document.read_text(encoding="utf-8")):
        path = ROOT / file
        assert path.is_file(), file
        assert test is None or test in functions_of(path), f"{file}::{test}"


def test_promises_of_batches_have_tests() -> None:
    """Each row of each table of docs/batch.md names at least one."""
    text = (ROOT / "docs" / "batch.md").read_text(encoding="utf-8")
    assert len(named(text)) > 30
    heads, rows = 0, 0
    for line in text.splitlines():
        if line.endswith("| test |"):
            heads += 1
        elif line.startswith("| "):
            rows += 1
            assert NAMED.search(line.split(" | ")[-1]), line
    assert heads == 3
    assert rows > 15


GUIDE = ROOT / "CONTRIBUTING.md"
PATH = re.compile(r"`((?:tileup|tests|configs|docs|bench|models)/[\w./-]*)`")


def test_every_path_of_the_guide_exists_and_folders_are_told_by_their_slash() -> None:
    paths = PATH.findall(GUIDE.read_text(encoding="utf-8"))
    assert len(paths) > 40
    for path in paths:
        place = ROOT / path
        assert place.is_dir() if path.endswith("/") else place.is_file(), path


def test_the_guide_shows_every_room_of_the_house() -> None:
    named = set(PATH.findall(GUIDE.read_text(encoding="utf-8")))
    rooms = {f"tileup/{path.parent.name}/" for path in (ROOT / "tileup").glob("*/__init__.py")}
    assert len(rooms) > 10
    assert rooms <= named
