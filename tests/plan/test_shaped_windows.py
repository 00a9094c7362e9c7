"""Windows of several shapes in one step: they cover, and are the least work."""

from __future__ import annotations

import itertools
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp

from tests.plan.test_fitted_windows import blobs
from tests.plan.test_windows import assert_held, core
from tileup.contracts import Box
from tileup.plan.grid import Grid
from tileup.plan.itinerary import Layout
from tileup.plan.shaped_windows import UNITS, height_of_group, shaped_windows
from tileup.plan.windows import cover
from tileup.tiling.alike import alike

SHAPES = ((8, 6), (6, 8), (9, 7), (7, 9), (12, 5), (5, 12))


def work(windows: tuple[Box, ...]) -> int:
    return sum(box.area for box in windows)


@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(12, 40),
    columns=st.integers(12, 40),
    margin=st.integers(0, 2),
    block=st.sampled_from([1, 3, 8]),
    share=st.floats(0, 1),
    seed=st.integers(0, 1000),
    larger=st.sampled_from([1, 3]),
)
def test_every_needed_cell_lies_in_a_core(
    rows: int, columns: int, margin: int, block: int, share: float, seed: int, larger: int
) -> None:
    """Where all is three times as large, spans consist of more than single cells."""
    needed = blobs(larger * rows, larger * columns, block, share, seed)
    shapes = tuple((larger * height, larger * width) for height, width in SHAPES)
    layout = Layout(*needed.shape, 8 * larger, margin * larger, shapes=shapes)
    windows = shaped_windows(Grid.of(needed), layout)
    assert_held(needed, windows, layout.margin)
    assert {(box.height, box.width) for box in windows} <= {(8 * larger, 8 * larger), *shapes}
    assert (len(windows) == 0) == (not needed.any())


def least_in_bands(needed: NDArray[np.bool_], shapes: list[tuple[int, int]], margin: int) -> int:
    """Of all ways to cut into bands of rows, and these into spans, one by one."""
    rows, columns = needed.shape

    @lru_cache
    def holds(length: int, total: int, first: int, last: int) -> bool:
        cores = (
            (start + margin * (start > 0), start + length - margin * (start + length < total))
            for start in range(total - length + 1)
        )
        return any(begin <= first and last <= end for begin, end in cores)

    @lru_cache
    def window(top: int, bottom: int, left: int, right: int) -> float:
        down, across = (
            np.flatnonzero(needed[top:bottom, left:right].any(axis=axis)) for axis in (1, 0)
        )
        if not len(down):
            return 0
        sides = (
            (rows, top + down[0], top + down[-1] + 1),
            (columns, left + across[0], left + across[-1] + 1),
        )
        areas = (
            height * width
            for height, width in shapes
            if all(
                holds(length, *side) for length, side in zip((height, width), sides, strict=True)
            )
        )
        return min(areas, default=float("inf"))

    @lru_cache
    def band(top: int, bottom: int, left: int) -> float:
        rights = range(left + 1, columns + 1)
        ways = (window(top, bottom, left, right) + band(top, bottom, right) for right in rights)
        return min(ways, default=0)

    @lru_cache
    def below(top: int) -> float:
        bottoms = range(top + 1, rows + 1)
        return min((band(top, bottom, 0) + below(bottom) for bottom in bottoms), default=0)

    return int(below(0))


@settings(max_examples=8, deadline=None)
@given(
    rows=st.integers(6, 9),
    columns=st.integers(6, 9),
    margin=st.integers(0, 1),
    share=st.floats(0.02, 0.6),
    seed=st.integers(0, 1000),
)
def test_no_way_of_bands_and_spans_is_less_work(
    rows: int, columns: int, margin: int, share: float, seed: int
) -> None:
    needed = blobs(rows, columns, 1, share, seed)
    shapes = [(4, 4), (5, 3), (3, 5)]
    layout = Layout(rows, columns, 4, margin, shapes=tuple(shapes[1:]))
    turned = [(width, height) for height, width in shapes]
    assert work(shaped_windows(Grid.of(needed), layout)) == min(
        least_in_bands(needed, shapes, margin), least_in_bands(needed.T, turned, margin)
    )


