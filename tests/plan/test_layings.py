"""The windows of each step: those of the least work, or a grid that moves."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.plan import by_cells
from tests.plan.test_windows import assert_held, puzzles
from tileup.contracts import Box
from tileup.plan import layings as module
from tileup.plan.grid import Grid
from tileup.plan.itinerary import Layout, Windows
from tileup.plan.layings import Laying, covering, remembered, spot
from tileup.plan.shaped_windows import shaped_windows
from tileup.plan.windows import cover

SHAPES = ((8, 6), (6, 8), (9, 7), (7, 9), (12, 5), (5, 12))


@settings(max_examples=15, deadline=None)
@given(
    rows=st.integers(12, 50),
    columns=st.integers(12, 50),
    margin=st.integers(0, 2),
    share=st.one_of(st.floats(0, 1), st.just(1)),
    seed=st.integers(0, 1000),
)
def test_of_several_shapes_those_are_taken_whose_windows_are_the_least_work(
    rows: int, columns: int, margin: int, share: float, seed: int
) -> None:
    coarse = np.random.default_rng(seed).random((rows // 3 + 1, columns // 3 + 1)) < share
    needed = coarse.repeat(3, axis=0).repeat(3, axis=1)[:rows, :columns]
    layout = Layout(rows, columns, 8, margin, shapes=SHAPES)
    windows, again = covering(Grid.of(needed), layout, range(2), 0)
    assert again is windows
    assert_held(needed, windows, margin)
    shapes = ((8, 8), *SHAPES) if needed.all() else ((8, 8),)
    squares, *others = (area(cover(Grid.of(needed), shape, margin)) for shape in shapes)
    mixed = area(shaped_windows(Grid.of(needed), layout))
    assert area(windows) == min(squares, mixed, *others)
    found = {(box.height, box.width) for box in windows}
    if squares == area(windows):
        assert found <= {(8, 8)}, "the usual shape, unless others are less work"
    elif area(windows) < mixed:
        assert len(found) == 1, "one shape, unless several are less work"


def area(windows: Windows) -> int:
    return sum(box.area for box in windows)


def test_a_canvas_that_another_shape_fits_takes_that_one() -> None:
    """Two of 11 x 12 overlap by two margins exactly, two squares of 12 by more than need be."""
    layout = Layout(20, 12, 12, 1, shapes=((20, 6), (11, 12)))
    (windows,) = covering(Grid.of(np.ones((20, 12), dtype=bool)), layout, range(1), 0)
    assert windows == (Box(0, 0, 11, 12), Box(9, 0, 20, 12))


def test_covering_is_the_same_in_every_step() -> None:
    working = np.ones((30, 40), dtype=bool)
    windows = covering(Grid.of(working), Layout(30, 40, 16, 2), range(3, 7), seed=0)
    assert len(windows) == 4
    assert len(set(windows)) == 1


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 70),
    columns=st.integers(1, 70),
    margin=st.integers(0, 3),
    seed=st.integers(0, 50),
)
def test_spot_covers_what_works_and_where_strengths_fade(
    rows: int, columns: int, margin: int, seed: int
) -> None:
    layout = Layout(max(rows, 16), max(columns, 16), 16, margin)
    working = np.random.default_rng(seed).random((rows, columns)) < 0.1
    for windows in spot(Grid.of(working), layout, range(5), seed):
        covered = np.zeros((layout.rows, layout.columns), dtype=bool)
        for box in windows:
            assert (box.height, box.width) == (16, 16)
            covered[box.index] = True
        for row, column in np.argwhere(working):
            around = covered[
                max(row - margin, 0) : row + margin + 1,
                max(column - margin, 0) : column + margin + 1,
            ]
            assert around.all()


def test_spot_moves_on_both_axes_and_overlaps_only_at_the_border() -> None:
    layout = Layout(160, 160, 32, 0)
    steps = spot(Grid.of(np.ones((160, 160), dtype=bool)), layout, range(8), seed=1)
    assert len(set(steps)) == 8
    for windows in steps:
        seen = np.zeros((160, 160), dtype=int)
        for box in windows:
            seen[box.index] += 1
        assert (seen[32:128, 32:128] == 1).all()
        assert (seen >= 1).all()
        assert len(windows) in {25, 30, 36}


@pytest.mark.parametrize("seed", [0, 1])
def test_spot_is_seeded(seed: int) -> None:
    layout = Layout(64, 64, 32, 0)
    working = np.ones((64, 64), dtype=bool)
    one, same, other = (
        spot(Grid.of(working), layout, range(4), each) for each in (seed, seed, seed + 1)
    )
    assert one == same
    assert one != other
    # a step's grid does not depend on the phase that it is in
    assert spot(Grid.of(working), layout, range(2, 4), seed) == one[2:]


@settings(max_examples=80, deadline=None)
@given(puzzles(), st.integers(0, 5), st.integers(0, 5), st.integers(0, 1000))
def test_spot_is_that_of_single_cells(
    puzzle: tuple[NDArray[np.bool_], int, int], below: int, beside: int, seed: int
) -> None:
    needed, window, margin = puzzle
    layout = Layout(*needed.shape, window, margin)
    working = needed[: max(1, needed.shape[0] - below), : max(1, needed.shape[1] - beside)]
    made = spot(Grid.of(working), layout, range(3), seed)
    assert made == by_cells.spot(working, layout, range(3), seed)


@pytest.mark.parametrize(
    ("laying", "worked_out_by", "times"), [(covering, "cover", 1), (spot, "_jittered", 5)]
)
def test_windows_of_a_map_are_laid_once_for_all_steps_unless_they_move(
    laying: Laying, worked_out_by: str, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = Grid.of(np.random.default_rng(0).random((40, 50)) < 0.2)
    layout, given = Layout(40, 50, window=16, margin=3), (range(2), range(1, 4), range(2))
    expected = [laying(needed, layout, steps, 7) for steps in given]
    calls, real = list[object](), getattr(module, worked_out_by)
    monkeypatch.setattr(module, worked_out_by, lambda *each: (calls.append(each), real(*each))[1])
    laid = remembered(laying)
    assert [laid(needed, layout, steps, 7) for steps in given] == expected
    assert len(calls) == times
