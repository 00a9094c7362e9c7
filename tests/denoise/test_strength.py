"""Weights of strength: where a phase works, and how strengths fade."""

import numpy as np
import pytest

from tileup.denoise.strength import finished_share, working_weight


def stripes(*strengths: float, width: int = 20) -> np.ndarray:
    return np.repeat(np.array([strengths]), width, axis=1).repeat(12, axis=0)


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
    rng = np.random.default_rng(0)
    strengths = rng.choice([0.0, 0.2, 0.4, 0.8], (8, 8)).repeat(6, 0).repeat(6, 1)
    first, second, third = (working_weight(strengths, weakest, 3) for weakest in (0.8, 0.4, 0.2))
    assert (second >= first).all()
    assert (third >= second).all()
    assert set(np.unique(third)) == {0.0, 1.0}


@pytest.mark.parametrize("margin", [0, 3])
def test_one_strength_works_everywhere(margin: int) -> None:
    assert (working_weight(stripes(0.5), 0.5, margin) == 1).all()


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
