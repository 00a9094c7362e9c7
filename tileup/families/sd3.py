"""The transformer of SD 3 and SD 3.5: Esser et al. (2024), arXiv 2403.03206."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tileup.contracts import Box, Encoded, Scene
from tileup.errors import ModelError, UsageError
from tileup.families.transformer import flow_time, padded, text_rows
from tileup.tensors.filling import Placing, build
from tileup.tensors.renaming import Rule, converted, layer
from tileup.tensors.shapes import block_count, blocks_with, shape
from tileup.torchvision_shield import shield_torchvision

if TYPE_CHECKING:
    from diffusers import SD3Transformer2DModel

HEAD = 64
"""Features of an attention head in SD 3, whose file does not tell."""
TRAINING_STEPS = 1000
"""The network is told the flow time in thousandths."""


@dataclass(frozen=True, slots=True)
class SD3Network:
    """Predicts the velocity, noise - x0.

    Positions come from a table of the network, cut out around its centre: that is how it was
    trained for pictures of any shape. Every window is shown as a picture of its own, because
    the network learned whole pictures: it takes its middle for the middle of the motif. Windows
    placed where they lie on the canvas would leave the trained part of the table, and on large
    canvases the table itself.
    """

    transformer: SD3Transformer2DModel
    dtype: torch.dtype
    """What it computes in."""
    device: str
    patch: int
    """Cells that a token is wide and high."""
    table: int
    """Tokens that a window may be wide or high."""

    def __call__(
        self, x: Tensor, sigma: Tensor, windows: Sequence[Box], text: Encoded, scene: Scene
    ) -> Tensor:
        """The velocity of each row, shape and dtype of `x`, which is `(1 - s) x0 + s noise`.

        Sides that are no multiple of the patch are continued to the next one, and cut off again.

        Raises:
            UsageError: a window is larger than the table of positions.
        """
        height, width = x.shape[-2:]
        if max(height, width) > self.patch * self.table:
            raise UsageError(
                f"this network has positions for windows of {self.patch * self.table} latent cells"
                f" at most, and was given one of {height} x {width}; choose a smaller --window"
            )
        tokens, pooled = text_rows(text, len(x), self.dtype, self.device)
        with torch.no_grad():
            velocity: Tensor = self.transformer(
                hidden_states=padded(x, self.patch).to(self.device, self.dtype),
                timestep=flow_time(sigma, self.device) * TRAINING_STEPS,
                encoder_hidden_states=tokens,
                pooled_projections=pooled,
                return_dict=False,
            )[0]
        return velocity[..., :height, :width].to(x)


def load_sd3(
    tensors: Mapping[str, Tensor],
    *,
    dtype: torch.dtype,
    device: str,
    offload: bool = False,
    name: str = "the SD 3 transformer",
) -> SD3Network:
    """The network with these weights; its sizes are read from them.

    Args:
        tensors: in the original layout (`joint_blocks.…`) or in diffusers'
            (`transformer_blocks.…`), without a common prefix. Matrices stored in fp8 stay
            so and are cast whenever they are used; the rest is cast now.
        dtype: precision to compute in.
        device: where it runs.
        offload: keep the weights in main memory, and bring each layer's to the device only while
            it runs: slow, for devices with little memory.
        name: what messages call the checkpoint.

    Raises:
        ModelError: tensors are missing, unexpected, of the wrong shape, or not finite.
    """
    state, origin = dict(tensors), dict[str, str]()
    if any(each.startswith("joint_blocks.") for each in tensors):
        state, origin = converted(tensors, sd3_rules(tensors), name)
    config = sd3_config(state, name)
    shield_torchvision()
    from diffusers import SD3Transformer2DModel

    transformer = build(
        lambda: SD3Transformer2DModel(**config),
        state,
        name,
        Placing(dtype, device, float8=True, offload=offload),
        origin=origin,
    )
    return SD3Network(
        transformer, dtype, device, config["patch_size"], config["pos_embed_max_size"]
    )


def sd3_config(state: Mapping[str, Tensor], name: str) -> dict[str, Any]:
    """diffusers' settings of the network, from the shapes of its weights under diffusers' names."""
    width, channels, patch, _ = shape(state, "pos_embed.proj.weight", 4, name)
    _, positions, _ = shape(state, "pos_embed.pos_embed", 3, name)
    table = math.isqrt(positions)
    if table**2 != positions:
        raise ModelError(f"{name} does not fit together: {positions} positions form no square")
    context, features = shape(state, "context_embedder.weight", 2, name)
    outputs, _ = shape(state, "proj_out.weight", 2, name)
    norm = "transformer_blocks.0.attn.norm_q.weight"
    head = shape(state, norm, 1, name)[0] if norm in state else HEAD
    if width % head or outputs % patch**2:
        raise ModelError(
            f"{name} does not fit together: a width of {width} is not divisible into heads of"
            f" {head}, or {outputs} outputs into patches of {patch} x {patch}"
        )
    return {
        "sample_size": table * patch,
        "patch_size": patch,
        "in_channels": channels,
        "out_channels": outputs // patch**2,
        "num_layers": block_count(state, "transformer_blocks"),
        "attention_head_dim": head,
        "num_attention_heads": width // head,
        "joint_attention_dim": features,
        "caption_projection_dim": context,
        "pooled_projection_dim": shape(
            state, "time_text_embed.text_embedder.linear_1.weight", 2, name
        )[1],
        "pos_embed_max_size": table,
        "dual_attention_layers": blocks_with(state, "transformer_blocks", "attn2"),
        "qk_norm": "rms_norm" if norm in state else None,
    }


def sd3_rules(names: Mapping[str, Tensor]) -> Iterator[Rule]:
    """Original names to diffusers', for a transformer with the blocks that the names tell of."""
    depth = block_count(names, "joint_blocks")
    normed = any(".ln_q." in each for each in names)
    dual = blocks_with(names, "joint_blocks", "attn2")
    embed = "time_text_embed"
    yield Rule("pos_embed", ("pos_embed.pos_embed",))
    yield from layer("x_embedder.proj", "pos_embed.proj")
    yield from layer("context_embedder", "context_embedder")
    for original, ours in (("t_embedder", "timestep_embedder"), ("y_embedder", "text_embedder")):
        yield from layer(f"{original}.mlp.0", f"{embed}.{ours}.linear_1")
        yield from layer(f"{original}.mlp.2", f"{embed}.{ours}.linear_2")
    yield from layer("final_layer.linear", "proj_out")
    yield from layer("final_layer.adaLN_modulation.1", "norm_out.linear", swapped=True)
    for index in range(depth):
        block, ours = f"joint_blocks.{index}", f"transformer_blocks.{index}"
        yield from _picture_side(f"{block}.x_block", ours, normed, index in dual)
        yield from _text_side(f"{block}.context_block", ours, normed, index == depth - 1)


