"""Noise levels of the bundled checkpoint, and the latents it works on."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional

from tileup.families.residual_unet import Architecture
from tileup.families.texture import TextureRange

STRIDE = 2
SIGMA_MIN, SIGMA_MAX = 0.008, 0.7  # for pixels in [-1, 1]
ARCHITECTURE = Architecture(
    channels=3 * STRIDE**2,
    widths=(32, 64, 128),
    down_blocks=(0, 1, 4),
    up_blocks=(1, 2),
    residual_std=0.08,
)
TEXTURE_RANGE = TextureRange(start=0.2, full=0.6)
"""Strengths between which the amount of texture grows. A quadtree's busy tiles have 0.6 to 0.8, and
shall look alike."""


def sigma_of(denoise: Tensor) -> Tensor:
    """Noise level of a strength in [0, 1]: geometric between the two ends."""
    return SIGMA_MIN * (SIGMA_MAX / SIGMA_MIN) ** denoise


def denoise_of(sigma: Tensor) -> Tensor:
    """The strength whose noise level that is."""
    return (sigma / SIGMA_MIN).log() / math.log(SIGMA_MAX / SIGMA_MIN)


def latents(pixels: Tensor) -> Tensor:
    """uint8 (..., H, W, 3) to latents in [-1, 1], (..., 12, H / 2, W / 2)."""
    planes = pixels.movedim(-1, -3).float() / 127.5 - 1
    return functional.pixel_unshuffle(planes, STRIDE)
