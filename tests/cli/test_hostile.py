"""Folders and names that nobody would make on purpose."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli.conftest import Command, save
from tileup.errors import ExitCode


def test_a_folder_of_traps(smoke: Command, folder: Path) -> None:
    traps = folder / "in"
    save(traps / "good.png")
    save(traps / "two\nlines.png", seed=1)
    save(traps / ("n" * 245 + ".png"), seed=2)
    (traps / "folder.png").mkdir()
    os.mkfifo(traps / "pipe.png")
    (traps / "loop.png").symlink_to("loop.png")
    (traps / "loop").symlink_to(".", target_is_directory=True)
    (traps / "nowhere.png").symlink_to("absent.png")
    (traps / "empty.jpg").write_bytes(b"")
    (traps / "Thumbs.db").write_bytes(b"x")
    (traps / "good.xmp").write_text("<x/>")
    (traps / "._good.png").write_bytes(b"AppleDouble")
    ran = smoke("in", "-r", "-o", "out", "--json")
    assert ran.code == ExitCode.SOME_FAILED
    outcomes = {Path(str(line["input"])).name: line for line in ran.lines}
    assert {name[:9]: line["outcome"] for name, line in outcomes.items()} == {
        "empty.jpg": "failed",
        "good.png": "done",
        "two\nlines": "done",
        "n" * 9: "done" if len("n" * 245 + "_2x.png") <= 255 else "failed",
    }
    assert "\ntwo" not in ran.err
    assert "two\\nlines" in ran.err or "two\nlines" in ran.err
    assert smoke("in", "-r", "-o", "out").code == ExitCode.SOME_FAILED


@pytest.mark.parametrize("trap", ["pipe.png", "loop.png", "folder.png", "n" * 300 + ".png"])
def test_a_trap_that_is_named(smoke: Command, folder: Path, trap: str) -> None:
    if trap == "pipe.png":
        os.mkfifo(folder / trap)
    elif trap == "loop.png":
        (folder / trap).symlink_to(trap)
    elif trap == "folder.png":
        (folder / trap).mkdir()
    ran = smoke(trap, "-o", "out.png")
    assert ran.code == ExitCode.NO_INPUT
    assert trap in ran.sentence


def test_an_output_whose_name_is_too_long(smoke: Command, folder: Path) -> None:
    save(folder / "in" / "a.png")
    save(folder / "in" / "b.png", seed=1)
    ran = smoke("in", "-o", "out", "--suffix", "s" * 260)
    assert ran.code in (ExitCode.CANNOT_WRITE, ExitCode.USAGE)
    assert "Traceback" not in ran.err
