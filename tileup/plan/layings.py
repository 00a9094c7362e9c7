"""The windows of each step: few that cover what works, or a grid that moves."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

import numpy as np

from tileup.contracts import Box
from tileup.plan.fitted_windows import fitted_windows
from tileup.plan.grid import Areas, Grid
from tileup.plan.itinerary import Layout, Windows
from tileup.plan.shaped_windows import shaped_windows
from tileup.plan.windows import cover

Laying = Callable[[Grid, Layout, range, int], tuple[Windows, ...]]
"""(where cells work, canvas, steps, seed) -> windows of each step. The map has the size of the
picture, at most that of the canvas."""


def covering(working: Grid, layout: Layout, steps: range, seed: int) -> tuple[Windows, ...]:
    """The fewest windows that cover the working cells with a margin, the same in every step.

    Where they may differ in shape: those that are the least work. Where they may have several
    shapes: squares, or each its own, whichever are less work; where all works, all of one shape
    too, as they can be placed to the cell.
    """
    cells = _on_canvas(working, layout)
    if layout.multiple:
        windows = fitted_windows(cells, layout)
    else:
        square = layout.window, layout.window
        shapes = (square, *layout.shapes) if working.values.all() else (square,)
        ways = [cover(cells, shape, layout.margin) for shape in shapes]
        if layout.shapes:
            ways.append(shaped_windows(cells, layout))
        windows = min(ways, key=lambda boxes: sum(box.area for box in boxes))
    return (windows,) * len(steps)


def spot(working: Grid, layout: Layout, steps: range, seed: int) -> tuple[Windows, ...]:
    """SpotDiffusion for photographs: a grid without overlap, moved at random in each step.

    Frolov et al. (2024), arXiv 2407.15507, roll the canvas as a torus; a photograph is none, so
    here the windows that would stick out are moved inwards. Both axes move, seeded.
    """
    areas = Areas(_on_canvas(working, layout))
    return tuple(_jittered(areas, layout, np.random.default_rng([seed, step])) for step in steps)


def _jittered(working: Areas, layout: Layout, random: np.random.Generator) -> Windows:
    """The windows of a grid that touch working cells or those into which strengths fade."""
    tops, lefts = (
        _starts(length, layout.window, int(random.integers(layout.window)))
        for length in (layout.rows, layout.columns)
    )
    corners = np.array(list(itertools.product(tops, lefts)), dtype=np.int64)
    around = np.hstack([corners - layout.margin, corners + layout.window + layout.margin])
    used = working.within(around.clip(0, np.tile([layout.rows, layout.columns], 2))) > 0
    return tuple(
        Box(top, left, top + layout.window, left + layout.window)
        for top, left in corners[used].tolist()
    )


def _starts(length: int, window: int, offset: int) -> list[int]:
    """Where the windows of a grid with this offset start, moved into [0, length - window]."""
    wanted = range(offset - window if offset else 0, length, window)
    return sorted({min(max(start, 0), length - window) for start in wanted})


def _on_canvas(working: Grid, layout: Layout) -> Grid:
    """A map of the picture on its padded canvas; nothing works in the padding."""
    below, beside = layout.rows - working.shape[0], layout.columns - working.shape[1]
    return Grid(
        np.append(working.rows, [layout.rows] if below else []).astype(np.int64),
        np.append(working.columns, [layout.columns] if beside else []).astype(np.int64),
        np.pad(working.values, ((0, below > 0), (0, beside > 0))),
    )


def remembered(laying: Laying) -> Laying:
    """The same, which lays the windows of each map once: the plans of a search share most maps.

    Those that do not move are laid once for all steps.
    """
    found: dict[object, tuple[Windows, ...]] = {}
    moves = laying is not covering

    def laid(working: Grid, layout: Layout, steps: range, seed: int) -> tuple[Windows, ...]:
        same = working.merged()
        bits = np.packbits(same.values)
        known = (*(each.tobytes() for each in (same.rows, same.columns, bits)), layout)
        known += (steps, seed) if moves else ()
        if known not in found:
            found[known] = laying(working, layout, steps, seed)
        return found[known] if moves else found[known][:1] * len(steps)

    return laid


LAYINGS: Mapping[str, Laying] = {"cover": covering, "spot": spot}
"""By the name of `--windows`."""
