"""Windows of several shapes: they cover, they are the least work, and few are alone."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.doubles import photograph, spec
from tests.plan.test_windows import core
from tileup.contracts import Box
from tileup.plan.fitted_windows import BLOCK, CALL, fitted_windows
from tileup.plan.grid import Grid
from tileup.plan.itinerary import Layout
from tileup.plan.planning import plan_pixels
from tileup.plan.windows import cover
from tileup.settings.values import Settings
from tileup.tiling.alike import alike


def blobs(rows: int, columns: int, block: int, share: float, seed: int) -> np.ndarray:
    """A random map of squares."""
    coarse = np.random.default_rng(seed).random((rows // block + 1, columns // block + 1)) < share
    return coarse.repeat(block, 0).repeat(block, 1)[:rows, :columns]


@settings(max_examples=150, deadline=None)
@given(
    rows=st.integers(1, 70),
    columns=st.integers(1, 150),
    window=st.integers(9, 24),
    margin=st.integers(0, 4),
    multiple=st.sampled_from([1, 2, 4]),
    block=st.sampled_from([1, 3, 8]),
    share=st.floats(0, 1),
    seed=st.integers(0, 1000),
)
def test_every_needed_cell_lies_in_a_core(
    rows: int,
    columns: int,
    window: int,
    margin: int,
    multiple: int,
    block: int,
    share: float,
    seed: int,
) -> None:
    needed = blobs(rows, columns, block, share, seed)
    layout = Layout(rows, columns, -(-window // multiple) * multiple, margin, multiple)
    windows = fitted_windows(Grid.of(needed), layout)
    covered = np.zeros_like(needed)
    for box in windows:
        assert 0 <= box.top < box.bottom <= rows
        assert 0 <= box.left < box.right <= columns
        assert box.height % multiple == 0 or box.height == rows
        assert box.width % multiple == 0 or box.width == columns
        assert box.height <= max(layout.window, multiple)
        assert box.width <= max(layout.widest + multiple, multiple)
        covered[core(box, rows, columns, margin)] = True
    assert not (needed & ~covered).any()
    assert (len(windows) == 0) == (not needed.any())


@settings(max_examples=30, deadline=None)
@given(share=st.floats(0.02, 1), seed=st.integers(0, 1000), margin=st.integers(0, 2))
def test_no_way_of_halving_is_less_work(share: float, seed: int, margin: int) -> None:
    """Against all ways, one by one, in a block amid others; a unit is a cell."""
    high, wide = BLOCK
    block = blobs(high, wide, 1, share, seed)
    side = high + 2 * margin
    needed = np.zeros((5 * high, 3 * wide), dtype=bool)
    needed[2 * high : 3 * high, wide : 2 * wide] = block
    windows = fitted_windows(Grid.of(needed), Layout(*needed.shape, side, margin, 1))

    @lru_cache
    def least(top: int, bottom: int, left: int, right: int) -> int:
        works = block[top:bottom, left:right]
        if not works.any():
            return 0
        sides = (np.flatnonzero(works.any(axis=axis)) for axis in (1, 0))
        area = 1
        for each in sides:
            length = int(each[-1] - each[0]) + 1
            area *= (1 << (length - 1).bit_length()) + 2 * margin
        ways = [area + CALL]
        if bottom - top > 1:
            middle = (top + bottom) // 2
            ways.append(least(top, middle, left, right) + least(middle, bottom, left, right))
        if right - left > 1:
            middle = (left + right) // 2
            ways.append(least(top, bottom, left, middle) + least(top, bottom, middle, right))
        return min(ways)

    assert sum(box.area + CALL for box in windows) == least(0, high, 0, wide)


def test_windows_of_one_shape_come_together() -> None:
    needed = blobs(640, 960, 16, 0.4, seed=1)
    layout = Layout(640, 960, 72, 4, 4)
    windows = fitted_windows(Grid.of(needed), layout)
    batches = alike(windows, 4 * 72**2)
    assert len(batches) < len(windows) * 0.7
    assert [at for batch in batches for at in batch] == [*range(len(windows))]
    for batch in batches:
        boxes = windows[batch.start : batch.stop]
        assert len({(box.height, box.width) for box in boxes}) == 1
        assert len(boxes) == 1 or sum(box.area for box in boxes) <= 4 * 72**2


def test_they_are_less_than_squares() -> None:
    for share in (0.2, 0.5, 1.0):
        needed = blobs(540, 720, 32, share, seed=2)
        layout = Layout(540, 720, 72, 4, 4)
        squares = len(cover(Grid.of(needed), (72, 72), 4)) * 72**2
        fitted = sum(box.area for box in fitted_windows(Grid.of(needed), layout))
        assert fitted < 0.9 * squares


def test_a_lone_tile_sits_in_the_middle_of_its_window() -> None:
    needed = np.zeros((200, 200), dtype=bool)
    needed[80:96, 96:112] = True
    (box,) = fitted_windows(Grid.of(needed), Layout(200, 200, 72, 4, 4))
    assert box == Box(76, 92, 100, 116)


def test_a_small_picture_is_one_window_as_large_as_itself() -> None:
    """What is computed is what the output needs, up to the network's multiple."""
    model = replace(spec(window=144, multiple=8), any_shape=True)
    for width, height in ((64, 64), (62, 30), (6, 144)):
        given_by_settings = Settings(min_denoise=0.5, max_denoise=0.5)
        planned = plan_pixels(photograph(32, 32), width, height, model, given_by_settings)
        (box,) = planned.itinerary.phases[0].windows
        assert box.area * 4 == (width + -width % 8) * (height + -height % 8)


def test_a_window_that_is_asked_for_is_a_square_of_that_size() -> None:
    model = replace(spec(window=144, multiple=8), any_shape=True)
    pixels = photograph(200, 160)
    for asked, square in ((None, False), (144, True)):
        planned = plan_pixels(pixels, 400, 320, model, Settings(window=asked))
        shapes = {(box.height, box.width) for box in planned.itinerary.phases[-1].windows}
        assert (shapes == {(72, 72)}) == square
