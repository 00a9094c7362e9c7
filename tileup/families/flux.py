"""The transformer of FLUX.1 dev and schnell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tileup.contracts import Box, Encoded, Scene
from tileup.errors import ModelError
from tileup.families.transformer import flow_time, padded, text_rows
from tileup.tensors.filling import Placing, build
from tileup.tensors.renaming import Rule, converted, layer
from tileup.tensors.shapes import block_count, shape
from tileup.torchvision_shield import shield_torchvision

if TYPE_CHECKING:
    from diffusers import FluxTransformer2DModel

PATCH = 2
"""Cells that a token is wide and high."""
GUIDANCE = 3.5
"""What FLUX dev is told where the user says nothing: the default of its authors."""
ROTATED = (16, 56, 56)
"""Features of a head that turn with the picture's number (always 0), the row and the column."""
MLP = 4
"""Width of the perceptrons in units of the network's."""


@dataclass(frozen=True, slots=True)
class FluxNetwork:
    """Predicts the velocity, noise - x0.

    Positions are counted from (0, 0) in every window: each is shown as a picture of its own,
    wherever it lies on the canvas. In training every picture began at (0, 0), where the text's
    tokens are too, and none was larger than about two megapixels. Rotary positions only tell
    distances, so shifting a window by its place would leave distances within the picture as they
    are, but put the text far away from it, at distances that the network has never seen.

    In half precision flow time and guidance are rounded to it before they are multiplied by a
    thousand, as in the program of the network's authors.
    """

    transformer: FluxTransformer2DModel
    dtype: torch.dtype
    """What it computes in."""
    device: str
    guided: bool
    """Whether it is told a guidance (dev) or not (schnell)."""

    def __call__(
        self, x: Tensor, sigma: Tensor, windows: Sequence[Box], text: Encoded, scene: Scene
    ) -> Tensor:
        """The velocity of each row, shape and dtype of `x`, which is `(1 - s) x0 + s noise`.

        Odd sides are continued by one cell, which is cut off again.
        """
        height, width = x.shape[-2:]
        cells = padded(x, PATCH).to(self.device, self.dtype)
        rows, columns = cells.shape[-2] // PATCH, cells.shape[-1] // PATCH
        tokens, pooled = text_rows(text, len(x), self.dtype, self.device)
        with torch.no_grad():
            velocity: Tensor = self.transformer(
                hidden_states=packed(cells),
                timestep=flow_time(sigma, self.device),
                guidance=self._guidance(scene, len(x)),
                encoder_hidden_states=tokens,
                pooled_projections=pooled,
                img_ids=positions(rows, columns).to(self.device),
                txt_ids=torch.zeros(tokens.shape[1], 3, device=self.device),
                return_dict=False,
            )[0]
        return unpacked(velocity, rows, columns)[..., :height, :width].to(x)

    def _guidance(self, scene: Scene, rows: int) -> Tensor | None:
        if not self.guided:
            return None
        told = scene.wish.guidance
        return torch.full((rows,), GUIDANCE if told is None else told, device=self.device)


def packed(cells: Tensor) -> Tensor:
    """Tokens, shape (B, h / 2 * w / 2, 4 C), of latents, shape (B, C, h, w)."""
    batch, channels, height, width = cells.shape
    split = cells.view(batch, channels, height // PATCH, PATCH, width // PATCH, PATCH)
    return split.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * PATCH**2)


def unpacked(tokens: Tensor, rows: int, columns: int) -> Tensor:
    """Latents, shape (B, C, 2 rows, 2 columns), of tokens: the inverse of `packed`."""
    split = tokens.view(len(tokens), rows, columns, -1, PATCH, PATCH)
    return split.permute(0, 3, 1, 4, 2, 5).reshape(len(tokens), -1, rows * PATCH, columns * PATCH)


def positions(rows: int, columns: int) -> Tensor:
    """(0, row, column) of each token, counted from (0, 0), shape (rows * columns, 3)."""
    row, column = torch.arange(rows), torch.arange(columns)
    grid = torch.cartesian_prod(row, column)
    return torch.cat([torch.zeros(len(grid), 1), grid], dim=1)


def load_flux(
    tensors: Mapping[str, Tensor],
    *,
    dtype: torch.dtype,
    device: str,
    offload: bool = False,
    name: str = "the FLUX transformer",
) -> FluxNetwork:
    """The network with these weights; its sizes are read from them.

    Args:
        tensors: in the original layout (`double_blocks.…`) or in diffusers'
            (`transformer_blocks.…`), without a common prefix. Matrices stored in fp8 stay
            so and are cast whenever they are used; the rest is cast now.
        dtype: precision to compute in.
        device: where it runs.
        offload: keep the weights in main memory, and bring each layer's to the device only while
            it runs: slow, for devices with little memory.
        name: what messages call the checkpoint.

    Raises:
        ModelError: tensors are missing, unexpected, of the wrong shape, or not finite; or the
            network is one that takes a second picture (Fill, Canny, Depth).
    """
    state, origin = dict(tensors), dict[str, str]()
    if any(each.startswith("double_blocks.") for each in tensors):
        width, _ = shape(tensors, "img_in.weight", 2, name)
        state, origin = converted(tensors, flux_rules(tensors, width), name)
    config = flux_config(state, name)
    shield_torchvision()
    from diffusers import FluxTransformer2DModel

    transformer = build(
        lambda: FluxTransformer2DModel(**config),
        state,
        name,
        Placing(dtype, device, float8=True, offload=offload),
        origin=origin,
    )
    return FluxNetwork(transformer, dtype, device, config["guidance_embeds"])


