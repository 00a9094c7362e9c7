"""Progress: shown to someone who looks at standard error, and to nobody else."""

# pyright: basic
from __future__ import annotations

import os
import pty
import time
from pathlib import Path

import pytest

from tests.cli.conftest import QUICK, Command, save
from tests.cli.forked import Forked
from tileup.cli.bars import Bars
from tileup.cli.console import NOTICE
from tileup.cli.pulse import Pulse, told
from tileup.cli.watch import Ahead, Watch
from tileup.contracts import Step
from tileup.engine.jobs import find_jobs
from tileup.engine.outcomes import Begun, Event, Finished, Loading, Outcome
from tileup.engine.request import Request
from tileup.settings.values import Settings


def on_a_terminal(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    """What a terminal at standard error shows."""
    ours, theirs = pty.openpty()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
        running = Forked(
            folder, "upscale", *QUICK, *arguments, stdout=nowhere.fileno(), stderr=theirs
        )
    os.close(theirs)
    with running:
        shown = b""
        try:
            while data := os.read(ours, 65536):
                shown += data
        except OSError:  # how Linux tells that the other end is closed
            pass
    os.close(ours)
    return shown.decode()


def test_a_terminal_sees_phases_and_windows(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(folder / "other.png")
    shown = on_a_terminal(folder, monkeypatch, "in.png", "other.png", "-o", "out", "--steps", "40")
    assert "in.png (1/2)" in shown
    assert "other.png (2/2)" in shown
    assert "loading the model" in shown
    assert "phase 1/" in shown
    assert "window " in shown
    assert "out/in_2x.png  80x64" in shown
    assert "pictures" in shown


def test_what_is_shown_while_a_picture_is_drawn_is_its_name(folder: Path) -> None:
    """The model is loaded after a picture has begun: its name comes back with the first window."""
    settings = Settings()
    (job,) = find_jobs(Request(("in.png",), output="out.png"), settings)
    watch, shown = Watch([job], settings), list[str]()
    for event in (Begun(job, 1, 1), Loading(), Step(1, 1, 1, 4), Step(1, 1, 2, 4), Loading()):
        watch.event(event)
        shown.append(told(watch))
    loading = "loading the model"
    assert shown[:2] == ["in.png", loading]
    assert shown[2].startswith("in.png, window 1/4")
    assert shown[3].startswith("in.png, window 2/4")
    assert shown[4].startswith(loading), "again, where memory did not suffice"


def both(watch: Watch, bars: Bars, event: Event) -> None:
    watch.event(event)
    bars.event(event)


def test_the_bars_show_the_time_left(folder: Path) -> None:
    """Two pictures of one size, a window a second: once one is drawn, the other takes as long."""
    save(folder / "other.png")
    settings = Settings()
    jobs = find_jobs(Request(("in.png", "other.png"), output="out"), settings)
    now = [0.0]
    watch = Watch(jobs, settings, lambda: now[0])
    bar = Bars(watch)
    assert watch.ahead is not None
    watch.start()
    watch.ahead._thread.join()
    both(watch, bar, Begun(jobs[0], 1, 2))
    for call in range(51):
        both(watch, bar, Step(1, 1, call, 50))
        now[0] += 1
    pictures, picture = bar._progress.tasks
    assert pictures.fields["note"] == "about 50 s left"
    assert picture.fields["note"] == "window 50/50"
    assert told(watch) == "0/2 pictures, in.png (1/2), window 50/50, about 50 s left"
    both(watch, bar, Finished(Outcome(jobs[0], "done")))
    assert told(watch).startswith("1/2 pictures")
    assert (pictures.completed, pictures.total) == (1, 2)


def test_one_picture_has_one_bar(folder: Path) -> None:
    jobs = find_jobs(Request(("in.png",)), Settings())
    now = [0.0]
    watch = Watch(jobs, Settings(), lambda: now[0])
    bar = Bars(watch)
    both(watch, bar, Begun(jobs[0], 1, 1))
    for call in range(5):
        both(watch, bar, Step(1, 1, call, 50))
        now[0] += 1
    (picture,) = bar._progress.tasks
    assert picture.fields["note"] == "window 4/50  about 45 s left"


def test_headers_are_read_ahead_without_disturbing(folder: Path) -> None:
    save(folder / "small.png", 40, 30)
    (folder / "bad.png").write_text("no picture")
    settings = Settings(scale=3)
    jobs = find_jobs(Request(("in.png", "bad.png", "small.png"), output="out"), settings)
    ahead = Ahead(jobs, settings)
    ahead.start()
    ahead._thread.join()
    assert ahead.taken() == {1: 120 * 96, 3: 120 * 90}
    assert ahead.taken() is None


@pytest.mark.parametrize("flag", ["--no-progress", "-q", "--json"])
def test_there_are_ways_to_switch_it_off(
    folder: Path, monkeypatch: pytest.MonkeyPatch, flag: str
) -> None:
    shown = on_a_terminal(folder, monkeypatch, "in.png", flag)
    assert "phase" not in shown
    assert "\x1b[?25l" not in shown, "the cursor was not hidden"


def test_a_line_now_and_then_says_how_far_a_run_is(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(NOTICE, "tileup")
    watch = Watch(find_jobs(Request(("in.png",)), Settings()), Settings())
    assert told(watch) == "", "nothing before there is something"
    watch.event(Loading())
    pulse = Pulse(watch, every=0.01)
    pulse.start()
    while len(caplog.messages) < 3:
        time.sleep(0.01)
    pulse.stop()
    before = len(caplog.messages)
    assert set(caplog.messages) == {"loading the model"}
    time.sleep(0.05)
    assert len(caplog.messages) == before, "no line after the end"


def test_who_looks_at_no_terminal_hears_it_too_unless_silenced(
    smoke: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pulse.__init__, "__defaults__", (0.005,))
    ran = smoke("in.png", "-o", "a.png", "--steps", "12")
    assert ", window " in ran.err
    assert ran.out == ""
    for flag in ("--no-progress", "-q", "--json"):
        ran = smoke("in.png", "-o", f"{flag}.png", "--steps", "12", flag)
        assert "window " not in ran.err
