"""How a small picture came about: half of them shrunk cleanly, half as life does it.

Life blurs, shrinks by any kernel, sharpens until edges have halos, adds noise, and compresses,
often twice. Pictures that people enlarge come from the web: JPEG qualities reach down to 30.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageFilter

CLEAN = 0.5
"""Share of the pictures that are only shrunk, by bicubic."""
BLURRED, SHARPENED, NOISY, COMPRESSED = 0.4, 0.15, 0.35, 0.75
"""Shares of the others that each of these happened to, in this order."""
TWICE = 0.25
"""Share of the compressed ones that were compressed before, on a grid of blocks elsewhere."""
QUALITY = (30, 95)
"""Lowest and highest quality of JPEG, the last time."""
DAMAGED = (25, 80)
"""The same for the network that undoes it."""
QUALITY_BEFORE = (50, 95)
KERNELS = (
    Image.Resampling.BICUBIC,
    Image.Resampling.LANCZOS,
    Image.Resampling.BOX,
    Image.Resampling.BILINEAR,
    Image.Resampling.HAMMING,
)
BLOCK = 8  # pixels of a side of JPEG's blocks


def degraded(
    region: Image.Image,
    small: int,
    rng: np.random.Generator,
    clean: float = CLEAN,
    quality: tuple[int, int] = QUALITY,
    besides: float = 1.0,
) -> Image.Image:
    """Shrink a square to `small` pixels a side; a share of `clean` by bicubic alone.

    Args:
        region: the square.
        small: pixels.
        rng: chooses.
        clean: share.
        quality: lowest and highest of JPEG, the last time.
        besides: factor of the shares of all but compression; 0 compresses all, and no more.
    """
    if rng.random() < clean:
        return region.resize((small, small), Image.Resampling.BICUBIC)
    if rng.random() < BLURRED * besides:
        scale = region.width / small
        region = region.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.1, 0.4) * scale)))
    kernel = KERNELS[int(rng.integers(len(KERNELS)))]
    image = region.resize((small, small), kernel if rng.random() < besides else KERNELS[0])
    if rng.random() < SHARPENED * besides:
        image = sharpened(image, rng)
    if rng.random() < NOISY * besides:
        image = noisy(image, rng)
    if rng.random() < 1 - (1 - COMPRESSED) * besides:
        if rng.random() < TWICE:
            image = compressed_elsewhere(image, rng)
        image = compressed(image, rng, quality)
    return image


def sharpened(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """With halos around its edges."""
    radius, percent = float(rng.uniform(0.6, 1.6)), int(rng.integers(30, 130))
    return image.filter(ImageFilter.UnsharpMask(radius, percent, 0))


def noisy(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """With noise of 0.3 to 5 of 255 in each channel."""
    noise = rng.normal(0, rng.uniform(0.3, 5), (image.height, image.width, 3))
    pixels = np.clip(np.asarray(image, dtype=np.float64) + noise, 0, 255)
    return Image.fromarray(np.rint(pixels).astype(np.uint8))


def compressed(
    image: Image.Image, rng: np.random.Generator, quality: tuple[int, int]
) -> Image.Image:
    """What JPEG leaves of it; colour is halved in two thirds of the cases, as most cameras do."""
    buffer = io.BytesIO()
    subsampling = ("4:4:4", "4:2:0", "4:2:0")[int(rng.integers(3))]
    drawn = int(rng.integers(quality[0], quality[1] + 1))
    image.save(buffer, "jpeg", quality=drawn, subsampling=subsampling)
    return Image.open(buffer).convert("RGB")


def compressed_elsewhere(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """As if it had been compressed as part of a larger picture, before it was cut out."""
    shift = rng.integers(0, BLOCK, 2)
    moved = Image.fromarray(np.roll(np.asarray(image), shift, axis=(0, 1)))
    found = np.asarray(compressed(moved, rng, QUALITY_BEFORE))
    return Image.fromarray(np.roll(found, -shift, axis=(0, 1)))


def softened(region: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A truth that is soft itself: out of focus, or enlarged before."""
    if rng.random() < 0.5:
        return region.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.5, 1.8))))
    less = max(1, round(region.width / rng.uniform(1.3, 2.6)))
    small = region.resize((less, less), Image.Resampling.LANCZOS)
    return small.resize(region.size, Image.Resampling.BICUBIC)
