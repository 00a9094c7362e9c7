"""A limit on the memory of the process, set for real: less at once, or a sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import save
from tileup.engine import room

CHILD = """
import resource, sys
import imagecodecs, PIL.Image, rich, torch
import tileup.upscaling, tileup.sampling.kdiffusion
from tileup.checkpoints.load import load_model
from tileup.cli.main import main
from tileup.settings.values import Settings

load_model(None, Settings(device="cpu", dtype="float32", runtime="torch"))  # as under a limit
page, most = resource.getpagesize(), resource.getrlimit(resource.RLIMIT_AS)[1]
arguments = ["upscale", "in.png", "--preset", "smoke", "--steps", "1", "--denoise", "0.8"]
arguments += ["--window", "64", "--overlap", "16", "--batch", "1000", "--overwrite"]
arguments += ["--dtype", "float32"]
for number, room in enumerate(map(int, sys.stdin)):
    used = int(open("/proc/self/statm").read().split()[0]) * page
    resource.setrlimit(resource.RLIMIT_AS, (used + (room << 20), most))
    code = main([*arguments, "-o", f"{number}.png"])
    print(f"code {code}", file=sys.stderr, flush=True)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_a_limit_on_the_memory_of_the_process(folder: Path) -> None:
    """All windows of a picture at once need more than seventy MB and one window about ten, so
    that rooms between the two are many, whatever the allocator keeps from run to run; they are
    tried until both have been seen. In one process of some six oneDNN prepares nothing new under a
    limit, so that fewer windows fail like many: then another process is tried."""
    save(folder / "in.png", 320, 240)
    for _ in range(5):
        fewer, failed = ends_in_little_room(folder)
        if fewer:
            break
    assert fewer, "some room was enough for some windows and not for all"
    assert failed, "some room was not enough for anything"


def ends_in_little_room(folder: Path) -> tuple[int, int]:
    """How many runs of one process went on with fewer windows, and how many failed."""
    fewer = failed = 0
    with subprocess.Popen(
        [sys.executable, "-c", CHILD],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
    ) as child:
        assert "memory did not suffice" not in ran_in(child, 4000)
        roomy = (folder / "0.png").read_bytes()
        for number, room in enumerate((25, 3, 50, 12, 35, 18, 70, 6), 1):
            made = folder / f"{number}.png"
            made.unlink(missing_ok=True)
            told = ran_in(child, room)
            assert "Traceback" not in told
            if "code 0" in told:
                fewer += "memory did not suffice for several windows" in told
                assert "windows of" in told or near(made.read_bytes(), roomy)
            else:
                failed += 1
                assert "code 5" in told
                assert "out of memory" in told
                assert not made.exists()
            if fewer and failed:
                break
        child.communicate()
    return fewer, failed


def ran_in(child: subprocess.Popen[str], room: int) -> str:
    """What a run says that may take so many MB."""
    assert child.stdin is not None
    assert child.stderr is not None
    print(room, file=child.stdin, flush=True)
    told = ""
    for line in child.stderr:
        told += line
        if line.startswith("code "):
            return told
    raise AssertionError(told)


def near(one: bytes, other: bytes) -> bool:
    """Whether two pictures are the same up to rounding."""
    import numpy as np

    from tileup.images.reading import open_picture

    return bool(np.abs(open_picture(one).pixels - open_picture(other).pixels).max() < 0.01)


RUN = """
import runpy
import torch
def tell():
    print(*[line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")])
tell()
try:
    runpy.run_module("tileup", run_name="__main__", alter_sys=True)
finally:
    tell()
"""
"""`ru_maxrss` of a child begins with what its parent held when it was forked; this does not."""


TORCH = 230_000_000
"""Bytes of a process that has imported torch's build for the CPU. That with CUDA takes 510 MB."""


def peak(folder: Path, side: int) -> tuple[int, int]:
    """Bytes that a process held once torch was imported, and that a run of the program held at
    most, for an output of twice the side."""
    save(folder / "in.png", side, side)
    line = [sys.executable, "-c", RUN, "upscale", "in.png", "-o", "out.png", "--overwrite"]
    line += ["--preset", "smoke", "-q", "-d", "cpu", "--dtype", "float32", "--threads", "1"]
    line += ["--runtime", "torch"]  # ncnn takes more: tests/families/test_runtimes.py
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(line, cwd=folder, env=environment, check=True, stdout=subprocess.PIPE)
    torch, most = (1024 * int(each) for each in ran.stdout.split())
    return torch, most


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="others count in other units")
def test_what_is_asked_for_before_the_work_is_what_a_run_takes(folder: Path) -> None:
    """The least, as it is called: no run takes less, and the run it is told of not much more, but
    for what a larger build of torch takes."""
    side = 1000
    told = room.BASE + (2 * side) ** 2 * room.PER_PIXEL
    torch, most = peak(folder, side)
    assert told <= most <= 1.2 * told + max(0, torch - TORCH)
