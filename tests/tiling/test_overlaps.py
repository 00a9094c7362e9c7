"""Where windows lie, against looking at every cell."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tileup.contracts import Box
from tileup.tiling.overlaps import Covered, Neighbours, around

SIDE = 40
CORNERS = st.tuples(st.integers(0, 28), st.integers(0, 28))
BOXES = st.builds(
    lambda corner, size: Box(*corner, corner[0] + size[0], corner[1] + size[1]),
    CORNERS,
    st.sampled_from([(12, 12), (5, 12), (1, 1)]),
)


def cells(box: Box) -> NDArray[np.bool_]:
    made = np.zeros((SIDE, SIDE), dtype=bool)
    made[box.index] = True
    return made


@given(windows=st.lists(BOXES, max_size=8), top=st.integers(0, 38), gap=st.integers(0, 6))
def test_spans_are_the_columns_of_windows_in_these_rows(
    windows: list[Box], top: int, gap: int
) -> None:
    rows = slice(top, top + 2)
    seen = np.any([cells(box)[rows].any(axis=0) for box in windows], axis=0) & np.ones(SIDE, bool)
    spans = Covered(windows, gap).spans(top, top + 2)
    made = np.zeros(SIDE, dtype=bool)
    for left, right in spans:
        assert seen[left]
        assert seen[right - 1]
        assert not made[max(0, left - gap) : right].any()
        made[left:right] = True
        inside = np.flatnonzero(seen[left:right])
        assert (np.diff(inside) <= gap + 1).all()
    assert not (seen & ~made).any()


@given(windows=st.lists(BOXES, min_size=1, max_size=8))
def test_neighbours_are_those_that_share_a_cell(windows: list[Box]) -> None:
    found = Neighbours(windows)
    for number, box in enumerate(windows):
        others = [
            other for other in range(len(windows)) if (cells(windows[other])[box.index]).any()
        ]
        assert found.of(number).tolist() == sorted(others, key=lambda each: windows[each].top)
        alone = found.alone(number)
        if len(others) == 1:
            assert alone == box
        if alone is not None:
            taken = np.sum([cells(other)[alone.index] for other in windows], axis=0)
            assert (taken == 1).all()
            parts = [cells(part) for part in (alone, *around(box, alone))]
            assert np.array_equal(np.sum(parts, axis=0), cells(box))


def test_of_windows_in_rows_and_columns_all_but_the_seams_is_alone() -> None:
    windows = [Box(top, left, top + 12, left + 12) for top in (0, 10, 20) for left in (0, 10, 20)]
    assert Neighbours(windows).alone(4) == Box(12, 12, 20, 20)
    assert Neighbours(windows[::-1]).alone(8) == Box(0, 0, 10, 10)
