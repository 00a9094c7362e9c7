"""How large the pieces of the house are: none so long that it cannot be read at once."""

from __future__ import annotations

import ast
from pathlib import Path
from statistics import median

import tileup

MODULES = {
    path.relative_to(tileup.__path__[0]).as_posix(): path.read_text()
    for path in Path(tileup.__path__[0]).rglob("*.py")
}


def functions() -> dict[str, int]:
    """Lines of every function and method, by where it stands."""
    return {
        f"{name}:{node.lineno} {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for name, text in MODULES.items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_no_module_is_longer_than_400_lines() -> None:
    lengths = {name: len(text.splitlines()) for name, text in MODULES.items()}
    assert len(lengths) > 100
    assert {name: lines for name, lines in lengths.items() if lines > 400} == {}
    assert lengths["cli/options.py"] < 150


def test_functions_are_short() -> None:
    lengths = functions()
    assert len(lengths) > 1000
    assert median(lengths.values()) <= 9
    assert {name: lines for name, lines in lengths.items() if lines > 60} == {}
