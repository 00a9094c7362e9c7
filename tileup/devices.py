"""Where a model runs, and in which precision."""

from __future__ import annotations

import json
import logging
import os
import platform
import time
from collections.abc import Callable, Collection, Generator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import cast

import platformdirs
import torch
from filelock import FileLock
from torch.nn import functional

from tileup.errors import UsageError
from tileup.resources import memory_left, memory_there

log = logging.getLogger(__name__)

PRECISIONS = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def use_threads(threads: int | None) -> None:
    """Compute with so many threads on a CPU, in this process, from now on; None changes nothing."""
    if threads is not None:
        torch.set_num_threads(threads)


def pick_device(device: str) -> str:
    """The device meant by a setting: `auto` is the first GPU, else the CPU.

    Raises:
        UsageError: it is not there.
    """
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if device == "auto":
        return "cuda:0" if cuda else "mps" if mps else "cpu"
    kind, _, number = device.partition(":")
    there = {"cpu": 1, "cuda": torch.cuda.device_count() if cuda else 0, "mps": int(mps)}
    if kind not in there or (number and not number.isdecimal()):
        raise UsageError(f"device {device!r} is not known; use auto, cpu, cuda, cuda:N or mps")
    if int(number or 0) >= there[kind]:
        usable = ", ".join(name for name, count in there.items() if count)
        raise UsageError(f"device {device!r} is not there; this machine has: {usable}")
    return f"cuda:{number or 0}" if kind == "cuda" else kind


def pick_dtype(dtype: str, device: str, usual: str) -> torch.dtype:
    """The precision meant by a setting.

    `auto` is on a GPU the one that is usual for the model. On a CPU without instructions for
    bfloat16 it is float32. On one that has them it is bfloat16, which halves the memory, but for a
    model that is small, and usual in float32: that one computes in what is faster there.

    Args:
        dtype: the setting: auto, float32, bfloat16 or float16.
        device: where the model runs.
        usual: the model's own, as `ModelSpec.precision`.
    """
    if dtype != "auto":
        return PRECISIONS[dtype]
    if device != "cpu":
        return PRECISIONS[usual]
    if not native_bfloat16():
        return torch.float32
    return PRECISIONS[faster_on_cpu()] if usual == "float32" else torch.bfloat16


def native_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 itself (AVX-512 BF16, AMX)."""
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # not in every torch
    return any(bool(getattr(torch.cpu, name, bool)()) for name in names)


GAIN = 0.7
"""bfloat16 is taken from this share of torch's time in float32 on: what is nearly a tie stays
exact, and ncnn in float32 takes some three quarters."""


@lru_cache(maxsize=1)
def faster_on_cpu() -> str:
    """Which of float32 and bfloat16 the bundled network is faster in on this CPU.

    Instructions for bfloat16 do not tell: with some the same convolution takes half the time, with
    others one and a half times as long. So one is timed, once for each CPU and torch, and noted in
    the user's cache folder.
    """
    chosen = noted_for(f"torch {torch.__version__}", "precision.json", PRECISIONS, _timed)
    return chosen or "float32"


def _timed() -> str:
    exact, half = (seconds_of_convolution(each) for each in (torch.float32, torch.bfloat16))
    log.info("a convolution takes %.2g s in float32, %.2g s in bfloat16", exact, half)
    return "bfloat16" if half < GAIN * exact else "float32"


def noted_for(
    versions: str, name: str, known: Collection[str], find: Callable[[], str]
) -> str | None:
    """What was found out on this CPU, once for each of its kind, in the user's cache folder.

    Args:
        versions: of what it depends on besides.
        name: of the file.
        known: what it may be; other notes count for nothing.
        find: finds it out.

    Returns:
        One of `known`; None where it cannot be noted: the next process might find something else,
        and what is drawn would not be the same to the bit.
    """
    file = platformdirs.user_cache_path("tileup") / name
    cpu = f"{processor()}, {versions}"
    if (noted := _noted(file).get(cpu)) in known:
        return str(noted)
    with _alone(file):
        before = _noted(file)
        if (noted := before.get(cpu)) in known:  # by another process meanwhile: one answer for all
            return str(noted)
        found = find()
        return found if _note(file, before | {cpu: found}) else None


def seconds_of_convolution(dtype: torch.dtype) -> float:
    """What a convolution of the bundled network takes: 64 channels, 4 windows of 36 cells a side.

    The least of several, in time of this thread, so that other processes hardly count.
    """
    layout = torch.channels_last
    x = torch.ones(4, 64, 36, 36, dtype=dtype).contiguous(memory_format=layout)
    weight = torch.ones(64, 64, 3, 3, dtype=dtype).contiguous(memory_format=layout)
    times: list[float] = []
    with torch.no_grad():
        for _ in range(7):
            start = time.thread_time()
            functional.conv2d(x, weight, padding=1)
            times.append(time.thread_time() - start)
    return min(times)


HELD = 2**31
"""Bytes of a VAE's maps that any machine is expected to have room for."""
SHARES = {"cuda": 4, "cpu": 8}
"""Of all memory, the part that such maps may take: a computer has other things to hold, and
perhaps several workers."""


def maps_held(device: str) -> int:
    """Bytes of a VAE's maps that are held at once on a device, at most.

    Which way a picture takes through a VAE shows in its roundings. So it is decided by the memory
    that there is, which is the same in each run and in each worker, and not by what is free.
    """
    kind = torch.device(device).type
    if kind == "cuda":
        there = torch.cuda.get_device_properties(device).total_memory
    else:
        there = memory_there() if kind == "cpu" else None
    return max(HELD, (there or 0) // SHARES.get(kind, 1))


def memory_free(device: str) -> int | None:
    """Bytes of memory that a device can still give; None where that is not known."""
    kind = torch.device(device).type
    if kind == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    return memory_left() if kind == "cpu" else None


def card(device: str) -> str | None:
    """The NVIDIA GPU that a device is, as its driver names it; None: it is none."""
    return torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else None


def processor() -> str:
    """The CPU, as exactly as the system names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("\n\n")[0].splitlines()
    except (OSError, UnicodeDecodeError):
        return platform.processor() or platform.machine()
    halves = (line.replace("\t", "").partition(":") for line in lines)
    told = {name: value for name, _, value in halves}
    names = ("model name", "cpu family", "model", "stepping")
    return " ".join(told[name].strip() for name in names if name in told) or platform.machine()


def _noted(file: Path) -> dict[str, str]:
    """What was found out before; nothing where that cannot be read."""
    try:
        content: object = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    found = cast(dict[object, object], content) if isinstance(content, dict) else {}
    return {str(cpu): str(name) for cpu, name in found.items()}


_PATIENCE = 30.0
"""Seconds after which a process that finds something out counts as one that hangs."""


@contextmanager
def _alone(file: Path) -> Generator[None]:
    """One process after the other; where the disk has no locks, all at once."""
    lock = FileLock(file.with_name(f"{file.name}.lock"), timeout=_PATIENCE)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except (OSError, NotImplementedError) as error:
        log.debug("%s cannot be locked: %s", file, error)
    try:
        yield
    finally:
        lock.release()


def _note(file: Path, noted: dict[str, str]) -> bool:
    """Whether it could be noted."""
    temporary = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(noted, indent=1), encoding="utf-8")
        temporary.replace(file)
    except OSError as error:
        log.info("%s cannot be written, so nothing goes by what was timed: %s", file, error)
        return False
    return True
