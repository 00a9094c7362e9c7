"""Pairs of truth and enlarged source, each a pure function of (seed, its number)."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from models.training.degradations import CLEAN, QUALITY, degraded, softened
from models.training.lettering import page

SMOOTH = 0.1
"""Share of the samples that are a flat colour or a ramp, which photographs with their grain are
not: there nothing is to be drawn, with any strength."""
Pictures = dict[str, list[Image.Image]]
"""Training crops by category."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What samples are made of."""

    crop: int
    """Side of a sample, pixels."""
    soft: float
    """Share of the photographs whose truth is made soft itself, so that a good enlargement is to be
    left alone."""
    letters: float = 0.0
    """Share of the samples that are pages of text."""
    clean: float = CLEAN
    """Share of the small pictures that are only shrunk."""
    quality: tuple[int, int] = QUALITY
    """Lowest and highest quality of JPEG of the others that are compressed."""
    besides: float = 1.0
    """Factor of the shares of what else happens to those: blur, other kernels, halos, noise."""


def read_pictures(folder: Path) -> tuple[Pictures, list[Image.Image]]:
    """The training crops, and those of every 30th photograph held out for validation.

    Raises:
        SystemExit: the folder is not there.
    """
    manifest = folder / "train" / "manifest.csv"
    if not manifest.exists():
        raise SystemExit(
            f"train: {manifest} is missing.\n"
            "  Point DATA at a folder with train/manifest.csv and train/images/, for example\n"
            "  make train DATA=/path/to/data"
        )
    rows = list(csv.DictReader(manifest.open(encoding="utf-8")))
    photographs = sorted({row["original_file"] for row in rows})
    held_out = set(photographs[::30])
    train: Pictures = {}
    validation: list[Image.Image] = []
    for row in rows:
        with Image.open(folder / "train" / row["file"]) as image:
            picture = image.convert("RGB")
        kept = (
            validation
            if row["original_file"] in held_out
            else train.setdefault(row["category"], [])
        )
        kept.append(picture)
    return train, validation


def pick(pictures: Pictures, rng: np.random.Generator) -> Image.Image:
    """Half the time any crop, half the time any category first: text and animals are few."""
    if rng.random() < 0.5:
        crops = pictures[sorted(pictures)[int(rng.integers(len(pictures)))]]
    else:
        crops = [each for category in sorted(pictures) for each in pictures[category]]
    return crops[int(rng.integers(len(crops)))]


def busy(region: Image.Image) -> float:
    """How much there is to see: mean difference of neighbours, halved in size against noise."""
    grey = np.asarray(region.convert("L").reduce(2), dtype=np.float32)
    return float(np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean())


def smooth(rng: np.random.Generator, crop: int) -> NDArray[np.uint8]:
    """A flat colour half the time, else a ramp in any direction, shape (crop, crop, 3)."""
    start, end = rng.uniform(0, 255, (2, 3))
    if rng.random() < 0.5:
        end = start
    angle = rng.uniform(0, 2 * np.pi)
    rows, columns = np.mgrid[:crop, :crop] - (crop - 1) / 2
    along = 0.5 + (rows * np.sin(angle) + columns * np.cos(angle)) / (crop * 2**0.5)
    return np.rint(start + along[..., None] * (end - start)).astype(np.uint8)


def sample(pictures: Pictures, seed: int, number: int, recipe: Recipe) -> NDArray[np.uint8]:
    """Truth and enlarged source of one crop, uint8, shape (2, crop, crop, 3)."""
    rng, crop = np.random.default_rng([seed, number]), recipe.crop
    if rng.random() < SMOOTH:
        return np.stack([smooth(rng, crop)] * 2)
    written = bool(recipe.letters) and rng.random() < recipe.letters
    picture = pick(pictures, rng)
    scale = 2.0 if rng.random() < 0.4 else float(np.exp(rng.uniform(np.log(1.5), np.log(4))))
    small = math.ceil((crop + 24) / scale)
    side = round(small * scale)
    # A crop shrunk first has full colour resolution and the sharpness of a small picture.
    shrink = min(float(rng.uniform(1, 2)) if rng.random() < 0.6 else 1.0, picture.width / side)
    taken = min(math.floor(side * shrink), picture.width)
    places = rng.integers(0, picture.width - taken + 1, (3, 2)).tolist()
    regions = [picture.crop((left, top, left + taken, top + taken)) for left, top in places]
    # Most of most photographs is flat; there is little to learn there.
    region = max(regions, key=busy) if rng.random() < 0.7 else regions[0]
    if written:
        region = page(side, rng)
    elif taken != side:
        region = region.resize((side, side), Image.Resampling.LANCZOS)
    if rng.random() < recipe.soft:
        region = softened(region, rng)
    source = degraded(region, small, rng, recipe.clean, recipe.quality, recipe.besides).resize(
        (side, side), Image.Resampling.LANCZOS
    )
    left, top = rng.integers(4, side - crop - 3, 2).tolist()
    pair = np.stack(
        [np.asarray(each)[top : top + crop, left : left + crop] for each in (region, source)]
    )
    pair = np.rot90(pair, int(rng.integers(4)), axes=(1, 2))
    return np.ascontiguousarray(pair[:, :, ::-1] if rng.random() < 0.5 else pair)


class Batches:
    """Batches from `first` on, made ahead by threads; the n-th is the same whoever makes it."""

    def __init__(
        self, pictures: Pictures, recipe: Recipe, seed: int, size: int, threads: int
    ) -> None:
        self.pictures, self.recipe, self.seed, self.size = pictures, recipe, seed, size
        self.pool = ThreadPoolExecutor(threads)

    def one(self, step: int) -> Tensor:
        numbers = range(step * self.size, (step + 1) * self.size)
        return torch.from_numpy(
            np.stack([sample(self.pictures, self.seed, number, self.recipe) for number in numbers])
        )

    def since(self, first: int) -> Iterator[tuple[int, Tensor]]:
        ahead = [self.pool.submit(self.one, first + i) for i in range(4)]
        step = first
        while True:
            batch = ahead.pop(0).result()
            ahead.append(self.pool.submit(self.one, step + 4))
            yield step, batch
            step += 1
