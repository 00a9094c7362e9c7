"""Plain enlargement: what sampling starts from, and what tiles that are kept show."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tileup.images.colour import spread
from tileup.images.picture import Picture


def enlarge(picture: Picture, width: int, height: int) -> Picture:
    """A picture resampled to another size; everything else is carried over.

    Args:
        picture: of any size.
        width, height: wanted size, pixels, each at least 1.

    Returns:
        Pixels and alpha in [0, 1], each channel resampled by itself; the same pixels where
        the size does not change. Colours under full transparency become visible ones nearby, so
        that they leave no fringe.
    """
    if picture.alpha is not None:
        picture = replace(picture, pixels=spread(picture.pixels, picture.alpha))
    if (picture.width, picture.height) == (width, height):
        return picture
    planes = [_resampled(picture.pixels[..., channel], width, height) for channel in range(3)]
    alpha = None if picture.alpha is None else _resampled(picture.alpha, width, height)
    return replace(picture, pixels=np.stack(planes, axis=-1), alpha=alpha)


def _resampled(plane: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    """A plane (h, w) in [0, 1] as one of (height, width), by Lanczos in float32, clipped."""
    image = Image.fromarray(np.ascontiguousarray(plane))
    resized = image.resize((width, height), Image.Resampling.LANCZOS)
    return np.clip(np.asarray(resized, dtype=np.float32), 0, 1)
