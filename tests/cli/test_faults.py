"""Real processes that are killed, interrupted, starved of disk and run twice at once."""

# pyright: basic
from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import QUICK, save
from tests.cli.forked import Forked
from tileup.engine.journal import NAME, Journal
from tileup.errors import ExitCode

COUNT = 6


@pytest.fixture
def pictures(folder: Path) -> Path:
    """A folder of small pictures, in two levels."""
    return save_pictures(folder)


def save_pictures(folder: Path) -> Path:
    for number in range(COUNT):
        below = "in/deep" if number % 2 else "in"
        save(folder / below / f"{number}.png", 40 + number, 32, seed=number)
    return folder / "in"


COMMAND = ("upscale", "in", "-r", *QUICK)


def started(folder: Path, *arguments: str, largest_file: int | None = None) -> Forked:
    return Forked(folder, *COMMAND, *arguments, largest_file=largest_file)


def starting(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """A process that has yet to import everything."""
    return subprocess.Popen(
        [sys.executable, "-m", "tileup", *COMMAND, *arguments],
        cwd=folder,
        stderr=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def finished(folder: Path, *arguments: str, largest_file: int | None = None) -> int | None:
    with started(folder, *arguments, largest_file=largest_file) as running:
        running.communicate()
    return running.returncode


def contents(folder: Path) -> dict[str, bytes]:
    """All files that a user sees, by their path."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name[0] != ".")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def litter(folder: Path) -> list[str]:
    """Hidden files that are no journal."""
    return [path.name for path in folder.rglob(".*") if path.name != NAME]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What an undisturbed run makes."""
    folder = tmp_path_factory.mktemp("undisturbed")
    save_pictures(folder)
    assert finished(folder, "-o", "out") == 0
    made = contents(folder / "out")
    assert len(made) == COUNT
    return made


@pytest.fixture
def expected(pictures: Path, undisturbed: dict[str, bytes]) -> dict[str, bytes]:
    """The same pictures, yet to be made."""
    return undisturbed


def wait_for(running: Forked, words: bytes) -> None:
    """Read what a run says up to a line with these words, or to its end."""
    while line := running.stderr.readline():
        if words in line:
            return


def seconds_of_work(folder: Path) -> float:
    """How long a run takes from when its first picture is done to its end."""
    with started(folder, "-o", "timed") as running:
        wait_for(running, b"_2x.png  ")
        begun = time.monotonic()
        running.communicate()
    assert running.returncode == 0
    return time.monotonic() - begun


def test_a_run_killed_at_any_moment_goes_on(folder: Path, expected: dict[str, bytes]) -> None:
    kills = int(os.environ.get("FUZZ", "12"))
    rng = random.Random(kills)
    working = seconds_of_work(folder)
    out, sizes, killed = folder / "out", [], 0
    while killed < kills:
        starts = rng.random() < 0.2
        with (starting if starts else started)(folder, "-o", "out") as running:
            if not starts:
                wait_for(running, b"_2x.png  ")  # type: ignore[arg-type]
            with contextlib.suppress(subprocess.TimeoutExpired):
                running.wait(timeout=rng.uniform(0, 1.1) * working)
            killed += running.poll() is None
            running.kill()
        there = contents(out)
        assert there.items() <= expected.items(), "every output is whole, or not there"
        sizes.append(len(there))
        if len(there) == COUNT:
            assert finished(folder, "-o", "out") == 0
            assert (contents(out), litter(out)) == (expected, [])
            out.rename(folder / f"out{len(sizes)}")
    assert finished(folder, "-o", "out") == 0
    assert (contents(out), litter(out)) == (expected, [])
    assert any(sizes), "some came in the middle of the work"
    print(f"{killed} kills, outputs after each: {sizes}")  # noqa: T201


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_a_batch_leaves_it_in_order(
    folder: Path, expected: dict[str, bytes], number: int
) -> None:
    with started(folder, "-o", "out") as running:
        first = running.stderr.readline()
        assert b"0_2x.png" in first
        running.send_signal(number)
        rest = running.stderr.read().decode()
    assert running.returncode == ExitCode.INTERRUPTED
    assert rest.endswith("tileup: interrupted\n")
    there = contents(folder / "out")
    assert 0 < len(there) < COUNT
    assert there.items() <= expected.items()
    assert litter(folder / "out") == []
    journal = Journal(folder / "out")
    assert {path.relative_to(folder / "out").as_posix() for path in journal.outputs()} == set(there)
    assert finished(folder, "-o", "out") == 0
    assert contents(folder / "out") == expected


def test_a_second_signal_stops_at_once(folder: Path, pictures: Path) -> None:
    save(pictures / "0-large.png", 400, 300)
    with started(folder, "-o", "out", "-v", "--steps", "100") as running:
        while b"0-large.png" not in running.stderr.readline():
            pass
        running.send_signal(signal.SIGINT)
        time.sleep(0.01)
        running.send_signal(signal.SIGINT)
        begun = time.monotonic()
        running.communicate()
    # The other is what a shell calls 130 too: the interpreter was on its way out already.
    assert running.returncode in (ExitCode.INTERRUPTED, -signal.SIGINT)
    assert time.monotonic() - begun < 5


def test_writes_that_fail_midway(
    folder: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A limit of the system on file sizes: writing beyond it fails as on a full disk. ncnn reads its
    # weights from a file, so torch would do the work in that run alone.
    monkeypatch.setenv("TILEUP_RUNTIME", "torch")
    assert finished(folder, "-o", "whole") == 0
    expected = contents(folder / "whole")
    size = sorted(len(data) for data in expected.values())[COUNT // 2]
    assert finished(folder, "-o", "out", largest_file=size) == ExitCode.SOME_FAILED
    there = contents(folder / "out")
    assert 0 < len(there) < COUNT
    assert there.items() <= expected.items()
    assert litter(folder / "out") == []
    assert finished(folder, "-o", "out") == 0
    assert contents(folder / "out") == expected


@pytest.fixture
def small_disk(folder: Path) -> Iterator[Path]:
    """A disk of 64 kB."""
    place = folder / "out"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    try:
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("mounting a small disk needs root")
    except FileNotFoundError:
        pytest.skip("there is no mount here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk(folder: Path, expected: dict[str, bytes], small_disk: Path) -> None:
    assert finished(folder, "-o", "out") == ExitCode.SOME_FAILED
    there = contents(small_disk)
    assert 0 < len(there) < COUNT
    assert there.items() <= expected.items()
    assert litter(small_disk) == []
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    assert finished(folder, "-o", "out") == 0
    assert contents(small_disk) == expected


def test_two_runs_over_one_folder_share_the_work(folder: Path, expected: dict[str, bytes]) -> None:
    with started(folder, "-o", "out") as first, started(folder, "-o", "out") as second:
        first.communicate()
        second.communicate()
    assert (first.returncode, second.returncode) == (0, 0)
    assert contents(folder / "out") == expected
    assert litter(folder / "out") == []
    lines = (folder / "out" / NAME).read_bytes().splitlines()
    assert len(lines) == COUNT, "no picture was made twice"
