"""Processes of the command line, forked from one that has imported everything already.

They are processes like any other, with signals, limits and a standard error of their own, and
start in a tenth of the time. How a process starts is tested elsewhere.
"""

# pyright: basic
from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Collection, Mapping
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import IO

from tileup.cli.main import main

SERVER = multiprocessing.get_context("forkserver")
"""Starts processes from the one that has imported everything: one for all tests of a run."""
SERVER.set_forkserver_preload(
    [
        "pytest",
        "torch",
        "imagecodecs",
        "tileup.upscaling",
        "tileup.checkpoints.load",
        "tileup.engine.worker",
        "tests.doubles",
        __name__,
    ]
)


class Forked:
    """A run of `tileup`; as much of `subprocess.Popen` as the tests need."""

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        largest_file: int | None = None,
        stdin: bytes | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        unbuffered: bool = False,
        closed: Collection[int] = (),
    ) -> None:
        """Start it.

        Args:
            folder: to work in.
            arguments: of the command line.
            largest_file: bytes beyond which no file may grow.
            stdin: what it reads from a pipe; no more than a pipe holds.
            stdout: an open file in place of the test's own.
            stderr: the same, in place of a pipe from which `stderr` reads.
            unbuffered: standard output is as PYTHONUNBUFFERED makes it.
            closed: numbers of the streams that are closed when it starts.
        """
        reading, writing = os.pipe()
        self.stderr: IO[bytes] = os.fdopen(reading, "rb")
        given = (
            str(folder),
            arguments,
            None if stdin is None else _Passed(_filled(stdin)),
            None if stdout is None else _Passed(stdout),
            _Passed(writing if stderr is None else stderr),
            dict(os.environ),
            largest_file,
            unbuffered,
            tuple(closed),
        )
        self._process = SERVER.Process(target=_run, args=given)
        self._process.start()
        os.close(writing)
        if given[2] is not None:
            os.close(given[2].number)

    def __enter__(self) -> Forked:
        return self

    def __exit__(self, *_: object) -> None:
        self.stderr.close()
        self.wait()

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> None:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("tileup", timeout or 0)

    def communicate(self) -> None:
        self.stderr.read()
        self.wait()

    def send_signal(self, number: int) -> None:
        assert self._process.pid is not None
        with contextlib.suppress(ProcessLookupError):  # at its end already, as of `Popen`
            os.kill(self._process.pid, number)

    def kill(self) -> None:
        self._process.kill()


def _filled(data: bytes) -> int:
    """The reading end of a pipe that holds what is read from it."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as pipe:
        pipe.write(data)
    return reading


class _Passed:
    """An open file that is there as a number in the process it is passed to."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> object:
        return _received, (DupFd(self.number),)


def _received(passed: object) -> int:
    return passed.detach()  # type: ignore[attr-defined]


def _run(
    folder: str,
    arguments: tuple[str, ...],
    given: int | None,
    output: int | None,
    errors: int,
    environment: Mapping[str, str],
    largest_file: int | None,
    unbuffered: bool,
    closed: Collection[int],
) -> None:
    """What the process does: as one that a shell started, with nothing of the test about it."""
    import torch

    torch.set_num_threads(1)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    if given is not None:
        os.dup2(given, 0)
        os.close(given)
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    if output is not None:
        os.dup2(output, 1)
        os.close(output)
        bare = io.FileIO(1, "w", closefd=False)
        within = bare if unbuffered else io.BufferedWriter(bare)
        sys.stdout = io.TextIOWrapper(within, encoding="utf-8", write_through=unbuffered)  # type: ignore[arg-type]
    os.dup2(errors, 2)
    os.close(errors)
    sys.stderr = os.fdopen(2, "w", buffering=1, encoding="utf-8", closefd=False)
    for number in closed:  # an interpreter that finds none has None in its place
        os.close(number)
        name = ("stdin", "stdout", "stderr")[number]
        setattr(sys, name, None)
        setattr(sys, f"__{name}__", None)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Workers of an engine hear neither: where one of those was forked first, nor does the server.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    code = main(arguments)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    os._exit(code)
