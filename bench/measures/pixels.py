"""The pixels that count, and their brightness.

All measures leave out a border of `BORDER` pixels, where enlargers differ in what they take to lie
outside.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

BORDER = 8
Pixels = NDArray[np.uint8]


def trimmed(image: Image.Image) -> Pixels:
    """The pixels that count, shape (H, W, 3)."""
    return np.asarray(image.convert("RGB"))[BORDER:-BORDER, BORDER:-BORDER]


def luma(pixels: Pixels) -> NDArray[np.float64]:
    """BT.601 luma, 0 to 255."""
    return pixels.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
