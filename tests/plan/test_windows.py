"""Windows cover the working cells with their cores, and are few."""

import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.plan import by_cells
from tileup.contracts import Box
from tileup.families.family import Family
from tileup.families.table import FAMILIES
from tileup.plan.grid import Grid
from tileup.plan.windows import Axis, cover
from tileup.settings.layers import resolve


def core(box: Box, rows: int, columns: int, margin: int) -> tuple[slice, slice]:
    """The cells that a window may work on."""
    return (
        slice(
            box.top + (margin if box.top else 0), box.bottom - (margin if box.bottom < rows else 0)
        ),
        slice(
            box.left + (margin if box.left else 0),
            box.right - (margin if box.right < columns else 0),
        ),
    )


def assert_covered(needed: np.ndarray, windows: tuple[Box, ...], side: int, margin: int) -> None:
    assert {(box.height, box.width) for box in windows} <= {(side, side)}
    assert_held(needed, windows, margin)


def assert_held(needed: np.ndarray, windows: tuple[Box, ...], margin: int) -> None:
    rows, columns = needed.shape
    covered = np.zeros_like(needed)
    for box in windows:
        assert box.top >= 0
        assert box.bottom <= rows
        assert box.left >= 0
        assert box.right <= columns
        covered[core(box, rows, columns, margin)] = True
    assert not (needed & ~covered).any()
    assert len(set(windows)) == len(windows)


