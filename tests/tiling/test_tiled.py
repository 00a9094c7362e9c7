"""The tiled denoiser against the untiled one."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.doubles import Counting, blurring_denoiser, gaussian_denoiser, mixture_denoiser
from tileup.contracts import Box, Denoiser
from tileup.plan.grid import Grid
from tileup.plan.itinerary import Layout
from tileup.plan.shaped_windows import shaped_windows
from tileup.plan.windows import cover
from tileup.tiling.profiles import PROFILES, WindowWeights
from tileup.tiling.tiled import TiledDenoiser

SIGMA = torch.tensor([0.7], dtype=torch.float64)


def canvas(height: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, 3, height, width, generator=generator, dtype=torch.float64)


def tiled(
    inner: Denoiser,
    height: int,
    width: int,
    side: int,
    margin: int,
    *,
    name: str = "feather",
    batch: int = 3,
    shapes: tuple[tuple[int, int], ...] = (),
) -> TiledDenoiser:
    everywhere = Grid.of(np.ones((height, width), dtype=bool))
    windows = cover(everywhere, (side, side), margin)
    if shapes:
        windows = shaped_windows(everywhere, Layout(height, width, side, margin, shapes=shapes))
    raw = WindowWeights(name, 2 * margin, torch.empty(0, dtype=torch.float64))
    return TiledDenoiser(inner, [windows], raw, height=height, width=width, batch=batch)


@pytest.mark.parametrize("name", sorted(PROFILES))
@settings(max_examples=30, deadline=None)
@given(
    height=st.integers(8, 40),
    width=st.integers(8, 40),
    margin=st.integers(0, 3),
    batch=st.integers(1, 5),
    shapes=st.sampled_from([(), ((7, 8), (8, 7))]),
)
def test_tiling_is_invisible_to_a_denoiser_that_works_cell_by_cell(
    name: str, height: int, width: int, margin: int, batch: int, shapes: tuple[tuple[int, int], ...]
) -> None:
    x = canvas(height, width)
    denoiser = tiled(
        mixture_denoiser, height, width, 8, margin, name=name, batch=batch, shapes=shapes
    )
    expected = mixture_denoiser(x, SIGMA)
    torch.testing.assert_close(denoiser(x, SIGMA), expected, atol=1e-12, rtol=0)
    assert (expected - x).abs().max() > 0.1, "the denoiser does something"


def test_any_layout_of_windows_that_covers_will_do() -> None:
    windows = [Box(0, 0, 10, 10), Box(0, 3, 10, 13), Box(2, 3, 12, 13), Box(2, 0, 12, 10)]
    denoiser = TiledDenoiser(
        gaussian_denoiser,
        [windows],
        WindowWeights("feather", 4, torch.empty(0, dtype=torch.float64)),
        height=12,
        width=13,
    )
    x = canvas(12, 13)
    torch.testing.assert_close(denoiser(x, SIGMA), gaussian_denoiser(x, SIGMA))


def test_a_receptive_field_inside_the_overlap_is_invisible_in_the_cores() -> None:
    """With `uniform` halves of the overlap replaced by cores nothing would remain; with blending,
    cells nearer to a window's edge than the receptive field see its border, others do not."""
    x = canvas(40, 40)
    expected = blurring_denoiser(x, SIGMA)
    result = tiled(blurring_denoiser, 40, 40, 16, 4)(x, SIGMA)
    unlike = (result - expected).abs().amax(dim=(0, 1)) > 1e-12
    far = torch.ones(40, 40, dtype=torch.bool)
    for box in (each.box for each in tiled(blurring_denoiser, 40, 40, 16, 4).placed):
        for edge in (box.top, box.bottom):
            if 0 < edge < 40:
                far[max(edge - 2, 0) : edge + 2, box.left : box.right] = False
        for edge in (box.left, box.right):
            if 0 < edge < 40:
                far[box.top : box.bottom, max(edge - 2, 0) : edge + 2] = False
    assert not (unlike & far).any()
    assert far.float().mean() > 0.3
    assert unlike.any(), "windows do have borders"


@pytest.mark.parametrize("value", [0.0, 1.0, -3.5])
def test_a_constant_stays_constant(value: float) -> None:
    x = torch.full((1, 2, 30, 25), value, dtype=torch.float64)
    result = tiled(lambda x, sigma, windows: x, 30, 25, 12, 3)(x, SIGMA)
    torch.testing.assert_close(result, x, atol=1e-12, rtol=0)


def test_batches_hold_all_windows_once() -> None:
    x = canvas(40, 40)
    results = []
    for batch in (1, 2, 5, 100):
        counting = Counting(gaussian_denoiser)
        told: list[int] = []
        denoiser = tiled(counting, 40, 40, 16, 4, batch=batch)
        denoiser.on_windows = told.append
        results.append(denoiser(x, SIGMA))
        assert counting.windows == sum(told) == len(denoiser.placed) == 16
        assert max(counting.batches) <= batch
    for result in results[1:]:
        assert torch.equal(result, results[0])


def test_cells_in_no_window_are_zero() -> None:
    denoiser = TiledDenoiser(
        gaussian_denoiser,
        [[Box(0, 0, 4, 4)]],
        WindowWeights("uniform", 0, torch.empty(0)),
        height=8,
        width=8,
    )
    result = denoiser(canvas(8, 8), SIGMA)
    assert (result[..., 4:, :] == 0).all()
    assert (result[..., :, 4:] == 0).all()
    assert (result[..., :4, :4] != 0).all()
