"""The log of a picture's work: what is cut, damaged or another picture's does not count."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from tileup.codec.space_to_depth import PixelCodec
from tileup.contracts import Box
from tileup.denoise.worked_out import LoggedCodec, LoggedDenoiser
from tileup.engine.work_log import WorkLog
from tileup.tiling.batches import NetworkBatch

GIVEN = [
    np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4),
    np.full((2, 1, 1, 1), np.nan, np.float64),
    np.zeros((3, 0), np.float32),
]


def logged(path: Path, arrays: Iterable[NDArray[np.generic]] = GIVEN, key: str = "key") -> WorkLog:
    log = WorkLog(path, key)
    for each in arrays:
        log.add(each)
    return log


def taken(path: Path, key: str = "key") -> list[NDArray[np.generic]]:
    return all_of(WorkLog(path, key))


def all_of(log: WorkLog) -> list[NDArray[np.generic]]:
    found = []
    while (each := log.take()) is not None:
        found.append(each)
    return found


def test_it_gives_what_it_was_given_and_then_nothing(tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert taken(path) == []
    logged(path)
    for found, given in zip(taken(path), GIVEN, strict=True):
        np.testing.assert_array_equal(found, given)
        assert found.dtype == given.dtype
    assert taken(path, "other") == []


def test_it_goes_on_behind_the_last_whole_record(tmp_path: Path) -> None:
    path = tmp_path / "log"
    ends = []
    log = WorkLog(path, "key")
    for each in GIVEN:
        log.add(each)
        ends.append(path.stat().st_size)
    data = path.read_bytes()
    for size in (ends[2] - 1, ends[1] + 5, ends[1]):
        path.write_bytes(data[:size])
        again = WorkLog(path, "key")
        assert len(all_of(again)) == 2
        again.add(GIVEN[0])
        assert len(taken(path)) == 3
    assert path.stat().st_size == ends[1] + ends[0] - 64


@pytest.mark.parametrize("place", [64, 70, 80, 200])
def test_a_byte_that_is_another_ends_it(place: int, tmp_path: Path) -> None:
    path = tmp_path / "log"
    logged(path)
    data = bytearray(path.read_bytes())
    data[place] ^= 0x55
    path.write_bytes(data)
    assert taken(path) == []


def test_what_is_another_pictures_is_written_over(tmp_path: Path) -> None:
    path = tmp_path / "log"
    logged(path)
    logged(path, GIVEN[:1], key="other")
    assert len(taken(path, "other")) == 1
    assert path.stat().st_size == 64 + 12 + 128 + GIVEN[0].nbytes


def test_a_full_disk_ends_nothing_but_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "log"
    log = logged(path)
    size = path.stat().st_size
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 9))
        log.add(GIVEN[0])
    log.add(GIVEN[0])
    assert [each.levelname for each in caplog.records] == ["WARNING"], "once"
    assert "nothing more is kept there (the disk has no room); the picture is made" in caplog.text
    assert path.stat().st_size == size, "a record is missing, and none may follow it"
    assert "a run that is stopped goes on from there" in caplog.text
    caplog.clear()
    WorkLog(tmp_path / "nowhere" / "log", "key").add(GIVEN[0])
    assert "log: nothing is kept there (No such file" in caplog.text
    assert "a run that is stopped begins anew" in caplog.text
    (tmp_path / "folder").mkdir()
    WorkLog(tmp_path / "folder", "key").add(GIVEN[0])


class Helped:
    """A denoiser whose batches others evaluate too: one is always taken ahead."""

    def __init__(self) -> None:
        self.batches = 0

    def __call__(self, x: Tensor, sigma: Tensor, windows: Sequence[Box]) -> Tensor:
        raise AssertionError("it is asked for batches in order")

    def in_order(self, batches: Iterable[NetworkBatch]) -> Iterator[Tensor]:
        ahead = list(batches)
        self.batches += len(ahead)
        yield from (batch.x + 1 for batch in ahead)


def test_from_a_gpu_answers_are_added_one_batch_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them, in order, when the step is done."""
    monkeypatch.setattr("tileup.denoise.worked_out.sent", lambda x0: lambda: x0)
    batch = NetworkBatch(torch.zeros(1, 1, 1, 1), torch.ones(1), [Box(0, 0, 1, 1)])
    numbers = iter(range(9))
    log = WorkLog(tmp_path / "log", "key")
    denoiser = LoggedDenoiser(lambda *_: torch.tensor([[[[float(next(numbers))]]]]), log)
    there = [len(taken(tmp_path / "log")) for _ in denoiser.in_order([batch] * 3)]
    assert there == [0, 1, 2]
    list(denoiser.in_order([batch]))
    assert [float(each.mean()) for each in taken(tmp_path / "log")] == [0, 1, 2, 3]


def test_batches_that_are_not_known_go_to_those_who_help(tmp_path: Path) -> None:
    batches = [
        NetworkBatch(torch.full((1, 1, 2, 2), float(number)), torch.ones(1), [Box(0, 0, 2, 2)])
        for number in range(5)
    ]
    logged(tmp_path / "log", [np.full((1, 1, 2, 2), -1.0, np.float32)] * 2)
    helped = Helped()
    denoiser = LoggedDenoiser(helped, WorkLog(tmp_path / "log", "key"))
    first = [float(x0.mean()) for x0 in denoiser.in_order(batches)]
    assert first == [-1, -1, 3, 4, 5]
    assert helped.batches == 3
    assert [float(x0.mean()) for x0 in denoiser.in_order(batches[:1])] == [1]
    assert [float(each.mean()) for each in taken(tmp_path / "log")] == [-1, -1, 3, 4, 5, 1]


def test_latents_are_kept_whichever_way_they_are_encoded(tmp_path: Path) -> None:
    pixels = torch.rand(1, 3, 4, 6)
    path, given = tmp_path / "log", PixelCodec(2).encode(pixels)
    first = LoggedCodec(PixelCodec(2), WorkLog(path, "key"), "cpu")
    assert torch.equal(first.encode(pixels), given)
    again = LoggedCodec(None, WorkLog(path, "key"), "cpu")  # type: ignore[arg-type]
    assert torch.equal(again.encode_rows(lambda *_: pixels[:, :, :0], 4, 6), given)
