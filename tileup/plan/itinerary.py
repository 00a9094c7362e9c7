"""What a run does, step by step: the padded canvas, its schedule, and the windows of each step.

A run is one way of the sampler over the canvas; most modes make one. A phase is a part of a run in
which the set of working tiles does not change.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tileup.contracts import Box, ModelSpec
from tileup.errors import UsageError
from tileup.plan.grid import Grid
from tileup.plan.samplers import Sampler
from tileup.plan.schedules import Schedule
from tileup.plan.tiles import TilePlan
from tileup.settings.values import Settings

Windows = tuple[Box, ...]
"""Windows that one evaluation of the denoiser computes."""


@dataclass(frozen=True, slots=True)
class Phase:
    """Steps [start, stop) of a run, with a fixed set of working tiles."""

    start: int
    """First step: index into the schedule's noise levels."""
    stop: int
    """One past the last step."""
    strengths: tuple[float, ...]
    """Strengths of the tiles at work, strongest first."""
    by_step: tuple[Windows, ...]
    """Windows of each step, cells of the padded canvas."""

    def __post_init__(self) -> None:
        if len(self.by_step) != self.stop - self.start:
            raise ValueError(f"{len(self.by_step)} sets of windows for {self.steps} steps")

    @property
    def steps(self) -> int:
        return self.stop - self.start

    @property
    def windows(self) -> Windows:
        """Windows of all steps, each place once."""
        distinct = {id(windows): windows for windows in self.by_step}.values()
        return tuple(dict.fromkeys(box for windows in distinct for box in windows))


@dataclass(frozen=True, slots=True)
class Run:
    """One way of the sampler, from its first noise level to 0."""

    phases: tuple[Phase, ...]
    """One after the other."""
    contraction: float = 1.0
    """The model sees the run's noise levels times this, in (0, 1]."""


WIDER = 4
"""How many times wider than high the core of a window may be, where windows differ in shape."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The padded canvas and the shape of its windows, all in cells."""

    rows: int
    columns: int
    """Size of the canvas, padded to hold one window."""
    window: int
    """Side of a window."""
    margin: int
    """Context at each side of a window; neighbours overlap by two margins, and strengths fade
    into one another over one."""
    multiple: int = 0
    """Where windows may differ in shape: cells of which their sides are multiples, unless they
    are as long as the canvas. None is then higher than `window` or wider than `widest`. 0: they
    are squares, or have one of `shapes`."""
    shapes: tuple[tuple[int, int], ...] = ()
    """Heights and widths that the windows of a step may have besides the square; none has a larger
    area than that."""

    @property
    def widest(self) -> int:
        """Cells of the widest window."""
        return self.window + (WIDER - 1) * (self.window - 2 * self.margin if self.multiple else 0)

    def padded(self, cells: Grid) -> Grid:
        """A map of the picture's cells, (rows, columns), on the padded canvas."""
        return cells.reflected(self.rows, self.columns)


@dataclass(frozen=True, slots=True)
class Itinerary:
    """Everything that sampling needs to know of a plan."""

    layout: Layout
    schedule: Schedule
    runs: tuple[Run, ...]
    """What the sampler does; without any, nothing is sampled."""
    strengths: Grid
    """Strength of each cell of the padded canvas, after merging; 0 is kept."""

    @property
    def sigmas(self) -> tuple[float, ...]:
        return self.schedule.sigmas

    @property
    def phases(self) -> tuple[Phase, ...]:
        """Phases of all runs."""
        return tuple(phase for run in self.runs for phase in run.phases)

    @property
    def windows(self) -> int:
        """Places at which a window is evaluated, in any step."""
        return len({box for phase in self.phases for box in phase.windows})

    def model_calls(self, sampler: Sampler) -> int:
        """Windows evaluated over all runs."""
        return self._evaluated(sampler, len)

    def evaluated_cells(self, sampler: Sampler) -> int:
        """Cells of the windows evaluated over all runs."""
        return self._evaluated(sampler, lambda windows: sum(box.area for box in windows))

    def _evaluated(self, sampler: Sampler, worth: Callable[[Windows], int]) -> int:
        """What the windows of all evaluations are worth together.

        Steps that have the same windows, as most of a phase do, have them added up once.
        """
        total = 0
        for phase in self.phases:
            steps = enumerate(phase.by_step, phase.start)
            for _, alike in itertools.groupby(steps, key=lambda step: id(step[1])):
                same = list(alike)
                times = sum(
                    sampler.evaluations(1, to_zero=step + 1 == self.schedule.steps)
                    for step, _ in same
                )
                total += worth(same[0][1]) * times
        return total


