"""A transformer of FLUX in the layout of its authors, with random weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from tests.checkpoints.layouts.weights import linear, random_weights
from tileup.families.flux import flux_rules
from tileup.tensors.renaming import converted

CHANNELS = 16
HEAD = 128
FULL_WIDTH = 3072


def flux_transformer(
    double: int = 1,
    single: int = 1,
    *,
    guidance: bool = True,
    width: int = 2 * HEAD,
    features: int = 32,
    pooled: int = 24,
    channels: int = CHANNELS,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> dict[str, Tensor]:
    """Weights by their original names, without a prefix.

    Args:
        double, single: blocks of each kind; FLUX has 19 and 38.
        guidance: as in dev; schnell has none.
        width: features of a token, a multiple of 128; FLUX has FULL_WIDTH.
        features, pooled: of a text token, and of the whole text; FLUX has 4096 and 768.
        channels: of a latent cell.
    """
    shapes = flux_shapes(double, single, guidance, width, features, pooled, channels)
    return random_weights(shapes, seed, dtype)


def flux_control(
    double: int = 2,
    *,
    modes: int | None = None,
    seed: int = 6,
    **sizes: Any,  # noqa: ANN401
) -> dict[str, Tensor]:
    """A ControlNet of such a transformer, with its authors' names for what both have."""
    width = sizes.get("width", 2 * HEAD)
    plain = flux_transformer(double, 0, guidance=False, seed=seed, **sizes)
    shapes = dict(linear("controlnet_x_embedder", width, 4 * CHANNELS))
    for index in range(double):
        shapes |= dict(linear(f"controlnet_blocks.{index}", width, width))
    if modes is not None:
        shapes["controlnet_mode_embedder.weight"] = (modes, width)
    kept = {name: each for name, each in plain.items() if not name.startswith("final_layer.")}
    return kept | random_weights(shapes.items(), seed + 1)


def published(control: dict[str, Tensor]) -> dict[str, Tensor]:
    """A ControlNet's tensors as files have them, in diffusers' names."""
    own = {name: each for name, each in control.items() if not name.startswith("controlnet_")}
    width = own["img_in.weight"].shape[0]
    last = {
        "final_layer.linear.weight": torch.zeros(64, width),
        "final_layer.linear.bias": torch.zeros(64),
        "final_layer.adaLN_modulation.1.weight": torch.zeros(2 * width, width),
        "final_layer.adaLN_modulation.1.bias": torch.zeros(2 * width),
    }
    theirs, _ = converted(own | last, flux_rules(own, width), "control")
    kept = {n: e for n, e in theirs.items() if not n.startswith(("proj_out.", "norm_out."))}
    return kept | {n: e for n, e in control.items() if n.startswith("controlnet_")}


GUIDE, GUIDE_INPUTS, GUIDE_WIDTH = "distilled_guidance_layer", 64, 96


def chroma_transformer(double: int = 1, single: int = 1, **options: Any) -> dict[str, Tensor]:  # noqa: ANN401
    """Chroma likewise: no embedders and modulations, but a small network that works them out."""
    seed, width = options.get("seed", 0), options.get("width", 2 * HEAD)
    plain = flux_transformer(double, single, guidance=False, **options)
    gone = ("time_in.", "vector_in.", "final_layer.adaLN")
    kept = {
        name: each
        for name, each in plain.items()
        if not name.startswith(gone) and "_mod." not in name and ".modulation." not in name
    }
    return kept | random_weights(guide_shapes(width), seed + 1)


def guide_shapes(width: int, layers: int = 2) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield from linear(f"{GUIDE}.in_proj", GUIDE_WIDTH, GUIDE_INPUTS)
    for index in range(layers):
        yield from _embedder(f"{GUIDE}.layers.{index}", GUIDE_WIDTH, GUIDE_WIDTH)
        yield f"{GUIDE}.norms.{index}.scale", (GUIDE_WIDTH,)
    yield from linear(f"{GUIDE}.out_proj", width, GUIDE_WIDTH)


def flux_shapes(
    double: int,
    single: int,
    guidance: bool,
    width: int,
    features: int,
    pooled: int,
    channels: int = CHANNELS,
) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield from linear("img_in", width, 4 * channels)
    yield from linear("txt_in", width, features)
    yield from _embedder("time_in", width, 256)
    yield from _embedder("vector_in", width, pooled)
    if guidance:
        yield from _embedder("guidance_in", width, 256)
    for index in range(double):
        for stream in ("img", "txt"):
            yield from _stream(f"double_blocks.{index}.{stream}", width)
    for index in range(single):
        yield from _single(f"single_blocks.{index}", width)
    yield from linear("final_layer.adaLN_modulation.1", 2 * width, width)
    yield from linear("final_layer.linear", 4 * channels, width)


def _embedder(name: str, width: int, inputs: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield from linear(f"{name}.in_layer", width, inputs)
    yield from linear(f"{name}.out_layer", width, width)


def _stream(stream: str, width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield from linear(f"{stream}_mod.lin", 6 * width, width)
    yield from linear(f"{stream}_attn.qkv", 3 * width, width)
    yield from _norms(f"{stream}_attn.norm")
    yield from linear(f"{stream}_attn.proj", width, width)
    yield from linear(f"{stream}_mlp.0", 4 * width, width)
    yield from linear(f"{stream}_mlp.2", width, 4 * width)


def _single(block: str, width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield from linear(f"{block}.modulation.lin", 3 * width, width)
    yield from linear(f"{block}.linear1", 7 * width, width)
    yield from linear(f"{block}.linear2", width, 5 * width)
    yield from _norms(f"{block}.norm")


def _norms(name: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.query_norm.scale", (HEAD,)
    yield f"{name}.key_norm.scale", (HEAD,)
