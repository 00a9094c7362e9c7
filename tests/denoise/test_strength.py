"""Weights of strength: where a phase works, and how strengths fade."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from tileup.denoise.strength import Near, all_work, finished_share, memberships, working_weight
from tileup.plan.grid import Grid


def stripes(*strengths: float, width: int = 20) -> Grid:
    return Grid.of(np.repeat(np.array([strengths]), width, axis=1).repeat(12, axis=0))


def blocks(seed: int, sizes: tuple[int, int] = (8, 9)) -> Grid:
    """Rectangles of random strengths and of random sides."""
    rng = np.random.default_rng(seed)
    tall, wide = (rng.integers(1, 9, size) for size in sizes)
    cells = rng.choice([0.0, 0.2, 0.4, 0.8], sizes).repeat(tall, 0).repeat(wide, 1)
    return Grid.of(cells)


def test_working_cells_have_weight_one_and_weaker_ones_fade() -> None:
    weight = working_weight(stripes(0.8, 0.2), 0.8, margin=4)
    assert (weight[:, :20] == 1).all()
    fall = weight[5, 20:24]
    np.testing.assert_allclose(fall, 0.5 + 0.5 * np.cos(np.pi * np.arange(1, 5) / 5))
    assert (weight[:, 24:] == 0).all()


def test_kept_cells_have_weight_zero_right_up_to_the_border() -> None:
    weight = working_weight(stripes(0.8, 0.0), 0.8, margin=4)
    assert (weight[:, :20] == 1).all()
    assert (weight[:, 20:] == 0).all()


def test_the_weights_of_later_phases_never_fall() -> None:
    strengths = blocks(0)
    first, second, third = (working_weight(strengths, weakest, 3) for weakest in (0.8, 0.4, 0.2))
    assert (second >= first).all()
    assert (third >= second).all()
    assert set(np.unique(third)) == {0.0, 1.0}


@pytest.mark.parametrize("margin", [0, 3])
def test_one_strength_works_everywhere(margin: int) -> None:
    assert (working_weight(stripes(0.5), 0.5, margin) == 1).all()


def test_rows_are_all_at_work_where_every_cell_is() -> None:
    """Of any rows, also where they begin or end within a row of fields."""
    cells = np.full((9, 6), 0.8)
    cells[3, 2], cells[7, 5] = 0.2, 0.0
    strengths = Grid.of(cells.repeat(3, 0))
    for top in range(strengths.shape[0]):
        for bottom in range(top + 1, strengths.shape[0] + 1):
            for weakest in (0.2, 0.8):
                wanted = bool((strengths.between(top, bottom) >= weakest).all())
                assert all_work(strengths, weakest, (top, bottom)) == wanted


def test_the_finished_picture_fades_inside_the_working_tile() -> None:
    share = finished_share(stripes(0.0, 0.8), width=6)
    assert (share[:, :20] == 0).all()
    rise = share[5, 20:26]
    assert (np.diff(rise) > 0).all()
    assert 0 < rise[0] < 0.1
    assert (share[:, 27:] == 1).all()


@pytest.mark.parametrize(("strength", "share"), [(0.0, 0.0), (0.3, 1.0)])
def test_a_picture_of_one_kind_is_all_kept_or_all_drawn(strength: float, share: float) -> None:
    assert (finished_share(stripes(strength), 6) == share).all()


def test_no_width_is_a_hard_edge() -> None:
    assert set(np.unique(finished_share(stripes(0.0, 0.8), 0))) == {0.0, 1.0}


@given(seed=st.integers(0, 10**6), limit=st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_distances_are_those_of_a_transform_of_every_cell(seed: int, limit: int) -> None:
    grid = blocks(seed)
    true = grid.with_values(grid.values == 0.8)
    cells = true.cells()
    way = distance_transform_edt(~cells) if cells.any() else np.full(cells.shape, np.inf)
    found = Near(true, limit).squares()
    np.testing.assert_array_equal(found, np.minimum(np.rint(way**2), limit**2))


@given(seed=st.integers(0, 10**6), margin=st.integers(0, 9), data=st.data())
@settings(max_examples=60, deadline=None)
def test_some_rows_are_the_same_as_in_the_whole(
    seed: int, margin: int, data: st.DataObject
) -> None:
    strengths = blocks(seed)
    top = data.draw(st.integers(0, strengths.shape[0] - 1))
    bottom = data.draw(st.integers(top + 1, strengths.shape[0]))
    for weights in (
        lambda rows: working_weight(strengths, 0.4, margin, rows),
        lambda rows: finished_share(strengths, margin, rows),
        lambda rows: np.stack(memberships(strengths, [0.8, 0.4, 0.2], margin, rows), axis=1),
    ):
        np.testing.assert_array_equal(weights((top, bottom)), weights(None)[top:bottom])
