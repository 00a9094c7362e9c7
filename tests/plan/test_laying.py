"""How windows are laid, step by step."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tileup.plan.itinerary import Layout
from tileup.plan.laying import covering, spot


def test_covering_is_the_same_in_every_step() -> None:
    working = np.ones((30, 40), dtype=bool)
    windows = covering(working, Layout(30, 40, 16, 2), range(3, 7), seed=0)
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
    for windows in spot(working, layout, range(5), seed):
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
    steps = spot(np.ones((160, 160), dtype=bool), layout, range(8), seed=1)
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
    one, same, other = (spot(working, layout, range(4), each) for each in (seed, seed, seed + 1))
    assert one == same
    assert one != other
    # a step's grid does not depend on the phase that it is in
    assert spot(working, layout, range(2, 4), seed) == one[2:]
