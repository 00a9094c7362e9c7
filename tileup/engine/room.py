"""Whether an output can be made in the memory there is, asked before any work."""

from __future__ import annotations

from math import isqrt

from tileup.errors import OutOfMemoryError
from tileup.resources import memory_left

_BYTES = 3 * 3 * 4
"""Bytes of memory for each output pixel that no picture does without: the enlarged picture, the
canvas that the network is shown, and what is drawn, each of three channels in float32."""


def check_room(width: int, height: int) -> None:
    """Refuse an output that cannot fit into memory, whatever is tried.

    Args:
        width, height: of the output, pixels.

    Raises:
        OutOfMemoryError: says how much is needed, how much there is, and what would fit.
    """
    free = memory_left()
    needed = width * height * _BYTES
    if free is None or needed <= free:
        return
    most = free // _BYTES
    factor = isqrt(1_000_000 * most // (width * height)) / 1000
    raise OutOfMemoryError(
        f"{width}x{height} pixels need at least {needed / 1e9:.1f} GB of memory, and "
        f"{free / 1e9:.1f} GB are free; sides of {factor:.2f} times that would fit "
        f"(--max-pixels {most})"
    )