def optimum(needed: NDArray[np.bool_], shapes: list[tuple[int, int]], margin: int) -> float:
    """The least work of all sets of windows, by an integer program."""
    rows, columns = needed.shape
    held: list[NDArray[np.bool_]] = []
    costs: list[int] = []
    for height, width in shapes:
        for top, left in np.ndindex(rows - height + 1, columns - width + 1):
            inside = np.zeros_like(needed)
            box = Box(top, left, top + height, left + width)
            inside[core(box, rows, columns, margin)] = True
            held.append(inside[needed])
            costs.append(height * width)
    constraint = LinearConstraint(np.array(held, dtype=float).T, lb=1)
    return milp(
        np.array(costs),
        constraints=constraint,
        integrality=np.ones(len(costs)),
        bounds=Bounds(0, 1),
    ).fun


def test_they_are_near_the_least_work_that_there_is() -> None:
    shapes, ratios = [(8, 8), *SHAPES], list[float]()
    for seed in range(4):
        needed = blobs(20, 22, 3, 0.3, seed)
        layout = Layout(*needed.shape, 8, 1, shapes=SHAPES)
        ratios.append(work(shaped_windows(Grid.of(needed), layout)) / optimum(needed, shapes, 1))
    assert min(ratios) >= 1 - 1e-9
    assert np.mean(ratios) < 1.1
    assert max(ratios) < 1.2


def test_each_window_has_the_shape_that_serves_there() -> None:
    """A line across, a line down and a lone cell: with one shape for all it would be more."""
    needed = np.zeros((40, 40), dtype=bool)
    needed[2:5, 3:13] = True
    needed[20:30, 24:27] = True
    needed[36, 3] = True
    layout = Layout(40, 40, 8, 1, shapes=SHAPES)
    windows = shaped_windows(Grid.of(needed), layout)
    assert [(box.height, box.width) for box in windows] == [(5, 12), (8, 6), (12, 5)]
    assert work(windows) == 60 + 60 + 48
    for shape in ((8, 8), *SHAPES):
        assert sum(box.area for box in cover(Grid.of(needed), shape, 1)) > work(windows)


def test_of_shapes_that_are_as_much_work_the_square_one_is_taken() -> None:
    layout = Layout(40, 40, 6, 1, shapes=((9, 4), (4, 9)))
    needed = np.zeros((40, 40), dtype=bool)
    needed[10:12, 10:12] = True
    (box,) = shaped_windows(Grid.of(needed), layout)
    assert box == Box(8, 8, 14, 14)


def test_spans_end_at_edges_of_what_works_where_these_are_far_enough_apart() -> None:
    """Blocks of a core's eighth, off its grid by half of one: as few as on it."""
    side = 8 * UNITS
    layout = Layout(4 * side, 4 * side, side, 0)
    for shift in (0, UNITS // 2):
        needed = np.zeros((4 * side, 4 * side), dtype=bool)
        needed[shift : shift + 2 * side, shift : shift + side] = True
        assert len(shaped_windows(Grid.of(needed), layout)) == 2


@pytest.mark.parametrize("columns", [480, 2560], ids=["narrow", "wide"])
def test_windows_of_one_shape_come_together_group_by_group_from_the_top(columns: int) -> None:
    """Three squares side by side: eleven rows of them are a group; 20 side by side: two."""
    needed = blobs(1600, columns, 14, 0.05, seed=1)
    shapes = ((144, 104), (104, 144), (168, 88), (88, 168))
    layout = Layout(1600, columns, 128, 8, shapes=shapes)
    high = height_of_group(layout)
    assert high == {480: 11 * 128, 2560: 2 * 128}[columns]
    windows = shaped_windows(Grid.of(needed), layout)
    for group, boxes in itertools.groupby(windows, key=lambda box: box.top // high):
        together = [*boxes]
        found = {(box.height, box.width) for box in together}
        assert len(alike(together, 1000 * 128**2)) == len(found)
        assert len(found) < len(together)
        assert {box.top // high for box in together} == {group}
    groups = [box.top // high for box in windows]
    assert groups == sorted(groups)
    assert len({*groups}) > 1
    assert len({(box.height, box.width) for box in windows}) > 2


def test_a_large_canvas_is_quick() -> None:
    needed = blobs(900, 900, 2, 0.02, seed=0)
    layout = Layout(900, 900, 128, 8, shapes=((144, 104), (104, 144), (168, 88), (88, 168)))
    assert_held(needed, shaped_windows(Grid.of(needed), layout), 8)