def _picture_side(block: str, ours: str, normed: bool, dual: bool) -> Iterator[Rule]:
    yield from layer(f"{block}.adaLN_modulation.1", f"{ours}.norm1.linear")
    for attention in ("attn", "attn2") if dual else ("attn",):
        parts = [f"{ours}.{attention}.{each}" for each in ("to_q", "to_k", "to_v")]
        yield from layer(f"{block}.{attention}.qkv", *parts)
        yield from layer(f"{block}.{attention}.proj", f"{ours}.{attention}.to_out.0")
        for each in "qk" if normed else "":
            target = f"{ours}.{attention}.norm_{each}.weight"
            yield Rule(f"{block}.{attention}.ln_{each}.weight", (target,))
    yield from layer(f"{block}.mlp.fc1", f"{ours}.ff.net.0.proj")
    yield from layer(f"{block}.mlp.fc2", f"{ours}.ff.net.2")


def _text_side(block: str, ours: str, normed: bool, last: bool) -> Iterator[Rule]:
    """The last block only hands the text to the attention, and changes it no more."""
    yield from layer(f"{block}.adaLN_modulation.1", f"{ours}.norm1_context.linear", swapped=last)
    yield from layer(
        f"{block}.attn.qkv", *(f"{ours}.attn.add_{each}_proj" for each in ("q", "k", "v"))
    )
    for each in "qk" if normed else "":
        yield Rule(f"{block}.attn.ln_{each}.weight", (f"{ours}.attn.norm_added_{each}.weight",))
    if not last:
        yield from layer(f"{block}.attn.proj", f"{ours}.attn.to_add_out")
        yield from layer(f"{block}.mlp.fc1", f"{ours}.ff_context.net.0.proj")
        yield from layer(f"{block}.mlp.fc2", f"{ours}.ff_context.net.2")
