"""Finished rows beside the output: a run that is killed goes on, and no byte depends on it."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from tests.doubles import Counting, DoubleModel, blurring_denoiser, photograph
from tests.images.pictures import random_picture
from tileup.contracts import Box, Step
from tileup.engine import keeping
from tileup.engine.jobs import find_jobs
from tileup.engine.local import run
from tileup.engine.outcomes import Event, Outcome
from tileup.engine.request import Request
from tileup.engine.room import check_room
from tileup.errors import NotFiniteError, OutOfMemoryError, OutputError
from tileup.images.kept import HeldRows, Kept, Shape, can_be_kept, has_room, place_of
from tileup.images.writing import save_picture
from tileup.resources import lies_in_memory
from tileup.settings.values import Settings
from tileup.storage.remote import place

SETTINGS = Settings(
    device="cpu", tile=32, min_tile=16, overlap=8, steps=2, max_denoise=0.9, batch=1
)
FORM = Shape(40, 6, 3, 8)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a high picture; every picture counts as large."""
    monkeypatch.chdir(tmp_path)
    pixels = (photograph(110, 24) * 255).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "in.png")
    monkeypatch.setattr("tileup.images.writing.BANDED", 1)
    monkeypatch.setattr("tileup.plan.by_rows.SMALLEST", 1)
    monkeypatch.setattr("tileup.denoise.stream.BAND", 16)
    monkeypatch.setattr("tileup.images.kept._EVERY", 0)
    return tmp_path


def rounding(x: Tensor, sigma: Tensor, windows: Sequence[Box]) -> Tensor:
    return blurring_denoiser(x.contiguous(), sigma).contiguous()


def made(
    output: str,
    model: DoubleModel | None = None,
    given: str = "in.png",
    told: list[Event] | None = None,
    **change: object,
) -> Outcome:
    settings, told = replace(SETTINGS, **change), [] if told is None else told
    jobs = find_jobs(Request((given,), output=output), settings)
    (outcome,) = run(jobs, settings, lambda _: model or DoubleModel(rounding), told.append)
    return outcome


