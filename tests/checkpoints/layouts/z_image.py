"""The transformer of Z-Image in the layout of the files that people have, with random weights."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from tests.checkpoints.layouts.weights import linear, random_weights

Shapes = Iterator[tuple[str, tuple[int, ...]]]
CHANNELS = 16
HEAD = 128


def z_image_transformer(
    layers: int = 2, refiners: int = 1, *, width: int = 256, features: int = 48, seed: int = 0
) -> dict[str, Tensor]:
    """Weights by their original names, without a prefix.

    Args:
        layers, refiners: blocks; Z-Image has 30 and 2.
        width: features of a token, a multiple of 128; Z-Image has 3840.
        features: of a text token; Z-Image has 2560.
    """
    return random_weights(z_image_shapes(layers, refiners, width, features), seed)


def z_image_shapes(layers: int, refiners: int, width: int, features: int) -> Shapes:
    condition = min(width, 256)
    yield from linear("x_embedder", width, 4 * CHANNELS)
    yield "cap_embedder.0.weight", (features,)
    yield from linear("cap_embedder.1", width, features)
    yield from linear("t_embedder.mlp.0", 1024, 256)
    yield from linear("t_embedder.mlp.2", condition, 1024)
    yield "x_pad_token", (1, width)
    yield "cap_pad_token", (1, width)
    yield from linear("final_layer.linear", 4 * CHANNELS, width)
    yield from linear("final_layer.adaLN_modulation.1", width, condition)
    yield "norm_final.weight", (width,)
    for stack, count in (
        ("noise_refiner", refiners),
        ("context_refiner", refiners),
        ("layers", layers),
    ):
        for index in range(count):
            yield from _block(f"{stack}.{index}", width)
            if stack != "context_refiner":
                modulation = f"{stack}.{index}.adaLN_modulation.0"
                yield from linear(modulation, 4 * width, condition)


def _block(block: str, width: int) -> Shapes:
    inner = int(width / 3 * 8)
    yield f"{block}.attention.qkv.weight", (3 * width, width)
    yield f"{block}.attention.out.weight", (width, width)
    yield f"{block}.attention.q_norm.weight", (HEAD,)
    yield f"{block}.attention.k_norm.weight", (HEAD,)
    yield f"{block}.feed_forward.w1.weight", (inner, width)
    yield f"{block}.feed_forward.w2.weight", (width, inner)
    yield f"{block}.feed_forward.w3.weight", (inner, width)
    for each in ("attention_norm1", "attention_norm2", "ffn_norm1", "ffn_norm2"):
        yield f"{block}.{each}.weight", (width,)
