"""Devices and precisions: what is not there is refused, and `auto` picks what is fast."""

from __future__ import annotations

import pytest
import torch

from tileup.devices import native_bfloat16, pick_device, pick_dtype
from tileup.errors import UsageError


@pytest.mark.parametrize("device", ["tpu", "cuda:x", "cpu:1", "cuda:99", ""])
def test_devices_that_are_not_there_are_refused(device: str) -> None:
    with pytest.raises(UsageError, match="device"):
        pick_device(device)
    assert pick_device("cpu") == "cpu"


@pytest.mark.parametrize(
    ("setting", "device", "usual", "picked"),
    [
        ("float16", "cpu", "float32", torch.float16),
        ("float32", "cuda:0", "bfloat16", torch.float32),
        ("auto", "cuda:0", "float16", torch.float16),
        ("auto", "cuda:1", "bfloat16", torch.bfloat16),
        ("auto", "mps", "float32", torch.float32),
        ("auto", "cpu", "float32", torch.bfloat16 if native_bfloat16() else torch.float32),
    ],
)
def test_precisions(setting: str, device: str, usual: str, picked: torch.dtype) -> None:
    assert pick_dtype(setting, device, usual) is picked
