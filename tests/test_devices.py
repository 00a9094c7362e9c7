"""Devices and precisions: what is not there is refused, and `auto` picks what is fast."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tileup import devices
from tileup.devices import (
    faster_on_cpu,
    maps_held,
    memory_free,
    noted_for,
    pick_device,
    pick_dtype,
    seconds_of_convolution,
)
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
    ],
)
def test_precisions(setting: str, device: str, usual: str, picked: torch.dtype) -> None:
    assert pick_dtype(setting, device, usual) is picked


Takes = Callable[[float, float], None]
"""Says what a convolution takes in float32 and in bfloat16."""


@pytest.fixture
def takes(monkeypatch: pytest.MonkeyPatch, own_cache: None) -> Generator[Takes]:
    """A CPU with instructions for bfloat16, and a cache folder of its own."""
    monkeypatch.setattr(devices, "native_bfloat16", lambda: True)

    def say(exact: float, half: float) -> None:
        faster_on_cpu.cache_clear()
        seconds = {torch.float32: exact, torch.bfloat16: half}
        monkeypatch.setattr(devices, "seconds_of_convolution", seconds.__getitem__)

    yield say
    faster_on_cpu.cache_clear()


@pytest.mark.parametrize(
    ("exact", "half", "picked"),
    [(1.0, 0.5, torch.bfloat16), (1.0, 1.6, torch.float32), (1.0, 0.95, torch.float32)],
    ids=["half is faster", "half is slower", "nearly a tie"],
)
def test_on_a_cpu_the_small_model_computes_in_what_is_faster_there(
    takes: Takes, exact: float, half: float, picked: torch.dtype
) -> None:
    takes(exact, half)
    assert pick_dtype("auto", "cpu", "float32") is picked
    assert pick_dtype("auto", "cpu", "float16") is torch.bfloat16, "large ones: half the memory"


def test_it_is_timed_once_for_each_cpu(
    takes: Takes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    takes(1.0, 0.5)
    assert faster_on_cpu() == "bfloat16"
    assert "a convolution takes 1 s in float32, 0.5 s in bfloat16" in caplog.messages
    takes(1.0, 2.0)
    assert faster_on_cpu() == "bfloat16", "as noted"
    faster_on_cpu.cache_clear()
    monkeypatch.setattr(devices, "processor", lambda: "another")
    assert faster_on_cpu() == "float32"
    noted = json.loads((tmp_path / "tileup" / "precision.json").read_text())
    assert sorted(noted.values()) == ["bfloat16", "float32"]


def test_who_comes_second_waits_for_what_the_first_finds_out(takes: Takes) -> None:
    """A thread stands for another process. Both would note their own, and go by it."""
    takes(1.0, 1.0)
    found: list[str] = []
    with ThreadPoolExecutor(1) as other:

        def first() -> str:
            waiting.append(other.submit(noted_for, "1", "it.json", ("a", "b"), second))
            time.sleep(0.2)
            found.append("a")
            return "a"

        def second() -> str:
            found.append("b")
            return "b"

        waiting: list[Future[str | None]] = []
        assert noted_for("1", "it.json", ("a", "b"), first) == "a"
        assert waiting[0].result() == "a"
    assert found == ["a"]


@pytest.mark.parametrize("content", ["", "[1]", '{"a": {}}', "\x00"])
def test_notes_that_make_no_sense_count_for_nothing(
    takes: Takes, tmp_path: Path, content: str
) -> None:
    (tmp_path / "tileup").mkdir()
    (tmp_path / "tileup" / "precision.json").write_text(content)
    takes(1.0, 0.5)
    assert faster_on_cpu() == "bfloat16"


def test_a_cache_folder_that_cannot_be_made_does_no_harm(
    takes: Takes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each process would go by what it timed itself, and a worker might draw other bytes."""
    caplog.set_level(logging.INFO)
    (tmp_path / "tileup").write_text("a file")
    for exact, half in ((1.0, 2.0), (1.0, 0.5)):
        takes(exact, half)
        assert faster_on_cpu() == "float32"
    assert "cannot be written" in caplog.messages[-1]


def test_without_instructions_for_it_nothing_is_timed(
    takes: Takes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    takes(1.0, 0.5)
    monkeypatch.setattr(devices, "native_bfloat16", lambda: False)
    for usual in ("float32", "float16"):
        assert pick_dtype("auto", "cpu", usual) is torch.float32
    assert not (tmp_path / "tileup").exists()


def test_a_convolution_is_really_timed() -> None:
    """It takes at least what 4 x 36 x 36 x 64 x 64 x 9 multiplications take at 10^13 a second."""
    assert 2e-5 < seconds_of_convolution(torch.float32) < 5


@pytest.mark.parametrize(
    ("there", "held"),
    [(80 * 2**30, 10 * 2**30), (8 * 2**30, 2**31), (None, 2**31)],
    ids=["much", "little", "not said"],
)
def test_maps_are_held_by_what_there_is(
    there: int | None, held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not by what is free: a rerun takes the same way."""
    monkeypatch.setattr(devices, "memory_there", lambda: there)
    for free in (0, 2**40):
        monkeypatch.setattr(devices, "memory_left", lambda free=free: free)
        assert maps_held("cpu") == held
        assert memory_free("cpu") == free
    assert maps_held("mps") == 2**31
    assert memory_free("mps") is None


def test_a_gpu_is_asked_for_its_own_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=80 * 2**30)
    )
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (5, 9))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 7)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 3)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"card {device}")
    assert maps_held("cuda:0") == 20 * 2**30
    assert [devices.card(each) for each in ("cuda:1", "cpu")] == ["card cuda:1", None]
    assert memory_free("cuda:0") == 9, "what torch holds in reserve is free"
