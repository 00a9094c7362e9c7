"""ControlNets of SD 3 and SD 3.5: what they add to the transformer that sees the enlarged picture.

They are copies of its first blocks that also see a hint: latents of the picture itself, of each
window its own part, for those that are trained to keep what the picture shows.

Those of SD 3 that read text (InstantX/SD3-Controlnet-Tile) are shown latents that are scaled but
not shifted, and in place of the features of the whole text zeros, as their authors do.
Those of SD 3.5 large (sd3.5_large_controlnet_blur) read no text: they take the transformer's own
embedding of the latents, positions and all, and the features of the whole text; what they add goes
behind its last block too (Stability-AI/sd3.5, mmditx.py and sd3_impls.py, MIT).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from tileup.errors import ModelError
from tileup.families.control_signs import SD3_HINT as HINT
from tileup.families.control_signs import SD3_KIND as KIND
from tileup.families.control_signs import SD3_KINDS as KINDS
from tileup.families.control_signs import SD3_TEXT as TEXT
from tileup.families.family import POOLED, Building, ControlFile
from tileup.families.sd3_shared import HEAD, LATENTS, TRAINING_STEPS, picture_rules
from tileup.families.transformer import Seen, acting, transformer_of, whole_text
from tileup.tensors.renaming import Rule, converted, layer
from tileup.tensors.shapes import block_count, shape

BLOCKS = "transformer_blocks"
RESIDUALS = "block_controlnet_hidden_states"
"""What diffusers' transformer calls what is added behind its blocks, the last one left out."""
LAST = "behind the last block"
"""What is added there."""


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
        return {RESIDUALS: acting(blocks, acts)}


@dataclass(frozen=True, slots=True)
class TextlessControl:
    """The same of SD 3.5 large."""

    module: nn.Module
    """diffusers' SD3ControlNetModel, without an embedding of latents and without text."""
    scale: float
    """Factor of its residuals."""
    embed: Callable[[Tensor], Tensor]
    """The transformer's embedding of latents, positions with it."""

    def __call__(self, seen: Seen, hint: Tensor, acts: Tensor) -> Mapping[str, object]:
        """Residuals by the transformer's name for them, 0 for rows in which it does not act."""
        (blocks,) = self.module(
            hidden_states=self.embed(seen.cells),
            controlnet_cond=hint,
            conditioning_scale=self.scale,
            pooled_projections=whole_text(seen),
            timestep=seen.time * TRAINING_STEPS,
            return_dict=False,
        )
        added = acting(blocks, acts)
        return {RESIDUALS: added, LAST: added[-1]}


@contextlib.contextmanager
def added_behind(module: nn.Module, residual: object) -> Generator[None]:
    """While it lasts, the picture's tokens behind the last block are changed by a residual.

    Args:
        module: diffusers' SD3Transformer2DModel.
        residual: shape (B, tokens, width); None: nothing is changed.
    """
    if residual is None:
        yield
        return
    last = cast(nn.ModuleList, module.transformer_blocks)[-1]

    def add(block: nn.Module, given: object, found: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        del block, given
        text, picture = found
        return text, picture + cast(Tensor, residual)

    hook = last.register_forward_hook(add)
    try:
        yield
    finally:
        hook.remove()


def load_sd3_control(
    file: ControlFile, how: Building, transformer: nn.Module
) -> SD3Control | TextlessControl:
    """A ControlNet from a file's tensors.

    Args:
        file: in diffusers' names, as published ones of SD 3 are, or in those of SD 3.5's authors.
        how: precision and place.
        transformer: what it acts on.

    Raises:
        ModelError: it is another kind of control or none at all; tensors are missing, of a wrong
            shape, or not finite.
    """
    tensors, name = dict(file.tensors), file.name
    if HINT not in tensors:
        raise ModelError(f"{name} is not a ControlNet of SD 3; give one, such as tile or blur")
    kind = tensors.pop(KIND, None)
    if kind is not None and (hint := KINDS.get(round(float(kind.flatten()[0])))) is not None:
        raise ModelError(
            f"{name} is a ControlNet that is shown {hint}, and tileup has the picture alone; give"
            f" one that keeps what it shows, such as blur"
        )
    how = replace(how, name=name)
    if TEXT in tensors:
        config = sd3_control_config(tensors, name)
        return SD3Control(
            transformer_of("SD3ControlNetModel", config, tensors, how, {}), file.scale
        )
    if any(each.startswith("pos_embed.") for each in tensors):
        raise ModelError(
            f"{name} is a ControlNet of SD 3 that reads no text but embeds latents itself, or lacks"
            f" {TEXT}; give one of InstantX for SD 3, or of Stability AI for SD 3.5 large"
        )
    origin = dict[str, str]()
    if f"{BLOCKS}.0.attn.qkv.weight" in tensors:
        tensors, origin = converted(tensors, textless_rules(tensors), name)
    config = textless_config(tensors, name)
    module = transformer_of("SD3ControlNetModel", config, tensors, how, origin)
    return TextlessControl(module, file.scale, cast(nn.Module, transformer.pos_embed))


def textless_rules(names: Mapping[str, Tensor]) -> Iterator[Rule]:
    """Names of SD 3.5 large's ControlNets to diffusers'."""
    for index in range(block_count(names, BLOCKS)):
        yield from picture_rules(f"{BLOCKS}.{index}", f"{BLOCKS}.{index}", False, False)
        yield from layer(f"controlnet_blocks.{index}", f"controlnet_blocks.{index}")
    yield from layer("pos_embed_input.proj", "pos_embed_input.proj")
    for embedder in ("timestep_embedder", "text_embedder"):
        for number in (1, 2):
            same = f"time_text_embed.{embedder}.linear_{number}"
            yield from layer(same, same)


def textless_config(state: Mapping[str, Tensor], name: str) -> dict[str, Any]:
    """diffusers' settings of a ControlNet of SD 3.5 large, from the shapes of its weights.

    Raises:
        ModelError: a tensor that decides is missing, or they do not fit together.
    """
    width, channels, patch, _ = shape(state, HINT, 4, name)
    if width % HEAD:
        raise ModelError(f"{name} does not fit together: a width of {width}, in heads of {HEAD}")
    return {
        "patch_size": patch,
        "in_channels": channels,
        "num_layers": block_count(state, BLOCKS),
        "attention_head_dim": HEAD,
        "num_attention_heads": width // HEAD,
        "joint_attention_dim": None,
        "pooled_projection_dim": shape(state, POOLED, 2, name)[1],
        "pos_embed_max_size": None,
        "pos_embed_type": None,
        "use_pos_embed": False,
        "force_zeros_for_pooled_projection": False,
    }


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
    context, features = shape(state, TEXT, 2, name)
    norm = "transformer_blocks.0.attn.norm_q.weight"
    return {
        "sample_size": table * patch,
        "patch_size": patch,
        "in_channels": channels,
        "num_layers": block_count(state, BLOCKS),
        "attention_head_dim": HEAD,
        "num_attention_heads": width // HEAD,
        "joint_attention_dim": features,
        "caption_projection_dim": context,
        "pooled_projection_dim": shape(state, POOLED, 2, name)[1],
        "pos_embed_max_size": table,
        "qk_norm": "rms_norm" if norm in state else None,
    }
