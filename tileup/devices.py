"""Where a model runs, and in which precision."""

from __future__ import annotations

import torch

from tileup.errors import UsageError

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

    `auto` is on a GPU the one that is usual for the model, bfloat16 on a CPU that has instructions
    for it, where it takes half the time or less, and float32 on other CPUs, where half precision is
    slower.

    Args:
        dtype: the setting: auto, float32, bfloat16 or float16.
        device: where the model runs.
        usual: the model's own, as `ModelSpec.precision`.
    """
    if dtype != "auto":
        return PRECISIONS[dtype]
    if device == "cpu":
        return torch.bfloat16 if native_bfloat16() else torch.float32
    return PRECISIONS[usual]


def native_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 itself (AVX-512 BF16, AMX)."""
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # not in every torch
    return any(bool(getattr(torch.cpu, name, bool)()) for name in names)
