"""Contrast and the lattice, in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.training.losses import contrast, lattice_loss, texture_loss


def stripes(amplitude: float) -> torch.Tensor:
    """Latents of columns that are dark and bright in turn, 32 x 40 pixels."""
    pixels = torch.full((1, 3, 32, 40), -amplitude)
    pixels[..., ::2] = amplitude
    return torch.nn.functional.pixel_unshuffle(pixels, 2)


def test_contrast_is_the_difference_of_neighbours() -> None:
    flat = torch.full((1, 12, 16, 20), 0.3)
    assert contrast(flat).max() < 2e-3
    for amplitude in (0.1, 0.4):
        found = contrast(stripes(amplitude))
        assert found.shape == (1, 1, 7, 9)
        torch.testing.assert_close(found, torch.full_like(found, 2 * amplitude), rtol=1e-2, atol=0)
    turned = contrast(stripes(0.4).transpose(2, 3))
    assert turned.shape == (1, 1, 9, 7)


@pytest.mark.parametrize(("strength", "share"), [(0.0, 0), (0.2, 0), (0.5, 0.5), (0.8, 1), (1, 1)])
def test_strength_says_what_contrast_counts(strength: float, share: float) -> None:
    everywhere = torch.full((1, 1, 16, 20), strength)
    found = texture_loss(stripes(0.8), stripes(0.4), everywhere)
    assert found.shape == (1, 1, 7, 9)
    expected = share * np.log((1.6 + 0.02) / (0.8 + 0.02))
    assert found.flatten().tolist() == pytest.approx([expected] * 63, abs=1e-3)
    # Where the stripes lie counts nothing, and half of a picture may start with another strength.
    assert texture_loss(-stripes(0.4), stripes(0.4), everywhere).max() < 1e-6
    everywhere[..., :10] = 0
    half = texture_loss(stripes(0.8), stripes(0.4), everywhere)
    assert half[..., :4].max() == 0
    assert half[..., 5:].flatten().tolist() == pytest.approx([expected] * 28, abs=1e-3)


def test_a_pattern_of_the_lattice_counts_and_the_same_contrast_off_it_does_not() -> None:
    truth = torch.zeros(1, 12, 32, 32)
    rows, columns = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    board = ((rows + columns) % 2 * 2 - 1) * 0.1
    quarter = ((rows // 2 + columns // 2) % 2 * 2 - 1) * 0.1
    grain = 0.1 * torch.randn(64, 64, generator=torch.Generator().manual_seed(3)).sign()
    found = {}
    for name, pattern in (("board", board), ("quarter", quarter), ("grain", grain)):
        pixels = pattern.expand(1, 3, 64, 64).contiguous()
        loss = lattice_loss(torch.nn.functional.pixel_unshuffle(pixels, 2), truth)
        assert loss.shape == (1, 48, 7, 7)
        found[name] = float(loss.mean())
    assert found["board"] == pytest.approx(0.1, rel=1e-4)
    assert found["quarter"] == pytest.approx(0.1, rel=1e-4)
    assert found["grain"] < 0.03
