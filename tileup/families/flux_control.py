"""ControlNets of FLUX.1: what they add to the transformer that is shown the enlarged picture.

A ControlNet is a copy of the transformer's first blocks that also sees a hint, and adds residuals
behind its blocks. Those called upscaler or tile are trained to keep what the picture shows, so the
hint is the picture itself: its latents, of each window its own part.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from tileup.errors import ModelError
from tileup.families.control_signs import FLUX_HINT as HINT
from tileup.families.control_signs import FLUX_MODES as MODES
from tileup.families.control_signs import FLUX_TILE as TILE
from tileup.families.family import POOLED, Building, ControlFile
from tileup.families.flux_heads import ROTATED, guidance_of, head_of
from tileup.families.transformer import Seen, acting, packed, places, transformer_of, whole_text
from tileup.tensors.shapes import block_count, shape


@dataclass(frozen=True, slots=True)
class FluxControl:
    """A ControlNet that satisfies `transformer.Control`."""

    module: nn.Module
    """diffusers' FluxControlNetModel."""
    scale: float
    """Factor of its residuals."""
    modes: int | None
    """Kinds of hint that it takes, where it is several in one."""

    def __call__(self, seen: Seen, hint: Tensor, acts: Tensor) -> Mapping[str, object]:
        """Residuals by the transformer's names for them, 0 for rows in which it does not act."""
        mode = None if self.modes is None else torch.full((len(acts), 1), TILE).to(seen.time.device)
        blocks, singles = self.module(
            hidden_states=packed(seen.cells),
            controlnet_cond=packed(hint),
            controlnet_mode=mode,
            conditioning_scale=self.scale,
            timestep=seen.time,
            guidance=guidance_of(self.module, seen),
            encoder_hidden_states=seen.tokens,
            pooled_projections=whole_text(seen),
            **places(seen),
            return_dict=False,
        )
        return {
            "controlnet_block_samples": None if blocks is None else acting(blocks, acts),
            "controlnet_single_block_samples": None if singles is None else acting(singles, acts),
        }


def load_flux_control(file: ControlFile, how: Building) -> FluxControl:
    """A ControlNet from a file's tensors, which published ones have under diffusers' names.

    Raises:
        ModelError: it is another kind of control or none at all; tensors are missing, of a wrong
            shape, or not finite.
    """
    tensors, name = file.tensors, file.name
    if HINT not in tensors or any(each.startswith("input_hint_block.") for each in tensors):
        raise ModelError(
            f"{name} is not a ControlNet of FLUX.1 that reads latents, as those called upscaler,"
            f" tile and union do; give one of these"
        )
    config = flux_control_config(tensors, name)
    module = transformer_of("FluxControlNetModel", config, tensors, replace(how, name=name), {})
    return FluxControl(module, file.scale, config["num_mode"])


def flux_control_config(state: Mapping[str, Tensor], name: str) -> dict[str, Any]:
    """diffusers' settings of a ControlNet, from the shapes of its weights.

    Raises:
        ModelError: a tensor that decides is missing, or it knows too few kinds of hint.
    """
    width, inputs = shape(state, "x_embedder.weight", 2, name)
    modes = shape(state, MODES, 2, name)[0] if MODES in state else None
    if modes is not None and modes <= TILE:
        raise ModelError(f"{name} is a union ControlNet without tile; give one that has it")
    head = head_of(state, width, name)
    return {
        "patch_size": 1,
        "in_channels": inputs,
        "num_layers": block_count(state, "transformer_blocks"),
        "num_single_layers": block_count(state, "single_transformer_blocks"),
        "attention_head_dim": head,
        "num_attention_heads": width // head,
        "joint_attention_dim": shape(state, "context_embedder.weight", 2, name)[1],
        "pooled_projection_dim": shape(state, POOLED, 2, name)[1],
        "guidance_embeds": any(".guidance_embedder." in each for each in state),
        "axes_dims_rope": [*ROTATED],
        "num_mode": modes,
    }
