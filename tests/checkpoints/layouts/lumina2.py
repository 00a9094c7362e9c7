"""The transformer of Lumina 2 in the layout of its authors, with random weights."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from tests.checkpoints.layouts.weights import linear, random_weights

Shapes = Iterator[tuple[str, tuple[int, ...]]]
CHANNELS = 16
HEAD = 96


def lumina2_transformer(
    layers: int = 2, refiners: int = 1, *, width: int = 192, features: int = 48, seed: int = 0
) -> dict[str, Tensor]:
    """Weights by their original names, without a prefix, with one head of keys.

    Args:
        layers, refiners: blocks; Lumina 2 has 26 and 2.
        width: features of a token, a multiple of 96; Lumina 2 has 2304.
        features: of a text token; Lumina 2 has 2304.
    """
    return random_weights(lumina2_shapes(layers, refiners, width, HEAD, features), seed)


def lumina2_shapes(layers: int, refiners: int, width: int, keys: int, features: int) -> Shapes:
    condition = min(width, 1024)
    yield from linear("x_embedder", width, 4 * CHANNELS)
    yield "cap_embedder.0.weight", (features,)
    yield from linear("cap_embedder.1", width, features)
    yield from linear("t_embedder.mlp.0", condition, 256)
    yield from linear("t_embedder.mlp.2", condition, condition)
    yield from linear("final_layer.linear", 4 * CHANNELS, width)
    yield from linear("final_layer.adaLN_modulation.1", width, condition)
    yield "norm_final.weight", (width,)
    for stack, count in (
        ("noise_refiner", refiners),
        ("context_refiner", refiners),
        ("layers", layers),
    ):
        for index in range(count):
            yield from _block(f"{stack}.{index}", width, keys)
            if stack != "context_refiner":
                modulation = f"{stack}.{index}.adaLN_modulation.1"
                yield from linear(modulation, 4 * width, condition)


def _block(block: str, width: int, keys: int) -> Shapes:
    yield f"{block}.attention.qkv.weight", (width + 2 * keys, width)
    yield f"{block}.attention.out.weight", (width, width)
    yield f"{block}.attention.q_norm.weight", (HEAD,)
    yield f"{block}.attention.k_norm.weight", (HEAD,)
    yield f"{block}.feed_forward.w1.weight", (4 * width, width)
    yield f"{block}.feed_forward.w2.weight", (width, 4 * width)
    yield f"{block}.feed_forward.w3.weight", (4 * width, width)
    for norm in ("attention_norm1", "attention_norm2", "ffn_norm1", "ffn_norm2"):
        yield f"{block}.{norm}.weight", (width,)
