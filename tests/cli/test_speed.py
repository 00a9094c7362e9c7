"""Help, wrong usage and plans answer at once: torch and its kin are never imported for them."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Process

HEAVY = {"torch", "diffusers", "transformers", "k_diffusion"}
LIGHT = HEAVY | {"numpy", "scipy", "PIL", "yaml"}
HELP = LIGHT | {"pydantic"}
"""Typer itself imports the last, for values."""
LIST = HELP | {"tileup.settings.values", "tileup.cli.parameters"}
"""A list of commands needs the flags of none."""
LISTING = """
import contextlib, io, json, sys
from tileup.cli.main import main

for arguments in json.loads(sys.argv[1]):
    words = io.StringIO()
    with contextlib.redirect_stdout(words), contextlib.redirect_stderr(words):
        code = main(arguments)
    print(json.dumps([code, sorted(sys.modules)]))
"""
RUNS = [
    (["--help"], 0, LIST),
    (["--version"], 0, LIST),
    (["info", "--help"], 0, LIST),
    (["upscale", "--help"], 0, HELP),
    (["plan", "--help"], 0, HELP),
    (["--nonsense"], 2, LIGHT),
    (["upscale", "in.png", "--nonsense"], 2, LIGHT),
    (["upscale", "in.png", "--scale", "99"], 2, HEAVY),
    (["upscale", "in.png", "--sampler", "eulr"], 2, HEAVY),
    (["upscale", "absent.png"], 3, HEAVY),
    (["upscale", "notes.txt"], 3, HEAVY),
    (["upscale", "in.png", "-m", "nonesuch"], 4, HEAVY),
    (["upscale", "--print-config"], 0, HEAVY),
    (["plan", "in.png", "--heatmap", "map.png"], 0, HEAVY),
    (["plan", "in.png", "--json", "-m", "tileup-small"], 0, HEAVY),
    (["info", "in.png"], 0, HEAVY),
    (["verify", "."], 3, HEAVY),
    (["info", "tileup-small"], 0, HEAVY),
    (["presets"], 0, HEAVY),
    (["devices"], 0, set[str]()),
]
"""Arguments, exit code, and what must not be imported, here or for any run above."""


def test_what_is_not_imported(process: Callable[..., Process], folder: Path) -> None:
    """In one process: what a run imports stays for those that follow: the lightest come first."""
    (folder / "notes.txt").write_text("no picture")
    asked = json.dumps([arguments for arguments, _, _ in RUNS])
    lines = process(asked, python=("-c", LISTING)).out.decode().splitlines()
    names: list[str] = []
    for (arguments, code, absent), line in zip(RUNS, lines, strict=True):
        found, names = json.loads(line)
        assert found == code, arguments
        assert {"typer", "tileup"} <= set(names)
        assert not absent & set(names), arguments
    assert "torch" in names, "which the last one needs"


def seconds(*arguments: str) -> float:
    """Processor time of a run."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.slow
def test_help_is_nearly_as_quick_as_an_empty_typer_program(folder: Path) -> None:
    (folder / "empty.py").write_text(
        "import typer\n"
        "app = typer.Typer()\n"
        "@app.command()\n"
        "def one(x: int = 1) -> None: ...\n"
        "@app.command()\n"
        "def two(x: int = 1) -> None: ...\n"
        "app()\n"
    )
    # In turns, and the least of each: whatever else the machine does can only add to it.
    ours = ("--help", "upscale --help", "plan --help")
    commands = ("empty.py", "--help"), *(("-m", "tileup", *asked.split()) for asked in ours)
    turns = [[seconds(*command) for command in commands] for _ in range(3)]
    empty, *least = (min(times) for times in zip(*turns, strict=True))
    assert [asked for asked, time in zip(ours, least, strict=True) if time >= empty + 0.15] == []
