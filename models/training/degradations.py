"""How a small picture came about: shrunk, blurred, noisy, compressed."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageFilter

KERNELS = [
    Image.Resampling.BICUBIC,
    Image.Resampling.LANCZOS,
    Image.Resampling.BOX,
    Image.Resampling.BILINEAR,
    Image.Resampling.HAMMING,
]


def degraded(region: Image.Image, small: int, rng: np.random.Generator) -> Image.Image:
    """Shrink to `small` pixels a side: half the time by clean bicubic, else as life does it."""
    if rng.random() < 0.5:
        return region.resize((small, small), Image.Resampling.BICUBIC)
    if rng.random() < 0.5:
        scale = region.width / small
        region = region.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.1, 0.35) * scale)))
    image = region.resize((small, small), KERNELS[int(rng.integers(len(KERNELS)))])
    if rng.random() < 0.5:
        noise = rng.normal(0, rng.uniform(0.3, 4), (small, small, 3))
        noisy = np.clip(np.asarray(image, dtype=np.float64) + noise, 0, 255)
        image = Image.fromarray(np.rint(noisy).astype(np.uint8))
    if rng.random() < 0.6:
        buffer = io.BytesIO()
        image.save(buffer, "jpeg", quality=int(rng.integers(60, 101)))
        image = Image.open(buffer).convert("RGB")
    return image
