"""A small VAE with random weights, its tensors named as in the original single-file checkpoints.

The names are those of `first_stage_model.` in SD 1, SD 2, SDXL and SD 3 files and of FLUX's
`ae.safetensors`, without any prefix.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

MULTIPLIERS = (1, 2, 4, 4)
"""Widths of the levels, finest first, in multiples of the first."""
BLOCKS = 2
"""Residual blocks of a level of the encoder; the decoder has one more."""


def vae_state_dict(
    width: int = 32,
    latent_channels: int = 4,
    quant: bool = True,
    seed: int = 0,
    multipliers: Sequence[int] = MULTIPLIERS,
    attention: bool = True,
) -> dict[str, Tensor]:
    """Tensors of an encoder and a decoder, float32.

    Args:
        width: channels of the finest level; a multiple of 32, which GroupNorm's groups need.
        latent_channels: 4 in SD 1, SD 2 and SDXL, 16 in SD 3 and FLUX.
        quant: with the 1 x 1 convolutions around the latents, which SD 3 and FLUX lack.
        seed: of the weights, which keep the size of what passes through.
        multipliers: widths of the levels; one level less halves the stride.
        attention: with the attention of the middle block.
    """
    generator = torch.Generator().manual_seed(seed)
    shapes = dict(_shapes(width, latent_channels, quant, multipliers, attention))
    return {name: _drawn(name, shape, generator) for name, shape in shapes.items()}


def _drawn(name: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    noise = torch.randn(shape, generator=generator)
    if len(shape) == 4:
        return noise / math.sqrt(math.prod(shape[1:]))
    is_gain = "norm" in name and name.endswith("weight")
    return is_gain + 0.1 * noise


Shapes = Iterator[tuple[str, tuple[int, ...]]]


def _shapes(
    width: int, latent: int, quant: bool, multipliers: Sequence[int], attention: bool
) -> Shapes:
    widths = [width * each for each in multipliers]
    yield from _conv("encoder.conv_in", 3, width)
    before = width
    for level, own in enumerate(widths):
        for block in range(BLOCKS):
            yield from _block(f"encoder.down.{level}.block.{block}", before, own)
            before = own
        if level < len(widths) - 1:
            yield from _conv(f"encoder.down.{level}.downsample.conv", own, own)
    yield from _mid("encoder.mid", before, attention)
    yield from _norm("encoder.norm_out", before)
    yield from _conv("encoder.conv_out", before, 2 * latent)

    yield from _conv("decoder.conv_in", latent, before)
    yield from _mid("decoder.mid", before, attention)
    for level, own in reversed(list(enumerate(widths))):
        for block in range(BLOCKS + 1):
            yield from _block(f"decoder.up.{level}.block.{block}", before, own)
            before = own
        if level > 0:
            yield from _conv(f"decoder.up.{level}.upsample.conv", own, own)
    yield from _norm("decoder.norm_out", width)
    yield from _conv("decoder.conv_out", width, 3)
    if quant:
        yield from _conv("quant_conv", 2 * latent, 2 * latent, 1)
        yield from _conv("post_quant_conv", latent, latent, 1)


def _conv(name: str, before: int, after: int, side: int = 3) -> Shapes:
    yield f"{name}.weight", (after, before, side, side)
    yield f"{name}.bias", (after,)


def _norm(name: str, channels: int) -> Shapes:
    yield f"{name}.weight", (channels,)
    yield f"{name}.bias", (channels,)


def _block(name: str, before: int, after: int) -> Shapes:
    yield from _norm(f"{name}.norm1", before)
    yield from _conv(f"{name}.conv1", before, after)
    yield from _norm(f"{name}.norm2", after)
    yield from _conv(f"{name}.conv2", after, after)
    if before != after:
        yield from _conv(f"{name}.nin_shortcut", before, after, 1)


def _mid(name: str, channels: int, attention: bool) -> Shapes:
    yield from _block(f"{name}.block_1", channels, channels)
    if attention:
        yield from _norm(f"{name}.attn_1.norm", channels)
        for each in ("q", "k", "v", "proj_out"):
            yield from _conv(f"{name}.attn_1.{each}", channels, channels, 1)
    yield from _block(f"{name}.block_2", channels, channels)
