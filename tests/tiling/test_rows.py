"""Rows that are held for a while against a canvas that is held as a whole."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from tileup.contracts import Box
from tileup.tiling.rows import RowBuffer, moved


@given(
    steps=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 12)), min_size=1, max_size=30),
    columns=st.integers(1, 5),
)
def test_rows_are_those_of_the_whole(steps: list[tuple[int, int]], columns: int) -> None:
    whole = torch.arange(400.0 * columns * 3).reshape(400, columns, 3)
    rows, last, first = RowBuffer(columns, 3, whole), 0, 0
    for added, dropped in steps:
        rows.add(added).copy_(whole[last : last + added])
        last += added
        assert (rows.first, rows.last) == (first, last)
        assert torch.equal(rows.between(first, last), whole[first:last])
        assert torch.equal(rows.canvas[0].movedim(0, -1), whole[first:last])
        if first < last:
            box = Box(first, 0, last, columns)
            assert torch.equal(rows.inside(box), whole[first:last])
        first += dropped
        last = max(last, first)
        rows.drop(first)


def test_what_is_held_stays_small() -> None:
    rows = RowBuffer(4, 2, torch.empty(0))
    for _ in range(1000):
        rows.add(8).zero_()
        rows.drop(rows.last - 20)
    assert len(rows._memory) <= 2 * (20 + 2 * 8)


def test_a_moved_box_keeps_its_columns() -> None:
    assert moved(Box(5, 2, 9, 4), -3) == Box(2, 2, 6, 4)
