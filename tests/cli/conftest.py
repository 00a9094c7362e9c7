"""Running the command line: in this process, where torch is loaded once, or in one of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
import pytest
from PIL import Image

from tests.cli.forked import Forked
from tests.doubles import photograph
from tileup.cli.main import main


@dataclass(frozen=True)
class Ran:
    """What became of a command."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, object]]:
        """Standard output as lines of JSON."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def sentence(self) -> str:
        """The one line of words, when there is one and no traceback."""
        assert "Traceback" not in self.err
        (line,) = self.err.splitlines()
        return line


Command = Callable[..., Ran]


@pytest.fixture(scope="session")
def noted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder with what is faster on this machine, found out once for all tests: it takes
    each process 0.3 s, and two might find different things."""
    import torch

    from tileup.families.runtimes import faster_rounded, faster_runtime, pick_runtime

    base = tmp_path_factory.getbasetemp()
    cache = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "noted"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache))
        faster_runtime.cache_clear()
        faster_rounded.cache_clear()
        pick_runtime("auto", "cpu", torch.float32, rounded=True)
    (cache / "tileup").mkdir(parents=True, exist_ok=True)  # where torch is all there is
    return cache


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noted: Path) -> Path:
    """The working folder, with `in.png`: 40 x 32, half flat and half busy. No TILEUP_ variables,
    and a cache of its own, so that what one test measures is not known to the next."""
    for name in [name for name in os.environ if name.startswith("TILEUP_")]:
        monkeypatch.delenv(name)
    cache = tmp_path.with_name(f"{tmp_path.name}-cache")  # what a test makes is looked through
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    shutil.copytree(noted, cache)
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "in.png")
    return tmp_path


def save(path: Path, width: int = 40, height: int = 32, seed: int = 0) -> None:
    """A picture, half flat and half busy."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = (photograph(height, width, seed) * 255).round().astype(np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def tileup(capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command in this process."""

    def run(*arguments: object) -> Ran:
        capsys.readouterr()
        code = main([str(each) for each in arguments])
        out, err = capsys.readouterr()
        return Ran(code, out, err)

    return run


QUICK = ("--preset", "smoke", "--window", "80", "--overlap", "16")
"""Few steps, small tiles and a small window."""


@pytest.fixture
def smoke(tileup: Command) -> Command:
    """Runs `tileup upscale` so that it takes little time."""

    def run(*arguments: object) -> Ran:
        return tileup("upscale", *QUICK, *arguments)

    return run


@dataclass(frozen=True)
class Process:
    """What became of a process of its own."""

    code: int
    out: bytes
    err: str


@pytest.fixture
def process(folder: Path) -> Callable[..., Process]:
    """Runs `tileup`, or `python` with something else, in a process of its own."""

    def run(*arguments: str, stdin: bytes = b"", python: tuple[str, ...] = ()) -> Process:
        if not python:
            return forked(*arguments, stdin=stdin)
        command = [sys.executable, *python, *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, cwd=folder, check=False)
        return Process(done.returncode, done.stdout, done.stderr.decode())

    def forked(*arguments: str, stdin: bytes) -> Process:
        with TemporaryFile() as out:
            running = Forked(folder, *arguments, stdin=stdin, stdout=out.fileno())
            with running:
                err = running.stderr.read().decode()
            assert running.returncode is not None
            out.seek(0)
            return Process(running.returncode, out.read(), err)

    return run