def flux_config(state: Mapping[str, Tensor], name: str) -> dict[str, Any]:
    """diffusers' settings of the network, from the shapes of its weights under diffusers' names."""
    width, inputs = shape(state, "x_embedder.weight", 2, name)
    outputs, _ = shape(state, "proj_out.weight", 2, name)
    if inputs != outputs:
        raise ModelError(
            f"{name} takes {inputs} numbers for each token and gives {outputs}: it is a variant for"
            f" inpainting or control, which tileup does not support"
        )
    stack = (
        "transformer_blocks"
        if block_count(state, "transformer_blocks")
        else "single_transformer_blocks"
    )
    (head,) = shape(state, f"{stack}.0.attn.norm_q.weight", 1, name)
    if head != sum(ROTATED) or width % head:
        raise ModelError(
            f"{name}: attention heads of {head} features in a width of {width}, where FLUX has"
            f" heads of {sum(ROTATED)}"
        )
    return {
        "patch_size": 1,  # diffusers packs the patches before it calls the network
        "in_channels": inputs,
        "out_channels": outputs,
        "num_layers": block_count(state, "transformer_blocks"),
        "num_single_layers": block_count(state, "single_transformer_blocks"),
        "attention_head_dim": head,
        "num_attention_heads": width // head,
        "joint_attention_dim": shape(state, "context_embedder.weight", 2, name)[1],
        "pooled_projection_dim": shape(
            state, "time_text_embed.text_embedder.linear_1.weight", 2, name
        )[1],
        "guidance_embeds": any(".guidance_embedder." in each for each in state),
        "axes_dims_rope": ROTATED,
    }


def flux_rules(names: Mapping[str, Tensor], width: int) -> Iterator[Rule]:
    """Original names to diffusers', for a transformer with the blocks that the names tell of."""
    yield from layer("img_in", "x_embedder")
    yield from layer("txt_in", "context_embedder")
    embedders = {"time_in": "timestep_embedder", "vector_in": "text_embedder"}
    if any(each.startswith("guidance_in.") for each in names):
        embedders["guidance_in"] = "guidance_embedder"
    for original, ours in embedders.items():
        yield from layer(f"{original}.in_layer", f"time_text_embed.{ours}.linear_1")
        yield from layer(f"{original}.out_layer", f"time_text_embed.{ours}.linear_2")
    yield from layer("final_layer.linear", "proj_out")
    yield from layer("final_layer.adaLN_modulation.1", "norm_out.linear", swapped=True)
    for index in range(block_count(names, "double_blocks")):
        yield from _double(f"double_blocks.{index}", f"transformer_blocks.{index}")
    for index in range(block_count(names, "single_blocks")):
        yield from _single(f"single_blocks.{index}", f"single_transformer_blocks.{index}", width)


def _double(block: str, ours: str) -> Iterator[Rule]:
    """A block with weights of its own for picture and text."""
    parts = [f"{ours}.attn.{each}" for each in ("to_q", "to_k", "to_v")]
    yield from _stream(f"{block}.img", ours, "", parts, f"{ours}.attn.to_out.0")
    parts = [f"{ours}.attn.add_{each}_proj" for each in ("q", "k", "v")]
    yield from _stream(f"{block}.txt", ours, "_context", parts, f"{ours}.attn.to_add_out")
    for stream, added in (("img", ""), ("txt", "added_")):
        yield from _norms(f"{block}.{stream}_attn.norm", f"{ours}.attn.norm_{added}")


def _stream(stream: str, ours: str, suffix: str, parts: Sequence[str], out: str) -> Iterator[Rule]:
    yield from layer(f"{stream}_mod.lin", f"{ours}.norm1{suffix}.linear")
    yield from layer(f"{stream}_attn.qkv", *parts)
    yield from layer(f"{stream}_attn.proj", out)
    yield from layer(f"{stream}_mlp.0", f"{ours}.ff{suffix}.net.0.proj")
    yield from layer(f"{stream}_mlp.2", f"{ours}.ff{suffix}.net.2")


def _single(block: str, ours: str, width: int) -> Iterator[Rule]:
    """A block for picture and text in one row, attention and perceptron side by side."""
    parts = [f"{ours}.{each}" for each in ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")]
    yield from layer(f"{block}.modulation.lin", f"{ours}.norm.linear")
    yield from layer(f"{block}.linear1", *parts, rows=(width, width, width, MLP * width))
    yield from layer(f"{block}.linear2", f"{ours}.proj_out")
    yield from _norms(f"{block}.norm", f"{ours}.attn.norm_")


def _norms(norm: str, ours: str) -> Iterator[Rule]:
    yield Rule(f"{norm}.query_norm.scale", (f"{ours}q.weight",))
    yield Rule(f"{norm}.key_norm.scale", (f"{ours}k.weight",))
