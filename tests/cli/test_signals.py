"""A signal at each moment of a run: the exit code, what is left, and what a rerun makes of it."""

# pyright: basic
from __future__ import annotations

import functools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import QUICK, Command, save
from tests.cli.forked import Forked
from tests.cli.test_faults import contents, litter
from tileup.cli import upscale_command
from tileup.engine import file_to_file, locks, memory, pipeline
from tileup.engine.journal import Journal
from tileup.errors import ExitCode

COUNT = 2
MOMENTS: dict[str, tuple[object, str, int]] = {
    "start": (upscale_command, "find_jobs", 1),
    "load": (upscale_command, "loaded", 1),
    "locking": (locks.OutputLock, "acquire", 2),
    "reading": (file_to_file, "read", 1),
    "reading ahead": (file_to_file, "read", 2),
    "drawing": (memory, "draw", 2),
    "a window": (pipeline.Pipeline, "_on_step", 3),
    "encoding": (file_to_file, "save_picture", 1),
    "going on record": (file_to_file, "_record_done", 2),
    "between pictures": (pipeline.Pipeline, "_looked_at", 2),
    "end": (pipeline.Pipeline, "close", 1),
}
"""Where a moment is: what is called then, and at which of its calls."""
LONG = (pytest.mark.long, pytest.mark.slow)
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture
def pictures(folder: Path) -> Path:
    for number in range(COUNT):
        save(folder / "in" / f"{number}.png", 40 + number, 32, seed=number)
    return folder


@pytest.fixture(autouse=True)
def terminal_counts() -> Iterator[None]:
    """Also where these tests run under `nohup`, which a run respects."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(scope="module")
def made() -> dict[str, bytes]:
    """What an undisturbed run makes; it is made once."""
    return {}


@pytest.fixture
def expected(pictures: Path, made: dict[str, bytes], tileup: Command) -> dict[str, bytes]:
    if not made:
        assert tileup("upscale", "in", "-o", "one", *QUICK).code == 0
        made.update(contents(pictures / "one"))
    return made


def sending(number: int, inner: Callable[..., object], call: int) -> Callable[..., object]:
    """The same, and at one of its calls the process is sent a signal."""
    calls: list[int] = []

    @functools.wraps(inner)
    def wrapped(*arguments: object, **more: object) -> object:
        calls.append(number)
        if len(calls) == call:
            os.kill(os.getpid(), number)
            time.sleep(0.02)  # as the first thread hears it, whichever this is
        return inner(*arguments, **more)

    return wrapped


def interrupted(tileup: Command, moment: str, number: int) -> int:
    place, name, call = MOMENTS[moment]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(place, name, sending(number, getattr(place, name), call))
        return tileup("upscale", "in", "-o", "out", *QUICK).code


def cases() -> Iterator[object]:
    """Every moment with one signal, in turns; and all of them for who has time."""
    for turn, moment in enumerate(MOMENTS):
        for number in ENDING:
            few = ENDING[turn % len(ENDING)] is number
            yield pytest.param(
                moment, number, marks=[] if few else LONG, id=f"{moment}-{number.name}"
            )


@pytest.mark.parametrize(("moment", "number"), [*cases()])
def test_a_signal_at_any_moment_leaves_all_in_order(
    pictures: Path, expected: dict[str, bytes], tileup: Command, moment: str, number: int
) -> None:
    assert interrupted(tileup, moment, number) == ExitCode.INTERRUPTED
    out = pictures / "out"
    there = contents(out)
    assert there.items() <= expected.items(), "every output is whole, or not there"
    assert litter(pictures) == []
    assert {each.output for each in Journal(out).records()} >= set(there)
    assert tileup("upscale", "in", "-o", "out", *QUICK).code == 0
    assert (contents(out), litter(pictures)) == (expected, [])


def test_a_pipe_that_broke_elsewhere_ends_nothing(
    pictures: Path, expected: dict[str, bytes], tileup: Command
) -> None:
    """What is written to a pipe tells itself whether it is broken."""
    assert interrupted(tileup, "drawing", signal.SIGPIPE) == 0
    assert contents(pictures / "out") == expected


def test_what_ignores_that_its_terminal_goes_goes_on(
    pictures: Path, expected: dict[str, bytes], tileup: Command
) -> None:
    """As `nohup` has it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert interrupted(tileup, "drawing", signal.SIGHUP) == 0
    finally:
        signal.signal(signal.SIGHUP, before)
    assert contents(pictures / "out") == expected


def started(*arguments: str, **more: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tileup", "upscale", "in", "-o", "out", *QUICK, *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, **more)  # type: ignore[call-overload]


@pytest.mark.parametrize("gone", ["full disk", "reader"])
def test_words_that_nobody_takes_end_no_run(
    pictures: Path, expected: dict[str, bytes], gone: str
) -> None:
    if gone == "reader":
        reading, place = os.pipe()
        os.close(reading)
    else:
        place = os.open("/dev/full", os.O_WRONLY)
    with Forked(pictures, "upscale", "in", "-o", "out", *QUICK, "-v", stderr=place) as running:
        running.communicate()
    os.close(place)
    assert running.returncode == 0
    assert contents(pictures / "out") == expected


@pytest.mark.long
@pytest.mark.slow
def test_signals_to_processes_at_times_by_chance(
    pictures: Path, expected: dict[str, bytes], tileup: Command
) -> None:
    """From when it is ours to hear them: before that Python and the system end it as they do."""
    rng, out, codes = random.Random(0), pictures / "out", list[int]()
    begun = time.monotonic()
    with started("-q") as undisturbed:
        undisturbed.communicate()
    whole = time.monotonic() - begun
    out.rename(pictures / "undisturbed")
    for turn in range(int(os.environ.get("FUZZ", "15"))):
        number = ENDING[turn % len(ENDING)]
        with started("-q", stderr=subprocess.PIPE) as running:
            time.sleep(rng.uniform(0.1, 1) * whole)
            running.send_signal(number)
            _, words = running.communicate()
        codes.append(running.returncode)
        assert running.returncode in (0, ExitCode.INTERRUPTED, -number), words
        assert b"Traceback" not in words
        assert contents(out).items() <= expected.items()
        assert litter(pictures) == [] or running.returncode == -number
        if len(contents(out)) == COUNT:
            out.rename(pictures / f"out{turn}")
    assert ExitCode.INTERRUPTED in codes
    assert tileup("upscale", "in", "-o", "out", *QUICK).code == 0
    assert contents(out) == expected


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.long)])
def test_a_terminal_that_goes_leaves_all_in_order(
    pictures: Path, expected: dict[str, bytes], tileup: Command, workers: str
) -> None:
    """All that is said after that finds nobody."""
    ours, theirs = os.openpty()
    running = started(
        *("--workers", workers, "-v"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: __import__("fcntl").ioctl(0, __import__("termios").TIOCSCTTY, 0),
    )
    os.close(theirs)
    said = b""
    while b"_2x.png  " not in said:
        said += os.read(ours, 4096)
    os.close(ours)
    assert running.wait(60) == ExitCode.INTERRUPTED
    there = contents(pictures / "out")
    assert there
    assert there.items() <= expected.items()
    assert litter(pictures) == []
    assert tileup("upscale", "in", "-o", "out", *QUICK).code == 0
    assert contents(pictures / "out") == expected
