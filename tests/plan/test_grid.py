"""Maps held between edges against the same maps cell by cell."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tileup.contracts import Box
from tileup.plan.grid import Areas, Grid, reflected

sides = st.integers(1, 40)


def mottled(height: int, width: int, seed: int) -> NDArray[np.int64]:
    """Few distinct values in patches of any size."""
    rng = np.random.default_rng(seed)
    block = int(rng.integers(1, 9))
    coarse = rng.integers(0, 3, (height // block + 1, width // block + 1))
    return coarse.repeat(block, 0).repeat(block, 1)[:height, :width]


def some_box(height: int, width: int, seed: int) -> Box:
    rng = np.random.default_rng(seed)
    top, left = int(rng.integers(height)), int(rng.integers(width))
    return Box(
        top, left, int(rng.integers(top + 1, height + 1)), int(rng.integers(left + 1, width + 1))
    )


@given(sides, sides, st.integers(0, 10_000))
def test_a_grid_holds_the_map_and_any_part_of_it(height: int, width: int, seed: int) -> None:
    cells = mottled(height, width, seed)
    grid, box = Grid.of(cells), some_box(height, width, seed)
    assert grid.shape == cells.shape
    np.testing.assert_array_equal(grid.cells(), cells)
    np.testing.assert_array_equal(grid.transposed.cells(), cells.T)
    np.testing.assert_array_equal(grid.inside(box), cells[box.index])
    np.testing.assert_array_equal(grid.crop(box).cells(), cells[box.index])
    for edges, lines in ((grid.rows, cells), (grid.columns, cells.T)):
        assert len(edges) == 2 + (lines[1:] != lines[:-1]).any(axis=1).sum(), "no edge too many"


@given(sides, sides, st.integers(0, 10_000))
def test_merged_maps_are_equal_however_they_were_cut(height: int, width: int, seed: int) -> None:
    cells = mottled(height, width, seed)
    rng = np.random.default_rng(seed)
    once = Grid.of(cells)
    rows = np.union1d(once.rows, rng.integers(0, height + 1, 3))
    columns = np.union1d(once.columns, rng.integers(0, width + 1, 3))
    merged = Grid(rows, columns, cells[np.ix_(rows[:-1], columns[:-1])]).merged()
    for found, wanted in zip(
        (merged.rows, merged.columns, merged.values),
        (once.rows, once.columns, once.values),
        strict=True,
    ):
        np.testing.assert_array_equal(found, wanted)


@given(sides, sides, st.integers(0, 90), st.integers(0, 90), st.integers(0, 10_000))
def test_a_grid_is_reflected_as_its_cells_are(
    height: int, width: int, below: int, beside: int, seed: int
) -> None:
    cells = mottled(height, width, seed)
    expected = cells[np.ix_(reflected(height, height + below), reflected(width, width + beside))]
    made = Grid.of(cells).reflected(height + below, width + beside)
    np.testing.assert_array_equal(made.cells(), expected)


@given(sides, sides, st.integers(0, 10_000))
def test_areas_count_the_true_cells_of_a_box(height: int, width: int, seed: int) -> None:
    true = mottled(height, width, seed) == 1
    boxes = [some_box(height, width, seed + number) for number in range(8)]
    counted = Areas(Grid.of(true)).within(
        np.array([(box.top, box.left, box.bottom, box.right) for box in boxes])
    )
    assert counted.tolist() == [true[box.index].sum() for box in boxes]


def test_areas_of_empty_boxes_are_nothing() -> None:
    areas = Areas(Grid.of(np.ones((5, 7), dtype=bool)))
    assert areas.within(np.array([[0, 0, 0, 7], [5, 7, 5, 7], [2, 3, 4, 3]])).tolist() == [0, 0, 0]


def test_values_that_fit_no_fields_are_refused() -> None:
    with pytest.raises(ValueError, match="for \\(1, 2\\) fields"):
        Grid(np.array([0, 4]), np.array([0, 1, 4]), np.zeros((2, 2)))


@pytest.mark.parametrize(("length", "total"), [(1, 5), (2, 7), (3, 3), (5, 13), (8, 9)])
def test_reflection_mirrors_as_often_as_it_takes(length: int, total: int) -> None:
    indices = reflected(length, total)
    assert len(indices) == total
    assert list(indices[:length]) == list(range(length))
    if length > 1:
        assert all(abs(b - a) == 1 for a, b in itertools.pairwise(indices))
    else:
        assert set(indices) == {0}
