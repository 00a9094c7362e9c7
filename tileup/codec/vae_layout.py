"""What the tensors of a VAE say about it: its layout, widths and depth. No torch is needed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tileup.errors import ModelError

GROUPS = 32
"""Groups of every GroupNorm; no tensor tells, and every published VAE of this kind has 32."""
LATENTS_IN = "decoder.conv_in.weight"
"""A tensor that every VAE has but one: the first that sees latents."""
BEGINNINGS = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")
"""Beginnings of the names that belong to the VAE: training files also hold losses and averages."""


@dataclass(frozen=True, slots=True)
class VaeLayout:
    """An AutoencoderKL, as far as it must be known before its tensors are loaded."""

    diffusers: bool
    """Named as diffusers does (`decoder.up_blocks.0`), and not as the original (`decoder.up.3`)."""
    widths: tuple[int, ...]
    """Channels of each level, finest first."""
    depth: int
    """Residual blocks of a level of the encoder; the decoder has one more."""
    channels: int
    """Channels of a latent cell."""
    quant: bool
    """With 1 x 1 convolutions around the latents."""
    attention: bool
    """With attention in the middle block."""

    @property
    def stride(self) -> int:
        """Pixels per latent cell."""
        return 2 ** (len(self.widths) - 1)

    def config(self) -> dict[str, Any]:
        """Arguments of diffusers' AutoencoderKL."""
        levels = len(self.widths)
        return {
            "down_block_types": ("DownEncoderBlock2D",) * levels,
            "up_block_types": ("UpDecoderBlock2D",) * levels,
            "block_out_channels": self.widths,
            "layers_per_block": self.depth,
            "latent_channels": self.channels,
            "norm_num_groups": GROUPS,
            "use_quant_conv": self.quant,
            "use_post_quant_conv": self.quant,
            "mid_block_add_attention": self.attention,
        }


def vae_layout(shapes: Mapping[str, tuple[int, ...]]) -> VaeLayout:
    """Read the layout from names and shapes of tensors, without a prefix on the names.

    Raises:
        ModelError: they are no VAE of the kind that SD, SDXL, SD 3 and FLUX have.
    """
    diffusers = any(name.startswith("decoder.up_blocks.") for name in shapes)
    level = "encoder.down_blocks.{}.resnets" if diffusers else "encoder.down.{}.block"
    mid = "decoder.mid_block.attentions.0." if diffusers else "decoder.mid.attn_1."
    widths: list[int] = []
    while first := shapes.get(f"{level.format(len(widths))}.0.conv1.weight"):
        widths.append(first[0])
    latents = shapes.get(LATENTS_IN, ())
    if not widths or len(latents) != 4:
        raise ModelError(
            "there is no VAE among the tensors: encoder.conv_in and decoder.conv_in with the blocks"
            " of an AutoencoderKL are needed; give one with --vae"
        )
    if any(width % GROUPS for width in widths):
        raise ModelError(f"the VAE's widths {widths} are not multiples of {GROUPS}")
    block = re.compile(re.escape(level.format(0)) + r"\.(\d+)\.conv1\.weight")
    return VaeLayout(
        diffusers=diffusers,
        widths=tuple(widths),
        depth=sum(block.fullmatch(name) is not None for name in shapes),
        channels=latents[1],
        quant="post_quant_conv.weight" in shapes,
        attention=any(name.startswith(mid) for name in shapes),
    )
