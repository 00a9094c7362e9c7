"""Locks: one process for each output, and nothing left when it ends, however it ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tileup.engine.locks import Locks, OutputLock, remove_stale
from tileup.errors import OutputError
from tileup.images.kept import place_of, work_of
from tileup.images.whole import half_written

HOLD = """
import sys, time
from pathlib import Path
from tileup.engine.locks import OutputLock
assert OutputLock(Path(sys.argv[1])).acquire()
print("held", flush=True)
time.sleep(60)
"""


def test_one_at_a_time(tmp_path: Path) -> None:
    first, second = (OutputLock(tmp_path / "new" / "a.png") for _ in range(2))
    assert first.acquire()
    assert not second.acquire()
    assert OutputLock(tmp_path / "new" / "b.png").acquire()
    first.release()
    assert second.acquire()
    second.release()
    assert not second.path.exists()


def test_nothing_is_left(tmp_path: Path) -> None:
    lock = OutputLock(tmp_path / "new" / "deep" / ("n" * 250 + ".png"))
    assert lock.acquire()
    lock.release()
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_as_soon_as_it_is_taken_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner, locks = OutputLock.acquire, Locks()

    def acquire(lock: OutputLock) -> bool:
        assert inner(lock)
        raise KeyboardInterrupt

    monkeypatch.setattr(OutputLock, "acquire", acquire)
    with pytest.raises(KeyboardInterrupt):
        locks.take(tmp_path / "new" / "a.png")
    locks.close()
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    output = tmp_path / "a.png"
    with subprocess.Popen([sys.executable, "-c", HOLD, output], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert not OutputLock(output).acquire()
        left = [half_written(output), place_of(output), work_of(output)]
        for each in left:
            each.write_bytes(b"half")
        remove_stale(output, [output])
        assert OutputLock(output).path.exists(), "it is not stale"
        assert all(each.exists() for each in left), "its owner writes them"
        holder.kill()
    assert OutputLock(output).path.exists()
    remove_stale(output, [output])
    assert not OutputLock(output).path.exists()
    assert not any(each.exists() for each in left)
    assert OutputLock(output).acquire()


def test_a_place_that_takes_no_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot write to"):
        OutputLock(tmp_path / "file" / "a.png").acquire()


def test_what_cannot_be_removed_keeps_nothing_else(tmp_path: Path) -> None:
    output, beside = tmp_path / "a.png", tmp_path / "a.json"
    OutputLock(output).path.touch()
    half_written(beside).mkdir()
    for each in (half_written(output), place_of(output), work_of(output)):
        each.touch()
    remove_stale(output, [beside, output])
    assert list(tmp_path.iterdir()) == [half_written(beside)]
