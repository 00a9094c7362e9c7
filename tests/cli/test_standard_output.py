"""Standard output that takes less than all: the exit code says so, and a reader may leave."""

# pyright: basic
from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest
from PIL import Image

from tests.cli.forked import Forked
from tileup.cli.main import main
from tileup.engine.standard_output import OutputLost, leave, say, unheard, write_bytes
from tileup.errors import ExitCode

PICTURE = ["upscale", "in.png", "-o", "-", "--denoise", "0", "-q"]
COMMANDS = [
    PICTURE,
    ["upscale", "in.png", "--denoise", "0", "-q", "--json", "--overwrite"],
    ["plan", "in.png", "--json"],
    ["plan", "in.png"],
    ["upscale", "--print-config"],
    ["presets"],
    ["--version"],
]


def started(
    folder: Path,
    arguments: list[str],
    unbuffered: bool,
    stdout: IO[bytes],
    largest_file: int | None = None,
) -> Forked:
    """A process, whose standard output has a buffer or none."""
    return Forked(
        folder,
        *arguments,
        stdout=stdout.fileno(),
        unbuffered=unbuffered,
        largest_file=largest_file,
    )


def interpreted(folder: Path, arguments: list[str], stdout: IO[bytes]) -> subprocess.Popen[bytes]:
    """A process of an interpreter, which gives its streams no buffer by itself."""
    return subprocess.Popen(
        [sys.executable, "-m", "tileup", *arguments],
        stdout=stdout,
        stderr=subprocess.PIPE,
        cwd=folder,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )


def ended(process: subprocess.Popen[bytes] | Forked) -> tuple[int | None, str]:
    assert process.stderr is not None
    told = process.stderr.read().decode()
    process.stderr.close()
    process.wait()
    return process.returncode, told


CLOSED = [
    ((1,), "upscale in.png -o - --denoise 0 -q", 6, "standard output cannot be written"),
    ((1,), "plan in.png --json", 6, "standard output cannot be written"),
    ((1,), "upscale in.png -o out.png --denoise 0 -q", 0, ""),
    ((2,), "upscale in.png -o out.png --denoise 0", 0, ""),
    ((0,), "upscale - -o out.png --denoise 0", 3, "is empty"),
    ((0, 1, 2), "upscale in.png -o out.png --denoise 0", 0, ""),
]
"""Numbers of streams, arguments, the exit code and what is said."""


@pytest.mark.parametrize(("closed", "arguments", "code", "told"), CLOSED)
def test_streams_that_are_closed(
    folder: Path, closed: tuple[int, ...], arguments: str, code: int, told: str
) -> None:
    """As cron and daemons do it: nothing is written into a file that took the stream's number."""
    process = Forked(folder, *arguments.split(), closed=closed)
    as_wanted(folder, ended(process), code, told)


@pytest.mark.parametrize(("closed", "arguments", "code", "told"), [CLOSED[1], CLOSED[5]])
def test_streams_that_are_closed_when_the_interpreter_starts(
    folder: Path, closed: tuple[int, ...], arguments: str, code: int, told: str
) -> None:
    ends = " ".join(f"{number}>&-" for number in closed)
    line = f"{sys.executable} -m tileup {arguments} {ends}"
    done = subprocess.run(["sh", "-c", line], cwd=folder, capture_output=True, check=False)
    as_wanted(folder, (done.returncode, done.stderr.decode()), code, told)


def as_wanted(folder: Path, found: tuple[int | None, str], code: int, told: str) -> None:
    assert found[0] == code, found
    assert told in found[1]
    assert "Traceback" not in found[1]
    assert (folder / "out.png").exists() == (code == 0)
    if code == 0:
        with Image.open(folder / "out.png") as image:
            image.load()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize("unbuffered", [False, True], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda each: " ".join(each[:3]))
def test_a_full_disk_is_6(folder: Path, arguments: list[str], unbuffered: bool) -> None:
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        if unbuffered and arguments is PICTURE:
            process = interpreted(folder, arguments, full)
        else:
            process = started(folder, arguments, unbuffered, full)
        code, told = ended(process)
    assert code == ExitCode.CANNOT_WRITE
    assert told == "tileup: standard output cannot be written: No space left on device\n"