@settings(max_examples=150, deadline=None)
@given(
    rows=st.integers(8, 70),
    columns=st.integers(8, 70),
    margin=st.integers(0, 3),
    block=st.sampled_from([1, 3, 8]),
    share=st.floats(0, 1),
    seed=st.integers(0, 1000),
)
def test_every_needed_cell_lies_in_a_core(
    rows: int, columns: int, margin: int, block: int, share: float, seed: int
) -> None:
    coarse = np.random.default_rng(seed).random((rows // block + 1, columns // block + 1)) < share
    needed = coarse.repeat(block, 0).repeat(block, 1)[:rows, :columns]
    windows = cover(Grid.of(needed), (8, 8), margin)
    assert_covered(needed, windows, 8, margin)
    assert (len(windows) == 0) == (not needed.any())


@settings(max_examples=150)
@given(seed=st.integers(0, 10_000), share=st.floats(0.02, 0.3), margin=st.integers(0, 2))
@example(seed=0, share=0.1, margin=1)
def test_no_window_is_superfluous(seed: int, share: float, margin: int) -> None:
    """Without any one of them some needed cell lies in no core."""
    needed = np.random.default_rng(seed).random((24, 24)) < share
    cores = [core(box, 24, 24, margin) for box in cover(Grid.of(needed), (8, 8), margin)]
    times = np.zeros(needed.shape, dtype=int)
    for place in cores:
        times[place] += 1
    assert all((times[place][needed[place]] == 1).any() for place in cores)


@pytest.mark.parametrize(
    ("length", "count"),
    [(16, 1), (17, 2), (28, 2), (29, 3), (40, 3), (41, 4), (100, 8), (101, 9)],
)
def test_a_full_line_takes_as_few_as_arithmetic_allows(length: int, count: int) -> None:
    needed = np.ones((16, length), dtype=bool)
    windows = cover(Grid.of(needed), (16, 16), 2)  # each further window brings 16 - 2 * 2 cells
    assert len(windows) == count
    assert_covered(needed, windows, 16, 2)


def test_bands_are_placed_so_that_they_need_few_windows() -> None:
    """Two half-width blobs side by side, offset by half a core: greedy from the top takes three."""
    needed = np.zeros((40, 16), dtype=bool)
    needed[0:4, 0:4] = True
    needed[4:16, 0:8] = True
    windows = cover(Grid.of(needed), (12, 12), 0)
    assert len(windows) == 2
    assert_covered(needed, windows, 12, 0)


def test_the_best_of_small_puzzles() -> None:
    """Against brute force over all sets of positions."""
    rng = np.random.default_rng(0)
    worse = 0
    for _ in range(40):
        needed = rng.random((7, 7)) < 0.25
        windows = cover(Grid.of(needed), (3, 3), 0)
        assert_covered(needed, windows, 3, 0)
        fewest = fewest_windows(needed, 3)
        assert len(windows) - fewest <= 2
        worse += len(windows) > fewest
    assert worse <= 20, "most small puzzles are solved at the optimum"


def fewest_windows(needed: NDArray[np.bool_], side: int) -> int:
    """How few square windows hold all needed cells: of all sets of positions, each of which must
    hold the first cell that is left in one of its windows. Cells are bits of a number."""
    rows, columns = needed.shape
    bits = 1 << np.arange(rows * columns, dtype=object).reshape(rows, columns)
    masks = [
        int(bits[top : top + side, left : left + side].sum())
        for top in range(rows - side + 1)
        for left in range(columns - side + 1)
    ]

    def suffice(left: int, count: int) -> bool:
        first = left & -left
        return not left or (
            count > 0 and any(suffice(left & ~mask, count - 1) for mask in masks if mask & first)
        )

    cells = int(bits[needed].sum())
    return next(count for count in itertools.count() if suffice(cells, count))


def test_a_lone_tile_sits_in_the_middle_of_its_window() -> None:
    needed = np.zeros((100, 100), dtype=bool)
    needed[40:48, 60:68] = True
    (box,) = cover(Grid.of(needed), (32, 32), 4)
    assert (box.top, box.left) == (28, 48)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_window_holds_a_largest_tile_wherever_it_lies(family: Family) -> None:
    """Each of some tiles, no two of them beside one another, takes one window and no more: so a
    window is given up as soon as its tile is at rest. With tiles that no core ends with, 256 px in
    windows of 512 that share 96, SD 1 computed 1.65 instead of 1.92 times less than all windows."""
    usual = resolve(family.name)
    side, tile, margin = (
        n // family.stride for n in (family.window, usual.tile, usual.overlap // 2)
    )
    assert tile * family.stride == usual.tile == family.window - usual.overlap
    working = np.indices((4, 5)).sum(axis=0) % 2 == 0
    needed = Grid(tile * np.arange(5), tile * np.arange(6), working)
    found = cover(needed, (side, side), margin)
    assert len(found) == working.sum() == 10


def test_transposed_cells_take_as_many_windows() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        needed = (rng.random((12, 9)) < 0.3).repeat(4, 0).repeat(4, 1)
        across = cover(Grid.of(needed), (16, 16), 2)
        down = cover(Grid.of(needed.T), (16, 16), 2)
        assert len(across) == len(down)


@pytest.mark.parametrize("axis", [(4, 5, 0), (9, 4, 2), (9, 4, -1)])
def test_windows_that_cannot_fit_are_refused(axis: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        Axis(*axis)


def test_a_large_canvas_is_quick() -> None:
    coarse = np.random.default_rng(0).random((128, 128)) < 0.3
    needed = coarse.repeat(16, 0).repeat(16, 1)
    windows = cover(Grid.of(needed), (80, 80), 8)
    assert_covered(needed, windows, 80, 8)


@st.composite
def masks(draw: st.DrawFn, rows: int, columns: int) -> NDArray[np.bool_]:
    """Patches of any size, a disc that no edge fits, or both."""
    rng = np.random.default_rng(draw(st.integers(0, 100_000)))
    block = draw(st.sampled_from([1, 2, 3, 8, 16]))
    coarse = rng.random((rows // block + 1, columns // block + 1)) < draw(st.floats(0, 1))
    needed = coarse.repeat(block, 0).repeat(block, 1)[:rows, :columns]
    if draw(st.booleans()):
        y, x = np.arange(rows) - rng.integers(rows), np.arange(columns) - rng.integers(columns)
        needed = needed | (np.add.outer(y**2, x**2) < rng.integers(1, 900))
    return needed


@st.composite
def puzzles(draw: st.DrawFn) -> tuple[NDArray[np.bool_], int, int]:
    """Cells, window and margin; canvases of one window or one cell over among them."""
    window = draw(st.integers(1, 20))
    margin = draw(st.integers(0, (window - 1) // 2))
    over = st.one_of(st.sampled_from([0, 1]), st.integers(0, 70))
    return draw(masks(window + draw(over), window + draw(over))), window, margin


@settings(max_examples=200, deadline=None)
@given(puzzles())
def test_the_cover_is_that_of_single_cells(
    puzzle: tuple[NDArray[np.bool_], int, int],
) -> None:
    needed, window, margin = puzzle
    made = cover(Grid.of(needed), (window, window), margin)
    assert made == by_cells.cover(needed, (window, window), margin)


@settings(max_examples=80, deadline=None)
@given(puzzles(), st.integers(0, 9), st.integers(0, 9))
def test_an_edge_that_changes_nothing_changes_no_cover(
    puzzle: tuple[NDArray[np.bool_], int, int], row: int, column: int
) -> None:
    needed, window, margin = puzzle
    grid = Grid.of(needed)
    rows = np.union1d(grid.rows, [min(row, needed.shape[0])])
    columns = np.union1d(grid.columns, [min(column, needed.shape[1])])
    finer = Grid(rows, columns, needed[np.ix_(rows[:-1], columns[:-1])])
    assert cover(finer, (window, window), margin) == cover(grid, (window, window), margin)