def in_memory(output: str, **more: object) -> bytes:
    """The file whose rows stay in memory as they are drawn."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tileup.engine.memory.finished_rows", lambda *_, **__: None)
        assert made(output, **more).outcome == "done"
    return Path(output).read_bytes()


def held(output: str, **more: object) -> tuple[bytes, int]:
    """The file whose rows would be kept, but for the room; and how many were held as numbers."""
    rows: list[int] = []

    class Counted(HeldRows):
        def add(self, pixels: NDArray[np.float32]) -> None:
            super().add(pixels)
            rows.append(len(pixels))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tileup.engine.keeping.has_room", lambda *_: False)
        patch.setattr("tileup.engine.keeping.HeldRows", Counted)
        assert made(output, **more).outcome == "done"
    return Path(output).read_bytes(), sum(rows)


def counted(output: str, **more: object) -> int:
    """Windows that a run evaluates."""
    counting, told = Counting(rounding), list[Event]()
    assert made(output, DoubleModel(counting), told=told, **more).outcome == "done"
    *_, last = (each for each in told if isinstance(each, Step))
    assert last.calls == last.total_calls
    assert last.calls - last.known == counting.windows
    return counting.windows


def killed(output: str, calls: int, **change: object) -> None:
    """A run in a process of its own that is killed, for real, after some calls of its network."""
    left = [calls]

    def deadly(x: Tensor, sigma: Tensor, windows: Sequence[Box]) -> Tensor:
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return rounding(x, sigma, windows)

    child = os.fork()
    if not child:
        try:
            torch.set_num_threads(1)
            made(output, DoubleModel(deadly), **change)
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL


@pytest.mark.skipif(sys.platform != "linux", reason="needs fork")
def test_killed_it_goes_on_and_gives_the_same_bytes(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "tileup")
    whole = counted("whole.png")
    killed("out.png", whole * 3 // 4)
    assert sorted(path.name for path in folder.glob("out*")) == []
    place = place_of(Path("out.png"))
    assert place.stat().st_size > 4096
    caplog.clear()
    assert counted("out.png") < whole * 3 // 4
    assert "going on below row" in caplog.text
    assert not place.exists()
    assert Path("out.png").read_bytes() == Path("whole.png").read_bytes() == in_memory("m.png")


@pytest.mark.skipif(sys.platform != "linux", reason="needs fork")
def test_killed_it_begins_anew_with_other_settings(folder: Path) -> None:
    killed("out.png", 15)
    change = {"max_denoise": 0.8}
    assert counted("out.png", **change) == counted("again.png", **change)
    assert Path("out.png").read_bytes() == in_memory("m.png", **change)
    assert not place_of(Path("out.png")).exists()


@pytest.mark.skipif(sys.platform != "linux", reason="needs fork")
def test_killed_it_begins_anew_with_another_input(folder: Path) -> None:
    killed("out.png", 15)
    pixels = (photograph(110, 24, seed=3) * 255).astype(np.uint8)
    Image.fromarray(pixels).save("in.png")
    made("out.png")
    assert Path("out.png").read_bytes() == in_memory("m.png")


@pytest.mark.parametrize(
    ("format", "kind"), [("png", "L"), ("jpg", "RGB"), ("tif", "RGBA"), ("jpg", "RGBA")]
)
def test_kept_or_in_memory_the_bytes_are_the_same(folder: Path, format: str, kind: str) -> None:
    image = Image.open("in.png").convert(kind)
    if kind == "RGBA":
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    image.save("other.png")
    assert made(f"out.{format}", given="other.png").outcome == "done"
    whole = in_memory(f"m.{format}", given="other.png")
    assert Path(f"out.{format}").read_bytes() == whole
    laid_over = (format, kind) == ("jpg", "RGBA")
    assert held(f"h.{format}", given="other.png") == (whole, 0 if laid_over else 2 * image.height)


def test_deep_pictures_are_kept_with_all_their_bits(folder: Path) -> None:
    with (folder / "deep.png").open("wb") as stream:
        save_picture(random_picture(40, 60, deep=True), stream, "png")
    assert made("out.tif", given="deep.png").outcome == "done"
    whole = in_memory("m.tif", given="deep.png")
    assert Path("out.tif").read_bytes() == whole
    assert held("h.tif", given="deep.png") == (whole, 120)


@pytest.mark.parametrize(
    ("error", "left"),
    [(OutOfMemoryError("no room"), True), (NotFiniteError(), False), (OutputError("full"), True)],
)
def test_rows_stay_where_a_rerun_can_go_on(error: Exception, left: bool, folder: Path) -> None:
    calls = [20]

    def failing(x: Tensor, sigma: Tensor, windows: Sequence[Box]) -> Tensor:
        calls[0] -= 1
        if calls[0] < 0:
            raise error
        return rounding(x, sigma, windows)

    assert made("out.png", DoubleModel(failing), dtype="float32", batch=1).error is not None
    assert place_of(Path("out.png")).exists() == left


def key() -> str:
    """Of the rows that a run leaves which ends early."""
    calls = [20]

    def failing(x: Tensor, sigma: Tensor, windows: Sequence[Box]) -> Tensor:
        calls[0] -= 1
        if calls[0] < 0:
            raise OutputError("full")
        return rounding(x, sigma, windows)

    assert made("out.png", DoubleModel(failing), dtype="float32", batch=1).error is not None
    rows = place_of(Path("out.png"))
    said = json.loads(rows.read_bytes()[:4096])
    rows.unlink()
    return said["key"]


def test_rows_of_another_card_do_not_count(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As another machine has that reaches the same folder."""
    keys = [key()]
    for name in ("NVIDIA A", "NVIDIA B"):
        monkeypatch.setattr("tileup.devices.card", lambda _, name=name: name)
        keys.append(key())
    assert len(set(keys)) == 3


def test_rows_of_other_libraries_do_not_count(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, installed = [key(), key()], keeping.version
    for name in ("diffusers", "transformers", "k-diffusion", "numpy", "pillow", "torch"):
        with monkeypatch.context() as patch:
            patch.setattr(keeping, "version", lambda x, n=name: "9" if x == n else installed(x))
            keys.append(key())
    assert keys[0] == keys[1]
    assert len(set(keys)) == 7


def there(key: str = "key", form: Shape = FORM) -> int:
    """How many rows are found."""
    found = Kept(Path("rows"), key, form)
    found.close()
    return found.rows


def kept(rows: int) -> Kept:
    """With some rows, each of its own colour."""
    found = Kept(Path("rows"), "key", FORM)
    for row in range(found.rows, rows):
        found.add(np.full((1, 6, 3), row / 255, np.float32))
    found.close()
    return found


def test_rows_come_back(folder: Path) -> None:
    kept(17)
    assert there() == 17
    found = kept(40).pixels
    expected = np.broadcast_to(np.arange(40, dtype=np.float32)[:, None, None] / 255, (40, 6, 3))
    np.testing.assert_array_equal(found[:], expected)
    np.testing.assert_array_equal(found[13:16], expected[13:16])
    np.testing.assert_array_equal(np.asarray(found), expected)


@pytest.mark.parametrize(
    ("key", "form"),
    [("other", FORM), ("key", replace(FORM, width=7)), ("key", replace(FORM, bits=16))],
)
def test_rows_of_another_picture_do_not_count(key: str, form: Shape, folder: Path) -> None:
    kept(17)
    assert there(key, form) == 0
    assert there() == 0, "they are gone"


@pytest.mark.parametrize("length", [0, 10, 4096, 4100])
def test_what_is_cut_or_no_such_file_does_not_count(length: int, folder: Path) -> None:
    kept(17)
    os.truncate("rows", length)
    assert there() == 0
    Path("rows").write_bytes(b"\xff" * 10000)
    assert there() == 0


def test_rows_that_were_not_counted_yet_are_written_again(folder: Path) -> None:
    """As where power is lost between the two."""
    kept(17)
    with Path("rows").open("ab") as stream:
        stream.write(b"junk")
    found = kept(40)
    assert Path("rows").stat().st_size == 4096 + 40 * FORM.row
    assert found.pixels[17:18].max() == np.float32(17 / 255)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="the system reserves nothing")
