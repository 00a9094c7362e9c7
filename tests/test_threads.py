"""Threads: how many compute, and that those without work leave the cores to others."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Generator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import tileup
from tileup.cli.main import main
from tileup.contracts import Box, Model, Scene

SPAWNED = (
    "import multiprocessing, sys\n"
    "from ctypes import CDLL\n"
    "from concurrent.futures import ProcessPoolExecutor\n"
    "import tileup\n"
    "def load_openmp():\n"
    "    CDLL(sys.argv[1])\n"
    "if __name__ == '__main__':\n"
    "    context = multiprocessing.get_context('spawn')\n"
    "    with ProcessPoolExecutor(1, mp_context=context) as pool:\n"
    "        pool.submit(load_openmp).exception()\n"
)
WAYS = {
    "command": ("-m", "tileup", "devices"),
    "functions": ("-c", "from tileup import load_model; load_model(device='cpu')"),
    "a module": ("-c", "import tileup.devices"),
}

SOON = 1000
"""Turns: some microseconds."""
MAPPED = Path("/proc/self/maps")
"""The files that this process has loaded."""

GNU = pytest.mark.skipif(sys.platform != "linux", reason="asks GNU's OpenMP, which torch has there")


def turns(*arguments: str, environment: Mapping[str, str] | None = None) -> list[int]:
    """How often a waiting thread looks before it sleeps, in each process that loaded OpenMP.

    In its own words: what it prints when asked. 0 with a passive policy alone.
    """
    ours = ("OMP_", "GOMP_", "KMP_")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=True,
        env=clean | {"OMP_DISPLAY_ENV": "verbose"} | dict(environment or {}),
    )
    return [int(count) for count in re.findall(r"GOMP_SPINCOUNT\s*=\s*'(\d+)'", done.stderr)]


def openmp() -> str:
    """The library that torch brought here: by itself it takes a hundredth of the time of torch."""
    return next(line.split()[-1] for line in MAPPED.read_text().splitlines() if "libgomp" in line)


@GNU
@pytest.mark.parametrize("way", WAYS)
def test_threads_without_work_soon_sleep(way: str) -> None:
    assert set(turns(*WAYS[way])) == {SOON}, "torch's, and that of ncnn where it is chosen"


@GNU
def test_workers_that_are_spawned_wait_so_too(tmp_path: Path) -> None:
    script = tmp_path / "spawned.py"
    script.write_text(SPAWNED)
    assert turns(str(script), openmp()) == [SOON], "the worker's; its parent has none"


@GNU
def test_without_tileup_they_would_spin() -> None:
    assert turns("-c", f"from ctypes import CDLL; CDLL({openmp()!r})")[0] > 100 * SOON


@GNU
@pytest.mark.parametrize(
    "theirs", [{"OMP_WAIT_POLICY": "active"}, {"GOMP_SPINCOUNT": "5"}, {"KMP_BLOCKTIME": "5"}]
)
def test_a_value_of_the_user_wins(theirs: dict[str, str]) -> None:
    code = f"import tileup; from ctypes import CDLL; CDLL({openmp()!r})"
    assert turns("-c", code) == [SOON]
    assert turns("-c", code, environment=theirs)[0] not in (0, SOON)


@pytest.fixture
def restored() -> Generator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("restored")
def test_as_many_threads_compute_as_were_asked_for(tmp_path: Path) -> None:
    tileup.load_model(device="cpu", threads=3)
    assert torch.get_num_threads() == 3
    tileup.load_model(device="cpu")
    assert torch.get_num_threads() == 3, "nothing was asked for"
    Image.fromarray(np.full((24, 24, 3), 99, np.uint8)).save(tmp_path / "in.png")
    code = main(["upscale", str(tmp_path / "in.png"), "--preset", "smoke", "--threads", "2"])
    assert (code, torch.get_num_threads()) == (0, 2)


@pytest.fixture(scope="module")
def exact() -> Model:
    return tileup.load_model(device="cpu", dtype="float32")


def denoised(model: Model, threads: int) -> Tensor:
    """Windows that both networks of the shipped model draw, computed with so many threads."""
    torch.set_num_threads(threads)
    generator, channels = torch.Generator().manual_seed(1), model.spec.channels
    source = 2 * torch.rand(1, channels, 40, 200, generator=generator) - 1
    strength = torch.linspace(0, 1, 200).expand(1, 1, 40, 200)
    windows = [Box(0, 40 * number, 40, 40 * number + 40) for number in range(5)]
    x = torch.cat([source[..., *box.index] for box in windows])
    x = x + torch.randn(x.shape, generator=generator)
    scene = Scene(source, None, (80, 400), strength=strength)
    return model.denoiser(scene)(x, torch.full((5,), 0.7), windows)


@pytest.mark.usefixtures("restored")
def test_other_numbers_of_threads_round_otherwise_at_most(exact: Model) -> None:
    alone = denoised(exact, 1)
    for threads in (2, 3, 5):
        torch.testing.assert_close(denoised(exact, threads), alone, atol=4e-6, rtol=0)
