"""ControlNets of SD 3: what they add to the transformer that is shown the enlarged picture.

They are copies of its first blocks that also see a hint. The one called tile is trained to keep
what the picture shows, so the hint is the picture itself: its latents, of each window its own part.
As its authors do (InstantX/SD3-Controlnet-Tile), the hint's latents are scaled but not shifted, and
in place of the features of the whole text are zeros.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from tileup.errors import ModelError
from tileup.families.family import Building, ControlFile
from tileup.families.sd3_sizes import HEAD, LATENTS, TRAINING_STEPS
from tileup.families.transformer import Seen, transformer_of, whole_text
from tileup.tensors.shapes import block_count, shape

HINT = "pos_embed_input.proj.weight"
"""A tensor that such files have: it reads the hint."""


@dataclass(frozen=True, slots=True)
class SD3Control:
    """A ControlNet that satisfies `transformer.Control`."""

    module: nn.Module
    """diffusers' SD3ControlNetModel."""
    scale: float
    """Factor of its residuals."""

    def __call__(self, seen: Seen, hint: Tensor, acts: Tensor) -> Mapping[str, object]:
        """Residuals by the transformer's name for them, 0 for rows in which it does not act."""
        shift, factor = float(LATENTS.shift), float(LATENTS.scale)  # pyright: ignore[reportArgumentType]
        (blocks,) = self.module(
            hidden_states=seen.cells,
            controlnet_cond=hint + shift * factor,
            conditioning_scale=self.scale,
            encoder_hidden_states=seen.tokens,
            pooled_projections=torch.zeros_like(whole_text(seen)),
            timestep=seen.time * TRAINING_STEPS,
            return_dict=False,
        )
        acting = [each * acts.to(each)[:, None, None] for each in blocks]
        return {"block_controlnet_hidden_states": acting}


def load_sd3_control(file: ControlFile, how: Building) -> SD3Control:
    """A ControlNet from a file's tensors, which published ones have under diffusers' names.

    Raises:
        ModelError: it is another kind of control or none at all; tensors are missing, of a wrong
            shape, or not finite.
    """
    tensors, name = file.tensors, file.name
    if HINT not in tensors:
        raise ModelError(f"{name} is not a ControlNet of SD 3; give one, such as tile")
    if "context_embedder.weight" not in tensors or "pos_embed.pos_embed" not in tensors:
        raise ModelError(
            f"{name} is a ControlNet of SD 3.5 large that reads no text, which tileup cannot use;"
            f" give one of SD 3, such as tile"
        )
    config = sd3_control_config(tensors, name)
    module = transformer_of("SD3ControlNetModel", config, tensors, replace(how, name=name), {})
    return SD3Control(module, file.scale)


def sd3_control_config(state: Mapping[str, Tensor], name: str) -> dict[str, Any]:
    """diffusers' settings of a ControlNet, from the shapes of its weights.

    Raises:
        ModelError: a tensor that decides is missing, or its hint is no latents alone.
    """
    width, channels, patch, _ = shape(state, "pos_embed.proj.weight", 4, name)
    _, positions, _ = shape(state, "pos_embed.pos_embed", 3, name)
    table = math.isqrt(positions)
    hints = shape(state, HINT, 4, name)[1]
    if hints != channels or table**2 != positions or width % HEAD:
        raise ModelError(
            f"{name} does not fit together, or reads a mask besides: {hints} channels of a hint for"
            f" {channels} of latents, {positions} positions, a width of {width}"
        )
    context, features = shape(state, "context_embedder.weight", 2, name)
    pooled = "time_text_embed.text_embedder.linear_1.weight"
    norm = "transformer_blocks.0.attn.norm_q.weight"
    return {
        "sample_size": table * patch,
        "patch_size": patch,
        "in_channels": channels,
        "num_layers": block_count(state, "transformer_blocks"),
        "attention_head_dim": HEAD,
        "num_attention_heads": width // HEAD,
        "joint_attention_dim": features,
        "caption_projection_dim": context,
        "pooled_projection_dim": shape(state, pooled, 2, name)[1],
        "pos_embed_max_size": table,
        "qk_norm": "rms_norm" if norm in state else None,
    }
