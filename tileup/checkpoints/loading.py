"""A file becomes a model on a device."""

from __future__ import annotations

from pathlib import Path

import torch

from tileup.checkpoints.bundled import load_bundled
from tileup.checkpoints.files import find_model, identify
from tileup.contracts import Model
from tileup.errors import UsageError


def load_model(model: str | Path | None = None, device: str = "auto") -> Model:
    """Load a checkpoint.

    Args:
        model: a file or a model's name; None is the bundled one.
        device: auto, cpu, cuda, cuda:N or mps.

    Raises:
        ModelError: the file is missing, unreadable, damaged or of an unknown family.
        UsageError: the device is not there.
    """
    path = find_model(None if model is None else str(model))
    return load_bundled(path, identify(path), pick_device(device))


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
