"""The transformer of FLUX.2 in the layout of its authors, with random weights."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from tests.checkpoints.layouts.weights import random_weights

Shapes = Iterator[tuple[str, tuple[int, ...]]]
CHANNELS = 128
HEAD = 128


def flux2_transformer(
    double: int = 1,
    single: int = 2,
    *,
    guidance: bool = False,
    width: int = 256,
    features: int = 48,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Weights by their original names, without a prefix.

    Args:
        double, single: blocks of each kind; dev has 8 and 48.
        guidance: as in dev; klein has none.
        width: features of a token, a multiple of 128; dev has 6144.
        features: of a text token; dev has 15360.
    """
    return random_weights(flux2_shapes(double, single, guidance, width, features), seed)


def flux2_shapes(double: int, single: int, guidance: bool, width: int, features: int) -> Shapes:
    yield "img_in.weight", (width, CHANNELS)
    yield "txt_in.weight", (width, features)
    for name in ("time_in", "guidance_in") if guidance else ("time_in",):
        yield f"{name}.in_layer.weight", (width, 256)
        yield f"{name}.out_layer.weight", (width, width)
    for stream in ("img", "txt"):
        yield f"double_stream_modulation_{stream}.lin.weight", (6 * width, width)
    yield "single_stream_modulation.lin.weight", (3 * width, width)
    for index in range(double):
        for stream in ("img", "txt"):
            block = f"double_blocks.{index}.{stream}"
            yield f"{block}_attn.qkv.weight", (3 * width, width)
            yield f"{block}_attn.proj.weight", (width, width)
            yield from _norms(f"{block}_attn.norm")
            yield f"{block}_mlp.0.weight", (6 * width, width)
            yield f"{block}_mlp.2.weight", (width, 3 * width)
    for index in range(single):
        block = f"single_blocks.{index}"
        yield f"{block}.linear1.weight", (9 * width, width)
        yield f"{block}.linear2.weight", (width, 4 * width)
        yield from _norms(f"{block}.norm")
    yield "final_layer.adaLN_modulation.1.weight", (2 * width, width)
    yield "final_layer.linear.weight", (CHANNELS, width)


def _norms(name: str) -> Shapes:
    yield f"{name}.query_norm.scale", (HEAD,)
    yield f"{name}.key_norm.scale", (HEAD,)
