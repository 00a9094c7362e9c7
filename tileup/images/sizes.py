"""How large an output becomes, and what each file format can hold."""

from __future__ import annotations

from fractions import Fraction
from math import floor, isqrt

from tileup.errors import OutputError, UsageError
from tileup.images.formats.known import format_of
from tileup.settings.values import Settings, parse_size

MOST = 16
"""Largest enlargement of a side."""
KEEPING = ("inside", "cover")
"""Ways to fit a picture to a size that keep its shape."""


def output_size(width: int, height: int, settings: Settings) -> tuple[int, int]:
    """Exact output width and height, pixels.

    Args:
        width, height: of the upright input, pixels, each at least 1.
        settings: `scale`, or one of `size` (with `fit`), `long_edge` and `short_edge`; and
            `max_pixels`, which lowers the result and keeps its aspect ratio.

    Raises:
        UsageError: a side would shrink, or grow more than sixteenfold.
    """
    wanted = _wanted(width, height, settings)
    _check_growth((width, height), wanted)
    limit = settings.max_pixels
    if limit is None or wanted[0] * wanted[1] <= limit:
        return wanted
    lowered = _within(limit, wanted, _shape(width, height, wanted, settings))
    if lowered[0] < width or lowered[1] < height:
        raise UsageError(
            f"max-pixels {limit} is too few for an input of {width}x{height}, which must not "
            f"shrink; allow at least {_least(width, height, wanted)}"
        )
    return lowered


def is_reached(width: int, height: int, settings: Settings) -> bool:
    """Whether a picture is as large already as `size`, an edge or `max_pixels` asks for.

    Args:
        width, height: of the upright input, pixels.
        settings: with at least one of them.
    """
    wanted, limit = _wanted(width, height, settings), settings.max_pixels
    if limit is not None and wanted[0] * wanted[1] > limit:
        wanted = _within(limit, wanted, _shape(width, height, wanted, settings))
    elif (settings.size, settings.long_edge, settings.short_edge) == (None, None, None):
        return False  # a factor decides
    return wanted[0] <= width and wanted[1] <= height


def _wanted(width: int, height: int, s: Settings) -> tuple[int, int]:
    if s.size is not None:
        return _fitted(width, height, parse_size(s.size), s.fit)
    if s.long_edge is not None:
        factor = Fraction(s.long_edge, max(width, height))
    elif s.short_edge is not None:
        factor = Fraction(s.short_edge, min(width, height))
    else:
        # As decimals: 1.15 means 115/100 and not the nearest double.
        factor = Fraction(str(s.scale))
    return _rounded(width * factor), _rounded(height * factor)


def _fitted(width: int, height: int, frame: tuple[int, int], fit: str | None) -> tuple[int, int]:
    """The frame itself, or the size of the picture's own shape that lies in it or covers it."""
    factors = Fraction(frame[0], width), Fraction(frame[1], height)
    if fit not in KEEPING:
        return frame
    factor = min(factors) if fit == "inside" else max(factors)
    return _rounded(width * factor), _rounded(height * factor)


def _shape(width: int, height: int, wanted: tuple[int, int], s: Settings) -> tuple[int, int]:
    """What has the ratio of sides that a lowered size keeps.

    A rounded size has a rounded ratio, so it is the input's own where that is to be kept.
    """
    return (width, height) if s.size is None or s.fit in KEEPING else wanted


def _rounded(side: Fraction) -> int:
    """Half up, at least 1."""
    return max(1, floor(side + Fraction(1, 2)))


def _check_growth(given: tuple[int, int], wanted: tuple[int, int]) -> None:
    for before, after in zip(given, wanted, strict=True):
        if not before <= after <= MOST * before:
            raise UsageError(
                f"{given[0]}x{given[1]} to {wanted[0]}x{wanted[1]} is {after / before:.4g} times "
                f"one side; each side can be enlarged 1 to {MOST} times"
            )


def _within(limit: int, wanted: tuple[int, int], ratio: tuple[int, int]) -> tuple[int, int]:
    """Largest size of this aspect ratio, rounded down, with at most `limit` pixels."""
    width, height = ratio
    return (
        min(wanted[0], isqrt(limit * width // height)),
        min(wanted[1], isqrt(limit * height // width)),
    )


def _least(width: int, height: int, wanted: tuple[int, int]) -> int:
    """Pixels of the smallest size with the wanted aspect ratio that no side shrinks in."""
    factor = max(Fraction(width, wanted[0]), Fraction(height, wanted[1]))
    return floor(factor * wanted[0]) * floor(factor * wanted[1])


def check_format_limit(width: int, height: int, format: str) -> None:
    """Refuses a size that a file format cannot hold.

    Raises:
        OutputError: a side is too long for `format`, or there are too many pixels.
    """
    limits = format_of(format)
    if limits.longest is not None and max(width, height) > limits.longest:
        raise OutputError(
            f"{width}x{height} pixels do not fit into {format}, whose sides hold at most "
            f"{limits.longest}; write png or tif"
        )
    if limits.most_pixels is not None and width * height > limits.most_pixels:
        raise OutputError(
            f"{width}x{height} pixels do not fit into {format}, which holds at most "
            f"{limits.most_pixels:,}; write png or tif"
        )


def scale_label(scale: float) -> str:
    """A scale for file names: 2.0 is `2`, 1.5 is `1.5`."""
    return f"{scale:g}"