def test_the_disk_has_its_room_reserved_for_all_rows_from_the_first_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = Shape(1000, 500, 3, 8)
    found = Kept(Path("rows"), "key", form)
    found.add(np.zeros((3, 500, 3), np.float32))
    found.close()
    assert Path("rows").stat().st_blocks * 512 >= 4096 + 1000 * form.row
    assert there(form=form) == 3

    def refused(error: int) -> None:
        def reserve(*_: int) -> None:
            raise OSError(error, os.strerror(error))

        monkeypatch.setattr(os, "posix_fallocate", reserve)

    refused(errno.EOPNOTSUPP)
    assert there(form=form) == 3
    refused(errno.ENOSPC)
    with pytest.raises(OutputError, match=r"cannot be kept .*No space left"):
        there(form=form)


def test_no_room_on_the_disk(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    assert has_room(folder / "rows", FORM)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 2**28))
    assert not has_room(folder / "rows", FORM)
    assert not has_room(folder / "nowhere" / "rows", FORM)


def test_rows_in_a_file_need_less_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tileup.engine.room.memory_left", lambda: 10**9)
    check_room(16_000, 16_000, kept=True)
    with pytest.raises(OutOfMemoryError, match=r"16000x16000 pixels need at least 2\.0 GB"):
        check_room(16_000, 16_000)
    with pytest.raises(OutOfMemoryError, match=r"1\.3 GB.*--max-pixels 1000000000"):
        check_room(36_000, 36_000, kept=True)


def test_a_folder_that_lies_in_memory_counts_as_memory(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    form, output = Shape(1000, 1000, 3, 8), Path("out.png").resolve()
    for name in ("images.kept", "engine.room"):
        monkeypatch.setattr(f"tileup.{name}.memory_left", lambda: 2**28 + 6_000_000)
        monkeypatch.setattr(f"tileup.{name}.lies_in_memory", lambda each: each == folder)
    assert not has_room(folder / "rows", form)
    assert has_room(folder / "rows", replace(form, height=999))
    size = 14_000, 14_000
    monkeypatch.setattr("tileup.engine.room.memory_left", lambda: 400_000_000)
    check_room(*size, kept=True, output=Path("elsewhere") / "out.png", channels=3)
    check_room(*size, kept=True, output=output)
    with pytest.raises(OutOfMemoryError, match=r"need at least 0\.8 GB"):
        check_room(*size, kept=True, output=output, channels=3)


def test_which_folders_lie_in_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = folder.stat().st_dev
    mounts = folder / "mounts"
    monkeypatch.setattr("tileup.resources._MOUNTS", mounts)
    for kind, expected in (("tmpfs", True), ("ext4", False), ("ramfs", True)):
        mounts.write_text(
            "22 1 0:1 / /proc rw shared:5 - tmpfs proc rw\n"
            f"36 35 {os.major(device)}:{os.minor(device)} / /x rw a:1 b:2 - {kind} y rw\n"
        )
        assert lies_in_memory(folder) == expected
        assert lies_in_memory(folder / "new" / "deep") == expected
    for text in ("", "36 35\n", "\xff"):
        mounts.write_text(text)
        assert not lies_in_memory(folder)
    mounts.unlink()
    assert not lies_in_memory(folder)


def test_which_rows_lie_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tileup.images.writing.BANDED", 2**24)
    disk, store = Path("out.png"), place("s3://bucket/out.png")
    assert can_be_kept(disk, "png", 4096, 4096)
    assert can_be_kept(disk, "jpg", 4096, 4096)
    assert not can_be_kept(disk, "png", 4096, 4095)
    assert not can_be_kept(disk, "webp", 4096, 4096)
    assert not can_be_kept(None, "png", 4096, 4096)
    assert not can_be_kept(store, "png", 4096, 4096)
