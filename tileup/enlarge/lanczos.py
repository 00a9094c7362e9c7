"""Plain enlargement: what sampling starts from, and what tiles that are kept show."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tileup.images.colour import spread
from tileup.images.picture import Picture
from tileup.images.pixels import Pixels


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
        picture = replace(picture, pixels=spread(picture.whole, picture.alpha))
    if (picture.width, picture.height) == (width, height):
        return picture
    given, pixels = picture.whole, np.empty((height, width, 3), np.float32)
    for channel in range(3):
        _resample(given[..., channel], pixels[..., channel])
    return replace(picture, pixels=pixels, alpha=_resampled_alpha(picture, width, height))


@dataclass(frozen=True, slots=True)
class Gradual:
    """What `enlarge` gives, some rows at a time: the same numbers, by `gradual`."""

    picture: Picture
    """The input."""
    width: int
    height: int
    """Wanted size, pixels."""

    def rows(self, top: int, bottom: int) -> NDArray[np.float32]:
        """Rows [top, bottom) of the enlarged picture, shape (bottom - top, width, 3)."""
        given = self.picture
        share = given.height / self.height  # exact, as are the numbers of rows times it
        low = max(int(top * share) - _REACH, 0)
        high = min(int(bottom * share) + _REACH + 1, given.height)
        span = top * share - low, bottom * share - low
        part, pixels = given.pixels[low:high], np.empty((bottom - top, self.width, 3), np.float32)
        for channel in range(3):
            _resample(part[..., channel], pixels[..., channel], span)
        return pixels

    def carrying(self, pixels: Pixels) -> Picture:
        """The enlarged picture with other pixels, shape (height, width, 3)."""
        alpha = _resampled_alpha(self.picture, self.width, self.height)
        return replace(self.picture, pixels=pixels, alpha=alpha)


_REACH = 4
"""Rows that Lanczos looks at above and below: three, and one for the place between two."""


def gradual(picture: Picture, width: int, height: int) -> Gradual | None:
    """A picture that is enlarged some rows at a time; None where that would round differently.

    Pillow keeps the places of rows in float32: they must be whole numbers over powers of two.
    """
    times = height // picture.height
    if height % picture.height or times & (times - 1):
        return None
    if picture.alpha is not None:
        picture = replace(picture, pixels=spread(picture.whole, picture.alpha))
    return Gradual(picture, width, height)


def _resampled_alpha(picture: Picture, width: int, height: int) -> NDArray[np.float32] | None:
    if picture.alpha is None:
        return None
    alpha = np.empty((height, width), np.float32)
    _resample(picture.alpha, alpha)
    return alpha


def _resample(
    plane: NDArray[np.float32],
    out: NDArray[np.float32],
    span: tuple[float, float] | None = None,
) -> None:
    """Fill `out` with a plane (h, w) in [0, 1], or a span of its rows, by Lanczos, clipped.

    First along rows, then along columns: left to itself Pillow begins with what is cheaper, and
    some rows of a picture might be rounded in another way than the whole.
    """
    height, width = out.shape
    image, way = Image.fromarray(np.ascontiguousarray(plane)), Image.Resampling.LANCZOS
    top, bottom = span or (0.0, float(image.height))
    wide = image.resize((width, image.height), way)
    resized = wide.resize((width, height), way, (0.0, top, float(width), bottom))
    np.clip(np.asarray(resized, dtype=np.float32), 0, 1, out=out)
