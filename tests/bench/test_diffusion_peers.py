"""The plain tiled loop of the bench: what it covers, what it counts, and where it arrives."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.diffusion_peers import counted, grid, looped, working_share
from tileup.checkpoints.find import find_model, identify
from tileup.contracts import Box
from tileup.plan.planning import plan_pixels
from tileup.settings.layers import resolve


@pytest.mark.parametrize(("height", "width"), [(64, 64), (65, 117), (116, 200), (30, 300)])
def test_the_grid_is_the_smallest_that_covers(height: int, width: int) -> None:
    side, overlap = 64, 12
    windows = grid(height, width, side, overlap)
    seen = np.zeros((height, width), dtype=bool)
    for box in windows:
        assert box.bottom <= height
        assert box.right <= width
        seen[box.index] = True
    assert seen.all()
    fewest = [1 if n <= side else -(-(n - overlap) // (side - overlap)) for n in (height, width)]
    assert len(windows) == fewest[0] * fewest[1]
    lefts = sorted({box.left for box in windows})
    assert all(b - a <= side - overlap for a, b in itertools.pairwise(lefts))


def test_over_a_network_that_sees_single_cells_it_is_plain_img2img() -> None:
    calls = 0

    def denoiser(x: Tensor, sigma: Tensor, windows: Sequence[Box]) -> Tensor:
        nonlocal calls
        calls += len(windows)
        level = sigma[:, None, None, None]
        return (x + 2 * level**2) / (1 + level**2)

    x = 5 * torch.randn(1, 4, 20, 33, generator=torch.Generator().manual_seed(0))
    sigmas, windows = [5.0, 2.0, 0.7, 0.0], grid(20, 33, 12, 4)
    found = looped(denoiser, x, sigmas, windows, batch=4)
    assert calls == 3 * len(windows) > 3
    whole = looped(denoiser, x, sigmas, [Box(0, 0, 20, 33)], batch=1)
    torch.testing.assert_close(found, whole)
    assert (found - x).abs().max() > 1


def test_a_picture_of_one_strength_works_everywhere_and_saves_nothing_over_one_window() -> None:
    spec = identify(find_model(None))
    side = spec.window // 2
    pixels = np.random.default_rng(0).random((side, side, 3), dtype=np.float32)
    assert counted(pixels, spec, {"min_denoise": 0.8}).ratio == pytest.approx(1)
    flat = np.full_like(pixels, 0.5)
    settings = resolve(spec.family, flags={"min_denoise": 0.2, "max_denoise": 0.8})
    made = plan_pixels(flat, spec.window, spec.window, spec, settings)
    weak = made.itinerary.schedule.starts[0.2]
    assert working_share(made) == (settings.steps - weak) / settings.steps < 1
