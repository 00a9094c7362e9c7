"""Text files are read and written as UTF-8, whatever the machine's own encoding is."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "tileup"
IN_TEXT = {"read_text", "write_text", "open"}
OTHERS = {"Image", "os", "format", "format_of"}
"""Names whose `open` is another one."""


def text_files(tree: ast.AST) -> Iterator[tuple[int, str | None]]:
    """Line and encoding of each call that opens a file as text."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or _name(node.func) not in IN_TEXT:
            continue
        if isinstance(node.func, ast.Attribute) and _name(node.func.value) in OTHERS:
            continue
        texts = [each.value for each in ast.walk(node) if isinstance(each, ast.Constant)]
        if any(isinstance(text, str) and text.strip("rwxa+") == "b" for text in texts):
            continue
        given = {each.arg: each.value for each in node.keywords}.get("encoding")
        yield node.lineno, given.value if isinstance(given, ast.Constant) else None


def _name(node: ast.AST) -> str:
    if isinstance(node, ast.Call):
        return _name(node.func)
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def test_text_is_opened_as_utf_8() -> None:
    """Never as utf-8-sig: it reads a file that ends within its mark as an empty one."""
    calls = [
        (path.name, line, encoding)
        for path in SOURCE.rglob("*.py")
        for line, encoding in text_files(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert len(calls) > 3
    assert [call for call in calls if call[2] != "utf-8"] == []


def test_such_calls_are_seen() -> None:
    code = """
path.open()
path.open("rb")
open(path, encoding="utf-8-sig")
Image.open(path)
path.read_text(encoding="utf-8")
"""
    assert list(text_files(ast.parse(code))) == [(2, None), (4, "utf-8-sig"), (6, "utf-8")]
