"""Progress: shown to someone who looks at standard error, and to nobody else."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import QUICK, save


def on_a_terminal(folder: Path, *arguments: str) -> str:
    """What a terminal at standard error shows."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "tileup", "upscale", *QUICK, *arguments]
    env = os.environ | {"TERM": "xterm", "COLUMNS": "120"}
    with subprocess.Popen(command, stderr=theirs, stdout=subprocess.DEVNULL, cwd=folder, env=env):
        os.close(theirs)
        shown = b""
        try:
            while data := os.read(ours, 65536):
                shown += data
        except OSError:  # how Linux tells that the other end is closed
            pass
    os.close(ours)
    return shown.decode()


def test_a_terminal_sees_phases_and_windows(folder: Path) -> None:
    save(folder / "other.png")
    shown = on_a_terminal(folder, "in.png", "other.png", "-o", "out", "--steps", "4")
    assert "in.png (1/2)" in shown
    assert "other.png (2/2)" in shown
    assert "loading the model" in shown
    assert "phase 1/" in shown
    assert "window " in shown
    assert "out/in_2x.png  80x64" in shown


@pytest.mark.parametrize("flag", ["--no-progress", "-q", "--json"])
def test_there_are_ways_to_switch_it_off(folder: Path, flag: str) -> None:
    shown = on_a_terminal(folder, "in.png", flag)
    assert "phase" not in shown
    assert "\x1b[?25l" not in shown, "the cursor was not hidden"
