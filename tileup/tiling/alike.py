"""Which windows are evaluated at once, where they may differ in shape."""

from __future__ import annotations

from collections.abc import Sequence

from tileup.contracts import Box


def alike(windows: Sequence[Box], cells: int) -> list[range]:
    """Windows one after the other as batches, each of one shape.

    Args:
        windows: in the order in which they are evaluated.
        cells: of a batch, at most; a window that has more is one by itself.

    Returns:
        Indices of the windows of each batch, in order.
    """
    found: list[range] = []
    for at, box in enumerate(windows):
        last = found[-1] if found else range(0)
        shape = (windows[last.start].height, windows[last.start].width) if last else None
        if shape == (box.height, box.width) and (len(last) + 1) * box.area <= cells:
            found[-1] = range(last.start, at + 1)
        else:
            found.append(range(at, at + 1))
    return found
