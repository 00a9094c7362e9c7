"""How windows are laid over the cells that a step works on."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter  # pyright: ignore[reportUnknownVariableType]

from tileup.contracts import Box
from tileup.plan.itinerary import Layout, Windows
from tileup.plan.windows import cover

Mask = NDArray[np.bool_]
Laying = Callable[[Mask, Layout, range, int], tuple[Windows, ...]]
"""(cells that work, canvas, steps, seed) -> windows of each step. The mask has the size of the
picture, at most that of the canvas."""


def covering(working: Mask, layout: Layout, steps: range, seed: int) -> tuple[Windows, ...]:
    """The fewest windows that cover the working cells with a margin, the same in every step."""
    windows = cover(_on_canvas(working, layout), (layout.window, layout.window), layout.margin)
    return (windows,) * len(steps)


def spot(working: Mask, layout: Layout, steps: range, seed: int) -> tuple[Windows, ...]:
    """SpotDiffusion for photographs: a grid without overlap, moved at random in each step.

    Frolov et al. (2024), arXiv 2407.15507, roll the canvas as a torus; a photograph is none, so
    here the windows that would stick out are moved inwards. Both axes move, seeded.
    """
    side = 2 * layout.margin + 1  # strengths fade into cells around the working ones
    needed = np.asarray(maximum_filter(_on_canvas(working, layout), size=side), dtype=np.bool_)
    return tuple(_jittered(needed, layout, np.random.default_rng([seed, step])) for step in steps)


def _jittered(needed: Mask, layout: Layout, random: np.random.Generator) -> Windows:
    tops, lefts = (
        _starts(length, layout.window, int(random.integers(layout.window)))
        for length in (layout.rows, layout.columns)
    )
    boxes = (
        Box(top, left, top + layout.window, left + layout.window) for top in tops for left in lefts
    )
    return tuple(box for box in boxes if needed[box.index].any())


def _starts(length: int, window: int, offset: int) -> list[int]:
    """Where the windows of a grid with this offset start, moved into [0, length - window]."""
    wanted = range(offset - window if offset else 0, length, window)
    return sorted({min(max(start, 0), length - window) for start in wanted})


def _on_canvas(working: Mask, layout: Layout) -> Mask:
    result = np.zeros((layout.rows, layout.columns), dtype=np.bool_)
    result[: working.shape[0], : working.shape[1]] = working
    return result


LAYINGS: Mapping[str, Laying] = {"cover": covering, "spot": spot}
"""By the name of `--windows`."""
