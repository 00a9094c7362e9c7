"""What networks predict, brought into one form: x = x0 + sigma * noise, and x0 is predicted.

Each function wraps a network into a denoiser of variance-exploding x. Everything here is float32
or float64, whatever the network computes in.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from tileup.tensors.transfers import to_device

RawNetwork = Callable[[Tensor, Tensor], Tensor]
"""(input in the network's own scale, noise level of each row) -> output, shape of the input."""
Denoise = Callable[[Tensor, Tensor], Tensor]
"""(x, sigma of each row) -> x0."""


def eps_denoiser(network: RawNetwork) -> Denoise:
    """Noise prediction: `x0 = x - sigma * eps`, the network sees `x / sqrt(sigma^2 + 1)`."""

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        level = per_row(sigma, x)
        return x - level * network(x / (level**2 + 1).sqrt(), sigma)

    return denoise


def v_denoiser(network: RawNetwork) -> Denoise:
    """Velocity: `x0 = x / (sigma^2 + 1) - v * sigma / sqrt(sigma^2 + 1)`; the same input as eps.

    Salimans and Ho (2022), arXiv 2202.00512.
    """

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        level = per_row(sigma, x)
        square = level**2 + 1
        return x / square - network(x / square.sqrt(), sigma) * level / square.sqrt()

    return denoise


def flow_denoiser(network: RawNetwork) -> Denoise:
    """Rectified flow: with s = sigma / (1 + sigma), `x0 = x_flow - s * v`, `x_flow = (1 - s) x`.

    1 - s is 1 / (1 + sigma), which keeps its digits near s = 1. In these terms k-diffusion's
    ancestral and SDE samplers are right for flow models; on raw flow times they are not.
    """

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        level = per_row(sigma, x)
        kept = 1 / (1 + level)
        flow = x * kept
        return flow - level * kept * network(flow, sigma)

    return denoise


def x0_denoiser(network: RawNetwork) -> Denoise:
    """The network predicts x0 itself, and takes x as it is."""
    return network


def per_row(sigma: Tensor, x: Tensor) -> Tensor:
    """Noise levels, (B,), in the shape that multiplies `x`, and in its dtype."""
    return to_device(sigma, x.device, x.dtype)[(..., *[None] * (x.ndim - 1))]
