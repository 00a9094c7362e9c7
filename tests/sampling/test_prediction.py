"""Every prediction type gives the same denoiser, when the network predicts the same thing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.doubles import MEAN, STD, gaussian_denoiser
from tileup.sampling.prediction import (
    eps_denoiser,
    flow_denoiser,
    per_row,
    v_denoiser,
    x0_denoiser,
)


def eps_network(x: Tensor, sigma: Tensor) -> Tensor:
    """The exact noise prediction for N(MEAN, STD^2), from x / sqrt(sigma^2 + 1)."""
    level = per_row(sigma, x)
    inner = x * (level**2 + 1).sqrt()
    return (inner - gaussian_denoiser(inner, sigma)) / level


def v_network(x: Tensor, sigma: Tensor) -> Tensor:
    """v = alpha * eps - sigma_vp * x0, with alpha = 1 / sqrt(sigma^2 + 1): by definition."""
    level = per_row(sigma, x)
    alpha = 1 / (level**2 + 1).sqrt()
    x0 = gaussian_denoiser(x / alpha, sigma)
    return alpha * eps_network(x, sigma) - level * alpha * x0


def flow_network(x: Tensor, sigma: Tensor) -> Tensor:
    """v = noise - x0 along x = (1 - s) x0 + s noise: by definition."""
    level = per_row(sigma, x)
    s = level / (1 + level)
    x0 = gaussian_denoiser(x / (1 - s), sigma)
    return (x - (1 - s) * x0) / s - x0


@pytest.mark.parametrize("sigma", [0.03, 1.0, 14.6, 9999.0])
@pytest.mark.parametrize(
    ("wrap", "network"),
    [
        (eps_denoiser, eps_network),
        (v_denoiser, v_network),
        (flow_denoiser, flow_network),
        (x0_denoiser, gaussian_denoiser),
    ],
)
def test_a_network_of_any_kind_becomes_the_same_denoiser(wrap, network, sigma: float) -> None:  # noqa: ANN001
    generator = torch.Generator().manual_seed(0)
    levels = torch.tensor([sigma, 2 * sigma], dtype=torch.float64)
    x = (
        MEAN
        + torch.randn(2, 3, 4, 4, generator=generator, dtype=torch.float64)
        * (STD**2 + per_row(levels, torch.zeros(2, 3, 4, 4)) ** 2) ** 0.5
    )
    expected = gaussian_denoiser(x, levels)
    torch.testing.assert_close(wrap(network)(x, levels), expected, atol=1e-6, rtol=1e-9)


def test_eps_and_v_agree_with_k_diffusions_formulas() -> None:
    """k-diffusion's scalings: eps has c_skip 1, c_out -sigma, c_in 1 / sqrt(sigma^2 + 1)."""
    x, sigma = torch.rand(1, 1, 2, 2, dtype=torch.float64), torch.tensor([0.5], dtype=torch.float64)
    seen: list[Tensor] = []

    def network(inner: Tensor, level: Tensor) -> Tensor:
        seen.append(inner)
        return torch.ones_like(inner)

    torch.testing.assert_close(eps_denoiser(network)(x, sigma), x - 0.5)
    torch.testing.assert_close(seen[-1], x / 1.25**0.5)
    torch.testing.assert_close(v_denoiser(network)(x, sigma), x / 1.25 - 0.5 / 1.25**0.5)
    torch.testing.assert_close(flow_denoiser(network)(x, sigma), x / 1.5 - 1 / 3)
    torch.testing.assert_close(seen[-1], x / 1.5)
