"""Blending weights are positive, symmetric, and sum to one."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tileup.contracts import Box
from tileup.tiling.profiles import (
    PROFILES,
    NormalisedShares,
    WindowWeights,
    feather,
    gaussian,
    normalised,
    window_weight,
)

NAMES = pytest.mark.parametrize("name", sorted(PROFILES))


@NAMES
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (8, 5), (96, 64), (64, 96)])
@pytest.mark.parametrize("overlap", [0, 1, 4, 40])
def test_a_weight_is_positive_and_equals_its_mirror_and_transpose(
    name: str, height: int, width: int, overlap: int
) -> None:
    weight = window_weight(name, height, width, overlap)
    assert weight.shape == (height, width)
    assert (weight > 0).all()
    torch.testing.assert_close(weight, weight.flip(0))
    torch.testing.assert_close(weight, weight.flip(1))
    torch.testing.assert_close(weight.T, window_weight(name, width, height, overlap))


@NAMES
@given(
    corners=st.lists(st.tuples(st.integers(0, 24), st.integers(0, 12)), min_size=1, max_size=12),
    overlap=st.integers(0, 8),
)
def test_weights_sum_to_one_wherever_there_is_a_window(
    name: str, corners: list[tuple[int, int]], overlap: int
) -> None:
    windows = [Box(top, left, top + 8, left + 12) for top, left in corners]
    weights = normalised(windows, WindowWeights(name, overlap, torch.empty(0)), 32, 24)
    total, covered = torch.zeros(32, 24), torch.zeros(32, 24, dtype=torch.bool)
    for box, weight in zip(windows, weights, strict=True):
        assert (weight > 0).all()
        total[box.index] += weight
        covered[box.index] = True
    torch.testing.assert_close(total[covered], torch.ones(int(covered.sum())), atol=1e-6, rtol=0)


@NAMES
@given(
    corners=st.lists(st.tuples(st.integers(0, 24), st.integers(0, 12)), min_size=1, max_size=12),
    tall=st.integers(3, 8),
    overlap=st.integers(0, 8),
)
def test_shares_of_single_windows_are_the_weights_of_all(
    name: str, corners: list[tuple[int, int]], tall: int, overlap: int
) -> None:
    """To the byte, and each cell of a window in one part."""
    windows = [Box(top, left, top + tall, left + 4 + left % 3) for top, left in corners]
    raw = WindowWeights(name, overlap, torch.empty(0))
    shares = NormalisedShares(windows, raw)
    for number, weight in enumerate(normalised(windows, raw, 32, 24)):
        found, made = shares.of(number), torch.full_like(weight, torch.nan)
        if found.alone is not None:
            made[found.alone.index] = 1
        for part, share in found.shared:
            assert made[part.index].isnan().all()
            made[part.index] = share[..., 0]
        assert torch.equal(made, weight)


def test_windows_that_lie_alike_share_their_weights() -> None:
    windows = [Box(0, left, 8, left + 8) for left in range(0, 60, 6)]
    shares = NormalisedShares(windows, WindowWeights("feather", 2, torch.empty(0)))
    found = [shares.of(number) for number in range(len(windows))]
    assert all(each is found[1] for each in found[1:-1])
    assert len({id(each) for each in found}) == 3


def test_two_feathered_windows_cross_as_a_raised_cosine() -> None:
    """In an overlap of n cells the ramps are sin^2 and cos^2, which sum to one on their own."""
    rise = feather(20, 8)[:8]
    fall = feather(20, 8)[-8:]
    torch.testing.assert_close(rise + fall, torch.ones(8, dtype=torch.float64))
    assert (rise.diff() > 0).all()
    assert torch.equal(feather(20, 8)[8:12], torch.ones(4, dtype=torch.float64))


def test_gaussian_is_the_bell_of_mixture_of_diffusers() -> None:
    weight = gaussian(97, 0)
    sigma = 0.1 * 97
    assert weight[48] == 1
    torch.testing.assert_close(
        weight[48 + 10], torch.exp(torch.tensor(-0.5 * (10 / sigma) ** 2, dtype=torch.float64))
    )
