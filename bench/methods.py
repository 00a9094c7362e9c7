"""What is compared: kernels, other networks, and tileup at several strengths."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from PIL import Image

import tileup
from bench.peers import anime_video, x4plus
from tileup.contracts import Model

Method = Callable[[Image.Image, tuple[int, int]], Image.Image]
Methods = Mapping[str, Method]
"""By the names that tables show."""
STRENGTHS = (0.2, 0.4, 0.6, 0.8)


def resized(image: Image.Image, size: tuple[int, int], kernel: Image.Resampling) -> Image.Image:
    return image.resize(size, kernel)


def drawn(
    image: Image.Image, size: tuple[int, int], model: Model, low: float, high: float, seed: int = 0
) -> Image.Image:
    """tileup at strengths from `low` to `high`, everything else at its default."""
    wanted = f"{size[0]}x{size[1]}"
    return tileup.upscale(
        image, model, size=wanted, min_denoise=low, max_denoise=high, seed=seed
    ).image


def preset(image: Image.Image, size: tuple[int, int], model: Model, name: str) -> Image.Image:
    """tileup with a preset."""
    return tileup.upscale(image, model, size=f"{size[0]}x{size[1]}", preset=name).image


def kernels() -> Methods:
    return {
        "bicubic": partial(resized, kernel=Image.Resampling.BICUBIC),
        "Lanczos": partial(resized, kernel=Image.Resampling.LANCZOS),
    }


QUADTREE = "tileup, quadtree 0.2 to 0.8"


def uniform(strength: float) -> str:
    """The name of tileup with one strength everywhere."""
    return f"tileup, uniform {strength}"


def ours(model: Model, seed: int = 0) -> Methods:
    named: dict[str, Method] = {
        uniform(strength): partial(drawn, model=model, low=strength, high=strength, seed=seed)
        for strength in STRENGTHS
    }
    return {**named, QUADTREE: partial(drawn, model=model, low=0.2, high=0.8, seed=seed)}


def methods(model: Model, scale: int, *, peers: bool, large: bool = False) -> Methods:
    """Everything that is compared at a scale."""
    named: dict[str, Method] = dict(kernels())
    if peers:
        threads = torch.get_num_threads()
        named[f"realesr-animevideov3-x{scale}"] = anime_video(scale, threads)
        if large:
            named["realesrgan-x4plus"] = x4plus(threads)
    return {**named, **ours(model)}