def effective(strengths: Grid, schedule: Schedule) -> Grid:
    """The strength map after merging."""
    result = strengths.values.copy()
    for lost, winner in schedule.merged.items():
        result[strengths.values == lost] = winner
    return strengths.with_values(result)


def progress(sigma: float, sigmas: tuple[float, ...]) -> float:
    """How far a run is at a noise level: the fractional index of its step, over all steps.

    Between two levels the index is linear in log sigma, below the last one linear in sigma.
    """
    if sigma >= sigmas[0]:
        return 0.0
    steps = len(sigmas) - 1
    index = next(i for i in range(steps) if sigmas[i + 1] <= sigma)
    high, low = sigmas[index], sigmas[index + 1]
    part = math.log(high / sigma) / math.log(high / low) if low else (high - sigma) / high
    return (index + part) / steps


@dataclass(frozen=True, slots=True)
class WindowSize:
    """Side and margin of the windows in cells."""

    side: int
    margin: int
    multiple: int = 0
    """As `Layout.multiple`."""
    shapes: tuple[tuple[int, int], ...] = ()
    """As `Layout.shapes`."""


def window_size(spec: ModelSpec, settings: Settings) -> WindowSize:
    """Windows in cells: the side rounded up to what the network takes, the overlap to even cells.

    Raises:
        UsageError: the overlap leaves no core.
    """
    pixels = settings.window or spec.window
    side = -(-pixels // spec.multiple) * spec.multiple // spec.stride
    margin = -(-settings.overlap // (2 * spec.stride))
    if 2 * margin >= side:
        most = 2 * spec.stride * ((side - 1) // 2)
        raise UsageError(
            f"overlap must be at most {most} with windows of {side * spec.stride} pixels,"
            f" got {settings.overlap}; a fifth of the window is usual"
        )
    shapes = spec.shapes if settings.window is None and settings.windows == "cover" else ()
    cells = ((height // spec.stride, width // spec.stride) for height, width in shapes)
    usable = tuple(shape for shape in cells if min(shape) > 2 * margin)
    return WindowSize(side, margin, _multiple(spec, settings), usable)


def windows_at_once(spec: ModelSpec, settings: Settings) -> int:
    """How many windows are evaluated at once, where nobody measured how many fit."""
    return spec.batch if isinstance(settings.batch, str) else settings.batch


def _multiple(spec: ModelSpec, settings: Settings) -> int:
    """Cells of which sides of windows are multiples, where they may differ in shape; else 0."""
    free = spec.any_shape and settings.window is None and settings.windows == "cover"
    return spec.multiple // spec.stride if free else 0


def layout_of(plan: TilePlan, spec: ModelSpec, size: WindowSize) -> Layout:
    """The padded canvas. A window larger than both the picture and the model's own is cut down.

    Where windows may differ in shape none need be larger than the picture.
    """
    if size.multiple:
        layout = Layout(plan.rows, plan.columns, size.side, size.margin, size.multiple)
        most = (plan.rows, layout.window), (plan.columns, layout.widest)
        rows, columns = (
            length if length >= longest else -(-length // size.multiple) * size.multiple
            for length, longest in most
        )
        return replace(layout, rows=rows, columns=columns)
    unit = spec.multiple // spec.stride
    useful = max(plan.rows, plan.columns, spec.window // spec.stride)
    side = min(size.side, -(-useful // unit) * unit)
    margin = min(size.margin, (side - 1) // 2)
    rows, columns = max(plan.rows, side), max(plan.columns, side)
    fitting = (each for each in size.shapes if each[0] <= rows and each[1] <= columns)
    return Layout(rows, columns, side, margin, shapes=tuple(fitting))


def control_until(sigmas: Sequence[float], end: float) -> float:
    """The noise level down to which a control network acts.

    It acts in the first floor(end * steps) steps, as in diffusers' `control_guidance_end`. The
    level lies between two steps, nearer to the lower one, so that rounding cannot move it across
    a step, and the evaluations that second-order samplers make halfway (in log sigma) belong to
    the step that makes them.

    Args:
        sigmas: the schedule of the strongest tile, descending, the last one 0.
        end: share of the steps, 0 to 1.

    Returns:
        0 where it acts in all steps, infinity where it acts in none.
    """
    steps = len(sigmas) - 1
    acting = math.floor(end * steps + 1e-9)
    if acting < 1:
        return math.inf
    if acting >= steps:
        return 0.0
    return sigmas[acting - 1] ** 0.25 * sigmas[acting] ** 0.75
