"""The tables of growth, on figures made up so that every answer is known."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from bench.clocked import Clocks
from bench.scale import (
    FILES,
    SIDE,
    SMALLEST,
    Figures,
    Numbers,
    Photographs,
    growth,
    picture,
    rows,
)


def figures(megapixels: float) -> Figures:
    """2 CPU seconds and 3e8 bytes at the start; then all in proportion, memory with the root."""
    more = megapixels - SMALLEST
    return {
        "network": 0.1 + 1.0 * more,
        "sampling": (0.1 + 1.0 * more) / 0.9,
        "encoding": 0.2 * megapixels,
        "all": 2.0 + 1.5 * more,
        "memory": 3e8 + 1e8 * more**0.5,
    }


def test_rows_leave_out_what_every_run_begins_with() -> None:
    found = {size: figures(size) for size in (SMALLEST, SMALLEST + 4, SMALLEST + 16)}
    first, last = rows("now", found)
    assert first == ["now", "4.25", "1.00", "10%", "0.50", "0.20", "0.50", "50"]
    assert last[6:] == ["0.70", "25"]


def test_exponents_are_those_of_what_comes_on_top_of_the_start() -> None:
    found = {size: figures(size) for size in (SMALLEST, 400.0, 6400.0)}
    assert growth("now", found) == ["now", "400 to 6400 MP", "1.00", "1.00", "0.50"]


def test_a_part_is_clocked_once_whatever_of_it_calls_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Parts:
        def outer(self) -> str:
            return self.inner() + self.other()

        def inner(self) -> str:
            return "a"

        def other(self) -> str:
            return "b"

    readings = iter([0.0, 1.0, 3.0, 6.0, 10.0, 15.0])
    monkeypatch.setattr("bench.clocked.time.thread_time", lambda: next(readings))
    clocks = Clocks()
    for part, name in (("network", "inner"), ("network", "outer"), ("pixels", "other")):
        clocks.wrap(part, Parts, name)
    assert Parts().outer() == "ab"
    assert clocks.seconds == {"network": 6.0, "pixels": 2.0}
    assert Parts().inner() == "a"
    assert clocks.seconds == {"network": 11.0, "pixels": 2.0}


def test_what_another_thread_does_meanwhile_is_not_clocked() -> None:
    """As what reads a picture ahead while the network computes; each may be amid the same part."""

    class Parts:
        def network(self, seconds: float, meanwhile: float) -> None:
            other = threading.Thread(target=self.reading, args=(meanwhile,))
            other.start()
            busy(seconds)
            other.join()

        def reading(self, seconds: float) -> None:
            busy(seconds)

    def busy(seconds: float) -> None:
        end = time.thread_time() + seconds
        while time.thread_time() < end:
            pass

    clocks = Clocks()
    clocks.wrap("network", Parts, "network")
    clocks.wrap("reading", Parts, "reading")
    Parts().network(0.02, 0.06)
    assert clocks.seconds["network"] == pytest.approx(0.02, abs=0.01)
    assert clocks.seconds["reading"] == pytest.approx(0.06, abs=0.01)


def test_the_picture_is_photographs_side_by_side(tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "large").mkdir()
    for name, colour in (("a", (200, 0, 0)), ("b", (0, 0, 200))):
        Image.new("RGB", (30, 20), colour).save(tmp_path / "large" / f"{name}.jpg")
    made = picture(tmp_path, 4 * 1.5**2)
    assert made.size == (1500, 1500)
    left, right = (made.getpixel((x, 10)) for x in (SIDE - 10, SIDE + 10))
    assert left != right
    with pytest.raises(SystemExit, match="large"):
        picture(tmp_path / "none", 1)


def test_rows_that_are_made_when_asked_for_are_those_of_the_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    monkeypatch.setattr("bench.scale.SIDE", 50)
    (tmp_path / "large").mkdir()
    for name in "abc":
        noise = np.random.default_rng(ord(name)).integers(0, 256, (60, 70, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / "large" / f"{name}.jpg")
    whole = picture(tmp_path, (2 * 130) ** 2 / 1e6)
    rows = Photographs(tmp_path, 130)
    assert rows.shape == (130, 130, 3)
    found = np.concatenate([rows[:7], rows[7:101], rows[101:]])
    np.testing.assert_array_equal(np.rint(255 * found).astype(np.uint8), np.asarray(whole))


def test_files_that_are_planned_hold_the_photographs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    monkeypatch.setattr("bench.scale.SIDE", 50)
    monkeypatch.setattr("bench.scale.TILE", 32)
    (tmp_path / "large").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (60, 70, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "large" / "a.jpg")
    numbers = Numbers(Photographs(tmp_path, 90))
    for file, make in FILES.values():
        make(numbers, tmp_path / file)
        found = np.asarray(Image.open(tmp_path / file))
        np.testing.assert_array_equal(found, numbers[:90])
