"""A transformer of SD 3 in the layout of its authors, small, with random weights."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from tests.checkpoints.layouts.weights import linear, random_weights
from tileup.families.sd3 import sd3_rules
from tileup.tensors.renaming import converted

CHANNELS, PATCH = 16, 2
FEATURES, POOLED = 32, 24
"""Of a text token, and of the whole text."""
HEAD = 64


def sd3_transformer(
    depth: int = 2,
    *,
    width: int = 128,
    table: int = 12,
    qk_norm: bool = False,
    dual: int = 0,
    features: int = FEATURES,
    pooled: int = POOLED,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> dict[str, Tensor]:
    """Weights by their original names, without a prefix.

    Args:
        depth: joint blocks.
        width: features of a token, a multiple of 64.
        table: side of the square of positions, in tokens.
        qk_norm: as in SD 3.5.
        dual: how many blocks, from the first, have a second attention, as in SD 3.5 medium.
        features, pooled: of a text token, and of the whole text.
    """
    shapes = sd3_shapes(depth, width, table, qk_norm, dual, features, pooled)
    return random_weights(shapes, seed, dtype)


def sd3_shapes(
    depth: int,
    width: int,
    table: int,
    qk_norm: bool,
    dual: int,
    features: int = FEATURES,
    pooled: int = POOLED,
) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "pos_embed", (1, table**2, width)
    yield "x_embedder.proj.weight", (width, CHANNELS, PATCH, PATCH)
    yield "x_embedder.proj.bias", (width,)
    yield from linear("t_embedder.mlp.0", width, 256)
    yield from linear("t_embedder.mlp.2", width, width)
    yield from linear("y_embedder.mlp.0", width, pooled)
    yield from linear("y_embedder.mlp.2", width, width)
    yield from linear("context_embedder", width, features)
    for index in range(depth):
        block, last = f"joint_blocks.{index}", index == depth - 1
        yield from _side(f"{block}.x_block", width, qk_norm, 9 if index < dual else 6)
        if index < dual:
            yield from _attention(f"{block}.x_block.attn2", width, qk_norm, True)
        yield from _side(f"{block}.context_block", width, qk_norm, 2 if last else 6)
    yield from linear("final_layer.adaLN_modulation.1", 2 * width, width)
    yield from linear("final_layer.linear", PATCH**2 * CHANNELS, width)


def _side(
    block: str, width: int, qk_norm: bool, modulations: int
) -> Iterator[tuple[str, tuple[int, ...]]]:
    whole = modulations > 2
    yield from linear(f"{block}.adaLN_modulation.1", modulations * width, width)
    yield from _attention(f"{block}.attn", width, qk_norm, whole)
    if whole:
        yield from linear(f"{block}.mlp.fc1", 4 * width, width)
        yield from linear(f"{block}.mlp.fc2", width, 4 * width)


def _attention(
    name: str, width: int, qk_norm: bool, whole: bool
) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield from linear(f"{name}.qkv", 3 * width, width)
    if qk_norm:
        yield f"{name}.ln_q.weight", (HEAD,)
        yield f"{name}.ln_k.weight", (HEAD,)
    if whole:
        yield from linear(f"{name}.proj", width, width)


def sd3_control(depth: int = 2, seed: int = 6, **sizes: int) -> dict[str, Tensor]:
    """A ControlNet of such a transformer, with its authors' names for what both have.

    The block behind its last is there too, as the last has no text behind it.
    """
    plain = sd3_transformer(depth + 1, seed=seed, **sizes)  # type: ignore[arg-type]
    width = plain["x_embedder.proj.bias"].shape[0]
    shapes = {"pos_embed_input.proj.weight": (width, CHANNELS, PATCH, PATCH)}
    shapes |= {"pos_embed_input.proj.bias": (width,)}
    for index in range(depth):
        shapes |= dict(linear(f"controlnet_blocks.{index}", width, width))
    return plain | random_weights(shapes.items(), seed + 1)


def sd35_control(depth: int = 2, width: int = 128, pooled: int = POOLED) -> dict[str, Tensor]:
    """A ControlNet of SD 3.5 large as its authors name it: no text, and no embedding of latents."""
    return random_weights(sd35_control_shapes(depth, width, pooled), seed=8)


def sd35_control_shapes(
    depth: int, width: int, pooled: int
) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "pos_embed_input.proj.weight", (width, CHANNELS, PATCH, PATCH)
    yield "pos_embed_input.proj.bias", (width,)
    for embedder, features in (("timestep", 256), ("text", pooled)):
        yield from linear(f"time_text_embed.{embedder}_embedder.linear_1", width, features)
        yield from linear(f"time_text_embed.{embedder}_embedder.linear_2", width, width)
    for index in range(depth):
        yield from _side(f"transformer_blocks.{index}", width, False, 6)
        yield from linear(f"controlnet_blocks.{index}", width, width)


def published(control: dict[str, Tensor]) -> dict[str, Tensor]:
    """A ControlNet's tensors as files have them, in diffusers' names."""
    extra = ("controlnet_", "pos_embed_input.")
    own = {name: each for name, each in control.items() if not name.startswith(extra)}
    theirs, _ = converted(own, sd3_rules(own), "control")
    depth = sum(name.startswith("controlnet_") for name in control) // 2
    gone = (f"transformer_blocks.{depth}.", "norm_out.", "proj_out.")
    kept = {name: each for name, each in theirs.items() if not name.startswith(gone)}
    return kept | {name: each for name, each in control.items() if name.startswith(extra)}
