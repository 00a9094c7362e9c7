"""What counts beside the error of each pixel: contrast, and patterns of the network's lattice."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from models.training.levels import STRIDE

TEXTURE = 0.05
"""What the contrast of the strongest start counts beside the error of the pixels."""
LATTICE = 4.0
"""What patterns of the network's own lattice count beside the error of the pixels."""


def contrast(latents: Tensor) -> Tensor:
    """Root mean square of the differences of neighbours in brightness, around every fourth pixel.

    Args:
        latents: shape (B, 12, h, w); the window is 8 pixels of 2 h by 2 w.
    """
    pixels = functional.pixel_shuffle(latents, STRIDE)
    luma = pixels[:, :1] * 0.299 + pixels[:, 1:2] * 0.587 + pixels[:, 2:] * 0.114
    right, down = luma[..., :-1, 1:] - luma[..., :-1, :-1], luma[..., 1:, :-1] - luma[..., :-1, :-1]
    energy = functional.pad(right.square() + down.square(), (0, 1, 0, 1), mode="replicate")
    return (functional.avg_pool2d(energy, 8, 4) + 1e-6).sqrt()


def lattice_loss(prediction: Tensor, truth: Tensor) -> Tensor:
    """How far each place of the 4 by 4 grid of pixels is from the truth, on average around it.

    A network that is asked for contrast finds the cheapest: a faint pattern that repeats with its
    own lattice. Such a pattern has a mean at each place of the lattice; textures hardly have.

    Args:
        prediction: shape (B, 12, h, w), h and w at least 8.
        truth: the same.

    Returns:
        Shape (B, 48, m, n).
    """
    apart = functional.pixel_unshuffle(prediction - truth, 2)
    return functional.avg_pool2d(apart, 4, 2).abs()


def texture_loss(prediction: Tensor, truth: Tensor, strength: Tensor) -> Tensor:
    """How far contrasts are apart, in logarithms; nothing up to a strength of 0.2, all from 0.8.

    Args:
        prediction: shape (B, 12, h, w).
        truth: the same.
        strength: with which each place started, [0, 1], shape (B, 1, h, w).

    Returns:
        Shape (B, 1, m, n).
    """
    weight = functional.avg_pool2d(((strength - 0.2) / 0.6).clamp(0, 1), 4, 2)
    apart = (contrast(prediction) + 0.02).log() - (contrast(truth) + 0.02).log()
    return apart.abs() * weight
