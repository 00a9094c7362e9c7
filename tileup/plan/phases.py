"""What a run does, step by step: the padded canvas, its schedule, and the windows of each phase.

A phase is a run of sampler steps in which the set of working tiles does not change. It begins
where a strength starts, and all stronger tiles are at work already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tileup.contracts import Box
from tileup.plan.schedules import Schedule
from tileup.plan.tiles import TilePlan
from tileup.plan.windows import cover


@dataclass(frozen=True, slots=True)
class Phase:
    """Steps [start, stop) of the run, with a fixed set of working tiles."""

    start: int
    """First step: index into the schedule's noise levels."""
    stop: int
    """One past the last step."""
    strengths: tuple[float, ...]
    """Strengths of the tiles at work, strongest first; the last one starts here."""
    windows: tuple[Box, ...]
    """Windows that are evaluated, cells of the padded canvas."""

    @property
    def steps(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class Layout:
    """The padded canvas and the shape of its windows, all in cells."""

    rows: int
    columns: int
    """Size of the canvas, padded to hold one window."""
    window: int
    """Side of a window."""
    margin: int
    """Context at each side of a window; neighbours overlap by two margins."""

    def padded(self, cells: NDArray[np.float64]) -> NDArray[np.float64]:
        """A map of the picture's cells, (rows, columns), on the padded canvas."""
        height, width = cells.shape
        return cells[np.ix_(reflected(height, self.rows), reflected(width, self.columns))]


@dataclass(frozen=True, slots=True)
class Itinerary:
    """Everything that sampling needs to know of a plan."""

    layout: Layout
    schedule: Schedule
    phases: tuple[Phase, ...]
    """Strongest first; together they make all the steps, one after the other."""
    strengths: NDArray[np.float64]
    """Strength of each cell of the padded canvas, after merging; 0 is kept."""

    @property
    def sigmas(self) -> tuple[float, ...]:
        return self.schedule.sigmas


def reflected(length: int, total: int) -> NDArray[np.intp]:
    """Indices that extend `length` cells to `total` by reflection, as often as it takes."""
    if length == 1:
        return np.zeros(total, dtype=np.intp)
    return np.pad(np.arange(length), (0, max(total - length, 0)), mode="reflect")


def make_itinerary(plan: TilePlan, schedule: Schedule, window: int, margin: int) -> Itinerary:
    """Phases of a plan under a schedule.

    Args:
        plan: tiles and strengths.
        schedule: made for the plan's strengths.
        window: side of a window, cells.
        margin: context at each side of a window, cells.
    """
    layout = Layout(max(plan.rows, window), max(plan.columns, window), window, margin)
    strengths = effective(plan.denoise_map(), schedule)
    bounds = [*schedule.starts.values(), schedule.steps]
    working = list(schedule.starts)
    phases = [
        Phase(
            start=bounds[order],
            stop=bounds[order + 1],
            strengths=tuple(working[: order + 1]),
            windows=_windows(strengths >= weakest, layout),
        )
        for order, weakest in enumerate(working)
    ]
    return Itinerary(layout, schedule, tuple(phases), layout.padded(strengths))


def effective(strengths: NDArray[np.float64], schedule: Schedule) -> NDArray[np.float64]:
    """The strength map after merging."""
    result = strengths.copy()
    for lost, winner in schedule.merged.items():
        result[strengths == lost] = winner
    return result


def _windows(working: NDArray[np.bool_], layout: Layout) -> tuple[Box, ...]:
    needed = np.zeros((layout.rows, layout.columns), dtype=np.bool_)
    needed[: working.shape[0], : working.shape[1]] = working
    return cover(needed, (layout.window, layout.window), layout.margin)


def distinct_windows(phases: Sequence[Phase]) -> int:
    """Windows of a run, each place counted once."""
    return len({window for phase in phases for window in phase.windows})
