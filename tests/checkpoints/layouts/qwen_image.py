"""The transformer of Qwen-Image in the layout of its files, with random weights."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from tests.checkpoints.layouts.weights import linear, random_weights

Shapes = Iterator[tuple[str, tuple[int, ...]]]
CHANNELS = 16
HEAD = 128


def qwen_image_transformer(
    layers: int = 2, *, width: int = 256, features: int = 48, seed: int = 0
) -> dict[str, Tensor]:
    """Weights by their original names, without a prefix.

    Args:
        layers: blocks; Qwen-Image has 60.
        width: features of a token, a multiple of 128; Qwen-Image has 3072.
        features: of a text token; Qwen-Image has 3584.
    """
    return random_weights(qwen_image_shapes(layers, width, features), seed)


def qwen_image_shapes(layers: int, width: int, features: int) -> Shapes:
    yield from linear("img_in", width, 4 * CHANNELS)
    yield from linear("txt_in", width, features)
    yield "txt_norm.weight", (features,)
    embedder = "time_text_embed.timestep_embedder"
    yield from linear(f"{embedder}.linear_1", width, 256)
    yield from linear(f"{embedder}.linear_2", width, width)
    for index in range(layers):
        block = f"transformer_blocks.{index}"
        for stream in ("img", "txt"):
            yield from linear(f"{block}.{stream}_mod.1", 6 * width, width)
            yield from linear(f"{block}.{stream}_mlp.net.0.proj", 4 * width, width)
            yield from linear(f"{block}.{stream}_mlp.net.2", width, 4 * width)
        for each in ("to_q", "to_k", "to_v", "add_q_proj", "add_k_proj", "add_v_proj"):
            yield from linear(f"{block}.attn.{each}", width, width)
        for each in ("to_out.0", "to_add_out"):
            yield from linear(f"{block}.attn.{each}", width, width)
        for each in ("q", "k", "added_q", "added_k"):
            yield f"{block}.attn.norm_{each}.weight", (HEAD,)
    yield from linear("norm_out.linear", 2 * width, width)
    yield from linear("proj_out", 4 * CHANNELS, width)
