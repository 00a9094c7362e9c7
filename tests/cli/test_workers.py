"""The command with several workers: real processes that are killed and interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import QUICK, Command, save
from tests.cli.test_faults import contents, litter
from tileup.engine.journal import Journal
from tileup.errors import ExitCode

COUNT = 4


@pytest.fixture
def pictures(folder: Path) -> Path:
    for number in range(COUNT):
        save(folder / "in" / f"{number}.png", 40 + number, 32, seed=number)
    return folder / "in"


@pytest.fixture
def expected(pictures: Path, folder: Path, tileup: Command) -> dict[str, bytes]:
    """What one process makes."""
    assert tileup("upscale", "in", "-o", "one", *QUICK).code == 0
    return contents(folder / "one")


def started(*arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tileup", "upscale", "in", *QUICK, "--workers", "2"]
    return subprocess.Popen(
        [*command, *arguments],
        stderr=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )


def processes_of(session: int) -> list[int]:
    """Processes of a session that have not ended."""
    table = subprocess.run(
        ["ps", "-eo", "pid,sid,stat"], capture_output=True, text=True, check=True
    )
    rows = (line.split() for line in table.stdout.splitlines()[1:])
    return [int(pid) for pid, sid, stat in rows if int(sid) == session and stat[0] != "Z"]


def test_the_bytes_of_one_process(folder: Path, expected: dict[str, bytes]) -> None:
    with started("-o", "out", "-q") as running:
        _, words = running.communicate()
    assert (running.returncode, words) == (0, b"")
    assert contents(folder / "out") == expected


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for its processes")
def test_ctrl_c_and_kill_leave_it_in_order(
    folder: Path, tileup: Command, expected: dict[str, bytes]
) -> None:
    with started("-o", "out") as running:
        assert running.stderr is not None
        first = running.stderr.readline()
        assert b"_2x.png  " in first
        os.killpg(running.pid, signal.SIGINT)  # as a terminal does it: to all of them
        rest = running.stderr.read().decode()
    assert running.returncode == ExitCode.INTERRUPTED
    assert rest.endswith("tileup: interrupted\n")
    assert "Traceback" not in rest
    there = contents(folder / "out")
    assert 0 < len(there) < COUNT
    assert litter(folder / "out") == []
    assert {each.output for each in Journal(folder / "out").records()} == set(there)

    with started("-o", "out", "--overwrite") as running:
        assert running.stderr is not None
        assert b"_2x.png  " in running.stderr.readline()
        running.kill()
    begun = time.monotonic()
    while processes_of(running.pid):
        assert time.monotonic() - begun < 20, "workers outlive their run"
        time.sleep(0.1)
    assert contents(folder / "out").items() <= expected.items()

    assert tileup("upscale", "in", "-o", "out", *QUICK).code == 0
    assert (contents(folder / "out"), litter(folder / "out")) == (expected, [])


def test_what_cannot_be_is_refused(pictures: Path, tileup: Command) -> None:
    ran = tileup("upscale", "in", "--engine", "rai")
    assert ran.code == ExitCode.USAGE
    assert "engine 'rai' is not known" in ran.sentence
    ran = tileup("upscale", "in", "--workers", "0")
    assert (ran.code, ran.sentence) == (2, "tileup: workers must be at least 1, got 0")