@pytest.mark.parametrize("unbuffered", [False, True], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("arguments", [PICTURE, COMMANDS[2]], ids=["picture", "plan"])
def test_a_file_that_may_not_grow_is_6_and_never_a_cut_picture_with_0(
    folder: Path, arguments: list[str], unbuffered: bool
) -> None:
    """A limit within the output: the system takes the first part of what is written."""
    with (folder / "out").open("wb") as out:
        code, told = ended(started(folder, arguments, unbuffered, out, largest_file=200))
    assert code == ExitCode.CANNOT_WRITE
    assert told == "tileup: standard output cannot be written: File too large\n"
    assert (folder / "out").stat().st_size == 200


@pytest.mark.parametrize("unbuffered", [False, True], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("arguments", [*COMMANDS, ["--help"]], ids=lambda each: " ".join(each[:3]))
def test_a_reader_that_has_gone_ends_it_quietly(
    folder: Path, arguments: list[str], unbuffered: bool
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        process = started(folder, arguments, unbuffered, pipe)
    assert ended(process) == (ExitCode.CANNOT_WRITE, "")


def test_a_batch_ends_when_the_reader_of_its_lines_has_gone(folder: Path) -> None:
    names = [f"{number}.png" for number in range(4)]
    for name in names:
        (folder / name).write_bytes((folder / "in.png").read_bytes())
    command = ["upscale", *names, "-o", "out", "--denoise", "0", "-q", "--json"]
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        process = started(folder, command, unbuffered=False, stdout=pipe)
    assert ended(process) == (ExitCode.CANNOT_WRITE, "")
    assert len([*(folder / "out").glob("*_2x.png")]) < 4


class Sluggish:
    """A stream that takes three bytes at a time, and every other time none."""

    encoding, errors = "utf-8", "strict"

    def __init__(self) -> None:
        self.taken = b""
        self.calls = 0
        self.buffer = self

    def write(self, data: memoryview) -> int | None:
        self.calls += 1
        part = bytes(data[:3]) if self.calls % 2 else b""
        self.taken += part
        return len(part) or None

    def flush(self) -> None: ...


def test_every_byte_reaches_a_stream_that_takes_a_few_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = Sluggish()
    monkeypatch.setattr(sys, "stdout", stream)
    write_bytes(b"0123456789")
    say("\u00e4b", end="!")
    assert stream.taken == b"0123456789" + "äb!".encode()
    assert stream.calls > 6


@contextlib.contextmanager
def stopped() -> Iterator[int]:
    """Standard error is a pipe that is full and waits for nobody; gives the end it is read from."""
    source, target = os.pipe()
    os.set_blocking(source, False)
    os.set_blocking(target, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(target, b"." * 4096)
    with pytest.MonkeyPatch.context() as patch:
        with os.fdopen(target, "w", encoding="utf-8") as stream:
            patch.setattr(sys, "stderr", stream)
            yield source
            drained(source)
        os.close(source)


def drained(source: int) -> bytes:
    found = b""
    with contextlib.suppress(BlockingIOError):
        while part := os.read(source, 2**16):
            found += part
    return found


def said(text: str) -> None:
    with unheard():
        sys.stderr.write(text)
        sys.stderr.flush()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_an_encoding_that_lacks_characters_ends_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    """Of a terminal or a locale: tables have other rules there, and names are spelled out."""
    name = "\u4e00\u0301.png"
    (folder / "in.png").rename(folder / name)
    for command in (["presets"], ["plan", name], ["info", name], ["--help"], ["upscale", "--help"]):
        held = io.BytesIO()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", io.TextIOWrapper(held, encoding=encoding))
            assert main(command) == 0
            sys.stdout.flush()
            written = held.getvalue().decode(encoding)
            sys.stdout.detach()  # else it is closed with what is left of it
        told = name if encoding == "utf-8" else name.encode("ascii", "backslashreplace").decode()
        assert (told in written) == (name in command)
        assert ("\u2500" in written) == (encoding == "utf-8" and command[0] != "info")
        assert "\\u2500" not in written
        if command == ["presets"] and encoding != "utf-8":
            assert "----" in written


def test_who_takes_no_words_for_now_hears_the_next_ones() -> None:
    with stopped() as source:
        said("first" * 10_000)
        drained(source)
        said("second")
        assert b"second" in drained(source)


def test_words_that_nobody_takes_do_not_change_the_exit_code() -> None:
    with stopped() as source:
        said("first")
        leave()
        sys.stderr.flush()  # as the interpreter does at its end
        assert b"first" not in drained(source)


def test_what_is_lost_is_no_failure_of_a_picture() -> None:
    """An engine goes on after an Exception of one picture: this is none."""
    assert not issubclass(OutputLost, Exception)
