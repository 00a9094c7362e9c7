"""A run of tileup over a flow network, and its ingredients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from tests.doubles import scene_of
from tileup.contracts import Box, Encoded, Network, Scene, Wish
from tileup.sampling.guided import GuidedDenoiser
from tileup.sampling.kdiffusion import sample_function
from tileup.tiling.profiles import WindowWeights, window_weight
from tileup.tiling.tiled import TiledDenoiser

Predict = Callable[[Tensor, float], Tensor]
"""(part of the canvas as the network sees it, flow time) -> velocity."""


def guided(
    network: Network, scene: Scene, text: Encoded, cfg: float = 1.0, patch: int | None = None
) -> GuidedDenoiser:
    """A flow network as a denoiser of windows; with guidance the second row is what to avoid."""
    negative = None if cfg == 1 else row_of(text, 1)
    return GuidedDenoiser(network, "flow", scene, row_of(text, 0), negative, cfg, patch)


def text_of(
    rows: int, features: int, pooled: int | None = None, length: int = 5, seed: int = 3
) -> Encoded:
    """Random features of texts, also of each whole text where networks take `pooled` of those."""
    tokens = latents(rows, length, features, seed=seed)
    return Encoded(tokens, None if pooled is None else latents(rows, pooled, seed=seed + 1))


def pooled_of(text: Encoded) -> Tensor:
    assert text.pooled is not None
    return text.pooled


def row_of(text: Encoded, row: int) -> Encoded:
    pooled = None if text.pooled is None else text.pooled[row : row + 1]
    return Encoded(text.tokens[row : row + 1], pooled)


def latents(*shape: int, seed: int = 1) -> Tensor:
    """What `torch.randn` draws first from a generator of this seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def scene_of_latents(source: Tensor, guidance: float | None = None) -> Scene:
    return replace(scene_of(source), wish=Wish(guidance=guidance))


def whole(scene: Scene) -> Box:
    """The whole canvas as one window."""
    return Box(0, 0, *scene.source.shape[-2:])


def tiled(denoiser: GuidedDenoiser, windows: Sequence[Box], batch: int = 1) -> TiledDenoiser:
    """The canvas's denoiser, its windows feathered over 3 cells."""
    height, width = denoiser.scene.source.shape[-2:]
    raw = WindowWeights("feather", 3, torch.empty(0, dtype=torch.float64))
    return TiledDenoiser(denoiser, [windows], raw, height=height, width=width, batch=batch)


def euler(denoiser: GuidedDenoiser, noise: Tensor, times: Tensor) -> Tensor:
    """img2img with k-diffusion's Euler in one window: x0 after the last of these flow times.

    Args:
        denoiser: with the source in its scene.
        noise: of the shape of the source.
        times: flow times below 1, descending to 0.
    """
    sigmas = (times / (1 - times)).to(noise)
    x = denoiser.scene.source + sigmas[0] * noise
    model = tiled(denoiser, [whole(denoiser.scene)])
    return sample_function("euler")(model, x, sigmas, disable=True)


def direct_sum(predict: Predict, x: Tensor, sigma: float, windows: Sequence[Box]) -> Tensor:
    """x0 of a canvas from the velocities of its windows, each weighted by feathers, by hand."""
    total, weights = torch.zeros_like(x), torch.zeros_like(x)
    time = sigma / (1 + sigma)
    for box in windows:
        crop = (1 - time) * x[..., box.top : box.bottom, box.left : box.right]
        weight = window_weight("feather", box.height, box.width, 3).to(x)
        x0 = crop - time * predict(crop, time)
        total[..., box.top : box.bottom, box.left : box.right] += weight * x0
        weights[..., box.top : box.bottom, box.left : box.right] += weight
    return total / weights


def relative(found: Tensor, expected: Tensor) -> float:
    """Largest difference in units of the expected standard deviation."""
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.std())
