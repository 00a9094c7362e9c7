"""Whether an output can be made in the memory there is, asked before any work."""

from __future__ import annotations

import sys
from math import isqrt
from pathlib import Path

from tileup.errors import OutOfMemoryError
from tileup.resources import lies_in_memory, memory_left

BASE = 410_000_000
"""Bytes that a run takes whatever the size: Python, torch, the bundled checkpoint, one batch."""
PER_PIXEL = 8
"""Bytes for each output pixel, measured at 4 and 16 megapixels (`tests/cli/test_memory.py`): the
drawn picture, of three channels of a byte, the input at half its side, and what is written. It is
enlarged row by row (`tileup.plan.by_rows`) where its sides grow a whole number of times."""
PER_KEPT_PIXEL = 1
"""The same where neither input nor output are in memory: the plan, and rows at work."""


def check_room(
    width: int,
    height: int,
    *,
    kept: bool = False,
    output: Path | None = None,
    channels: int = 1,
) -> None:
    """Refuse an output that cannot fit into memory, whatever is tried.

    Asked for the least that any run takes: that of the bundled checkpoint, which draws large
    canvases row by row. Other checkpoints and denoise modes hold more.

    Args:
        width, height: of the output, pixels.
        kept: whether finished rows can lie in a file, see `tileup.images.kept.can_be_kept`.
        output: where that lies, beside which they do.
        channels: of its pixels, each of which takes a byte there, at least.

    Raises:
        OutOfMemoryError: says how much is needed, how much there is, and what would fit.
    """
    free = memory_left()
    each = PER_KEPT_PIXEL if kept else PER_PIXEL
    if kept and output is not None and lies_in_memory(output.parent):
        each += channels
    base = 0 if "torch" in sys.modules else BASE  # what is loaded is no longer free
    needed = base + width * height * each
    if free is None or needed <= free:
        return
    raise OutOfMemoryError(
        f"{width}x{height} pixels need at least {needed / 1e9:.1f} GB of memory, and "
        f"{free / 1e9:.1f} GB are free; {_fitting(width, height, (free - base) // each)}"
    )


def _fitting(width: int, height: int, most: int) -> str:
    """How much smaller an output of so many pixels is, in words."""
    if most < 1:
        return "close other programs"
    factor = isqrt(1_000_000 * most // (width * height)) / 1000
    return f"sides of {factor:.2f} times that would fit (--max-pixels {most})"
