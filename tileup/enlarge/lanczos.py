"""Plain enlargement: what sampling starts from, and what tiles that are kept show."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tileup.enlarge.whole_times import REACH, across, block_rows, down
from tileup.images.colour import spread
from tileup.images.picture import Picture
from tileup.images.pixels import Pixels, within_unit


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
    pixels = _resampled(picture.whole, width, height)
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
        pixels = np.empty((bottom - top, self.width, 3), np.float32)
        _fill(pixels, self.picture.pixels, self.height // self.picture.height, top)
        return pixels

    def carrying(self, pixels: Pixels) -> Picture:
        """The enlarged picture with other pixels, shape (height, width, 3)."""
        alpha = _resampled_alpha(self.picture, self.width, self.height)
        return replace(self.picture, pixels=pixels, alpha=alpha)


def gradual(picture: Picture, width: int, height: int) -> Gradual | None:
    """A picture that is enlarged some rows at a time; None where that would round differently: it
    does not grow by a whole number of times."""
    if height % picture.height:
        return None
    if picture.alpha is not None:
        picture = replace(picture, pixels=spread(picture.whole, picture.alpha))
    return Gradual(picture, width, height)


def _resampled_alpha(picture: Picture, width: int, height: int) -> NDArray[np.float32] | None:
    if picture.alpha is None:
        return None
    return _resampled(picture.alpha[..., None], width, height)[..., 0]


def _resampled(given: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    """Numbers in [0, 1] at another size, shape (height, width, C), clipped."""
    made = np.empty((height, width, given.shape[2]), np.float32)
    if height % len(given) == 0:
        _fill(made, given, height // len(given), 0)
        return made
    wide = _wide(given, width)
    for channel in range(made.shape[2]):
        within_unit(_by_pillow(wide[..., channel], width, height), out=made[..., channel])
    return made


def _fill(
    made: NDArray[np.float32], given: Pixels | NDArray[np.float32], times: int, top: int
) -> None:
    """Rows of numbers that become so many times as high, and of another width, clipped.

    Args:
        made: where they go, shape (rows, width, C).
        given: all numbers, shape (height, w, C).
        times: what their height is multiplied by.
        top: the first of the rows.
    """
    height, bottom, step = given.shape[0], top + len(made), block_rows(times)
    for first in range(top // (step * times) * step, -(-bottom // times), step):
        last = min(first + step, height)
        rows = _block(given, made.shape[1], times, (first, last))
        start = first * times
        here = slice(max(top, start), min(bottom, last * times))
        part = rows[here.start - start : here.stop - start]
        within_unit(part, out=made[here.start - top : here.stop - top])


def _block(
    given: Pixels | NDArray[np.float32], width: int, times: int, span: tuple[int, int]
) -> NDArray[np.float32]:
    """What becomes of some rows, shape ((span[1] - span[0]) * times, width, C), not clipped."""
    height, _, channels = given.shape
    if times == 1:
        return _wide(given[slice(*span)], width)
    wide = _wide(given[max(span[0] - REACH, 0) : min(span[1] + REACH, height)], width)
    made = down(wide.reshape(len(wide), -1), times, span, height)
    return made.reshape(-1, width, channels)


def _wide(given: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Numbers of another width, shape (h, width, C), not clipped."""
    high, wide, channels = given.shape
    if width % wide == 0:
        return given if width == wide else across(given, width // wide)
    made = np.empty((high, width, channels), np.float32)
    for channel in range(channels):
        made[..., channel] = _by_pillow(given[..., channel], width, high)
    return made


def _by_pillow(plane: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    """A plane at another size; what keeps its length is left alone."""
    image = Image.fromarray(np.ascontiguousarray(plane))
    return np.asarray(image.resize((width, height), Image.Resampling.LANCZOS), dtype=np.float32)
