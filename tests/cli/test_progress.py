"""Progress: shown to someone who looks at standard error, and to nobody else."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import QUICK, save
from tileup.cli.progress import Bar, _Ahead
from tileup.contracts import Step
from tileup.engine.jobs import find_jobs
from tileup.engine.outcomes import Begun, Finished, Outcome
from tileup.engine.values import Request
from tileup.settings.values import Settings


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
    shown = on_a_terminal(folder, "in.png", "other.png", "-o", "out", "--steps", "40")
    assert "in.png (1/2)" in shown
    assert "other.png (2/2)" in shown
    assert "loading the model" in shown
    assert "phase 1/" in shown
    assert "window " in shown
    assert "out/in_2x.png  80x64" in shown
    assert "pictures" in shown


def test_the_bars_show_the_time_left(folder: Path) -> None:
    """Two pictures of one size, a window a second: once one is drawn, the other takes as long."""
    save(folder / "other.png")
    settings = Settings()
    jobs = find_jobs(Request(("in.png", "other.png"), output="out"), settings)
    now = [0.0]
    bar = Bar(jobs, settings, lambda: now[0])
    assert bar._ahead is not None
    bar._ahead.start()
    bar._ahead._thread.join()
    bar.event(Begun(jobs[0], 1, 2))
    for call in range(51):
        bar.event(Step(1, 1, call, 50))
        now[0] += 1
    pictures, picture = bar._progress.tasks
    assert pictures.fields["note"] == "about 50 s left"
    assert picture.fields["note"] == "window 50/50"
    bar.event(Finished(Outcome(jobs[0], "done")))
    assert (pictures.completed, pictures.total) == (1, 2)


def test_one_picture_has_one_bar(folder: Path) -> None:
    jobs = find_jobs(Request(("in.png",)), Settings())
    now = [0.0]
    bar = Bar(jobs, Settings(), lambda: now[0])
    bar.event(Begun(jobs[0], 1, 1))
    for call in range(5):
        bar.event(Step(1, 1, call, 50))
        now[0] += 1
    (picture,) = bar._progress.tasks
    assert picture.fields["note"] == "window 4/50  about 45 s left"


def test_headers_are_read_ahead_without_disturbing(folder: Path) -> None:
    save(folder / "small.png", 40, 30)
    (folder / "bad.png").write_text("no picture")
    settings = Settings(scale=3)
    jobs = find_jobs(Request(("in.png", "bad.png", "small.png"), output="out"), settings)
    ahead = _Ahead(jobs, settings)
    ahead.start()
    ahead._thread.join()
    assert ahead.taken() == {1: 120 * 96, 3: 120 * 90}
    assert ahead.taken() is None


@pytest.mark.parametrize("flag", ["--no-progress", "-q", "--json"])
def test_there_are_ways_to_switch_it_off(folder: Path, flag: str) -> None:
    shown = on_a_terminal(folder, "in.png", flag)
    assert "phase" not in shown
    assert "\x1b[?25l" not in shown, "the cursor was not hidden"
