"""Real objects that stand in for a network: denoisers whose answers are known in closed form."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tileup.codec.space_to_depth import PixelCodec
from tileup.contracts import Box, Denoiser, ModelSpec, Scene
from tileup.plan.noise_levels import TableLevels

MEAN, STD = 0.3, 0.5  # the prior: every cell of x0 is drawn from N(MEAN, STD^2)
LEVELS = TableLevels(times=(0.0, 0.5, 1.0), sigmas=(0.01, 0.4, 8.0))


def gaussian_denoiser(x: Tensor, sigma: Tensor, windows: Sequence[Box] = ()) -> Tensor:
    """E[x0 | x] under the prior: x and MEAN, weighted by their precision. Cell by cell."""
    variance = (sigma**2)[:, None, None, None]
    return (STD**2 * x + variance * MEAN) / (STD**2 + variance)


def mixture_denoiser(x: Tensor, sigma: Tensor, windows: Sequence[Box] = ()) -> Tensor:
    """E[x0 | x] when every cell of x0 is 1 or -1: tanh(x / sigma^2). Cell by cell, not linear."""
    return torch.tanh(x / (sigma**2)[:, None, None, None])


def blurring_denoiser(x: Tensor, sigma: Tensor, windows: Sequence[Box] = ()) -> Tensor:
    """A 5 x 5 binomial blur: what a network does, with a receptive field of 2 cells a side."""
    row = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], dtype=x.dtype) / 16
    kernel = torch.outer(row, row).expand(x.shape[1], 1, 5, 5)
    shrunk = 1 / (1 + sigma**2)[:, None, None, None]
    return shrunk * functional.conv2d(x, kernel, padding=2, groups=x.shape[1])


@dataclass
class Counting:
    """Counts what it passes on."""

    inner: Denoiser
    windows: int = 0
    cells: int = 0
    batches: list[int] = field(default_factory=list)

    def __call__(self, x: Tensor, sigma: Tensor, windows: Sequence[Box]) -> Tensor:
        assert all(tuple(x.shape[-2:]) == (box.height, box.width) for box in windows)
        assert len(windows) == len(x) == len(sigma)
        self.windows += len(windows)
        self.cells += sum(box.area for box in windows)
        self.batches.append(len(windows))
        return self.inner(x, sigma, windows)


def spec(stride: int = 2, window: int = 32, multiple: int = 2) -> ModelSpec:
    """A model whose latents are pixels."""
    return ModelSpec(
        name="double",
        family="bundled",
        prediction="x0",
        stride=stride,
        channels=3 * stride**2,
        window=window,
        multiple=multiple,
        levels=LEVELS,
        text=False,
    )


@dataclass
class DoubleModel:
    """A model around any denoiser of windows."""

    inner: Denoiser
    spec: ModelSpec = field(default_factory=spec)
    digest: str = "0" * 64
    device: str = "cpu"
    dtype: torch.dtype = torch.float32
    runtime: str = "torch"
    counting: Counting = field(init=False)

    @property
    def codec(self) -> PixelCodec:
        return PixelCodec(self.spec.stride)

    def denoiser(self, scene: Scene) -> Counting:
        self.counting = Counting(self.inner)
        return self.counting

    def take_notes(self) -> tuple[str, ...]:
        return ()


def scene_of(source: Tensor, stride: int = 2) -> Scene:
    """A scene of these latents, its picture left grey."""
    height, width = source.shape[-2] * stride, source.shape[-1] * stride
    grey = torch.full((1, 3, height, width), 0.5)
    return Scene(source, grey, (height, width))


def photograph(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Half smooth, half busy: something for a quadtree to see. float32 (H, W, 3) in [0, 1]."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0.2, 0.8, width)[None, :, None] * np.ones((height, 1, 3))
    busy = rng.random((height, width, 3)) * (np.arange(width) > width / 2)[None, :, None]
    return (0.6 * ramp + 0.4 * busy).astype(np.float32)


def wait_until(true: Callable[[], bool], seconds: float = 30) -> None:
    """Until what another thread or process does has come about.

    Raises:
        AssertionError: it has not within that time.
    """
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "nothing came of it"
        time.sleep(0.001)
