"""Rows that are held for a while against a canvas that is held as a whole."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tileup.contracts import Box
from tileup.tiling.overlaps import moved
from tileup.tiling.rows import RowBuffer, RowRing, put


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


@given(
    steps=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 12)), min_size=1, max_size=30),
    columns=st.integers(1, 5),
    usual=st.integers(1, 20),
)
def test_rows_of_a_ring_are_those_of_the_whole(
    steps: list[tuple[int, int]], columns: int, usual: int
) -> None:
    whole = torch.arange(400.0 * columns * 3).reshape(400, columns, 3)
    ring, last, first = RowRing(columns, 3, whole, usual), 0, 0
    for added, dropped in steps:
        ring.reach(last + added)
        if added:
            for rows, part in ring.parts(Box(last, 0, last + added, columns)):
                part.copy_(whole[last : last + added][rows])
        last += added
        assert (ring.first, ring.last) == (first, last)
        if first < last:
            box = Box(first, columns // 2, last, columns)
            assert torch.equal(ring.inside(box), whole[first:last, columns // 2 :])
        first += dropped
        last = max(last, first)
        ring.drop(first)


def test_a_ring_stays_small_and_moves_nothing() -> None:
    ring = RowRing(4, 2, torch.empty(0), usual=40)
    places: set[int] = set()
    for _ in range(1000):
        ring.reach(ring.last + 8)
        ((_, part),) = ring.parts(Box(ring.last - 8, 0, ring.last, 4))
        places.add(part.data_ptr())
        ring.drop(ring.last - 20)
    assert len(places) == 5


@pytest.mark.parametrize("channels", [1, 3, 12])
def test_cells_are_put_where_they_shall_be_alone(channels: int) -> None:
    given, made = torch.rand(2, 9, 30, channels).unbind()
    where = torch.rand(9, 30, 1)[:, 5:20] < 0.5
    expected = made.clone()
    expected[:, 5:20] = torch.where(where, given[:, 5:20], made[:, 5:20])
    put(given[:, 5:20], made[:, 5:20], where)
    assert torch.equal(made, expected)
    assert not torch.equal(made[:, 5:20], given[:, 5:20])


def test_what_is_held_stays_small() -> None:
    rows = RowBuffer(4, 2, torch.empty(0))
    for _ in range(1000):
        rows.add(8).zero_()
        rows.drop(rows.last - 20)
    assert len(rows._memory) <= 2 * (20 + 2 * 8)


def test_a_moved_box_keeps_its_columns() -> None:
    assert moved(Box(5, 2, 9, 4), -3) == Box(2, 2, 6, 4)
