"""What each denoise mode runs: which strengths share a schedule, and which windows it evaluates.

How a mode brings strength about is in `tileup.denoise`; here is what it costs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tileup.contracts import NoiseLevels
from tileup.plan.itinerary import Layout, Phase, Run
from tileup.plan.laying import Laying
from tileup.plan.schedules import Schedule


@dataclass(frozen=True, slots=True)
class Canvas:
    """What the runs of a mode are made from."""

    strengths: NDArray[np.float64]
    """Strength of each cell of the picture, after merging."""
    schedule: Schedule
    layout: Layout
    laying: Laying
    levels: NoiseLevels
    seed: int

    def distinct(self) -> list[float]:
        """Positive strengths, strongest first."""
        return sorted((each for each in np.unique(self.strengths).tolist() if each), reverse=True)

    def phase(
        self, start: int, stop: int, strengths: Sequence[float], working: NDArray[np.bool_]
    ) -> Phase:
        """Steps [start, stop) with windows over the working cells."""
        windows = self.laying(working, self.layout, range(start, stop), self.seed)
        return Phase(start, stop, tuple(strengths), windows)


def _schedule(canvas: Canvas) -> tuple[Run, ...]:
    """One run; a phase begins where a strength starts, and all stronger tiles work already."""
    distinct = canvas.distinct()
    starts = [canvas.schedule.starts[strength] for strength in distinct]
    bounds = itertools.pairwise([*starts, canvas.schedule.steps])
    phases = tuple(
        canvas.phase(start, stop, distinct[: order + 1], canvas.strengths >= distinct[order])
        for order, (start, stop) in enumerate(bounds)
    )
    return (Run(phases),) if phases else ()


def _sigma(canvas: Canvas) -> tuple[Run, ...]:
    """A canvas for each strength, all steps, windows over the tiles of that strength."""
    distinct = canvas.distinct()
    return tuple(
        Run(
            (canvas.phase(0, canvas.schedule.steps, [each], canvas.strengths == each),),
            contraction=float(sigma / canvas.schedule.sigmas[0]),
        )
        for each, sigma in zip(distinct, canvas.levels.sigma(np.array(distinct)), strict=True)
    )


def _passes(canvas: Canvas) -> tuple[Run, ...]:
    """A complete run of the whole canvas for each strength, from its own start."""
    everywhere, starts = np.ones_like(canvas.strengths, dtype=np.bool_), canvas.schedule.starts
    return tuple(
        Run((canvas.phase(starts[strength], canvas.schedule.steps, [strength], everywhere),))
        for strength in canvas.distinct()
    )


def _together(canvas: Canvas) -> tuple[Run, ...]:
    """One run in which every tile that is not kept works in every step."""
    distinct = canvas.distinct()
    if not distinct:
        return ()
    return (Run((canvas.phase(0, canvas.schedule.steps, distinct, canvas.strengths > 0),)),)


@dataclass(frozen=True, slots=True)
class Mode:
    """What planning needs to know of a denoise mode."""

    runs: Callable[[Canvas], tuple[Run, ...]]
    own_starts: bool
    """Whether every strength starts on its own point of the schedule, or all with the strongest."""
    exact: bool
    """Whether a tile gets what a plain run of its strength gives, or an approximation."""
    cost_falls: bool
    """Whether weaker tiles cost less."""
    any_sampler: bool
    """Whether a sampler that chooses its own steps can be used with several strengths."""


MODES: Mapping[str, Mode] = {
    "schedule": Mode(_schedule, own_starts=True, exact=True, cost_falls=True, any_sampler=False),
    "sigma": Mode(_sigma, own_starts=False, exact=True, cost_falls=False, any_sampler=False),
    "passes": Mode(_passes, own_starts=True, exact=True, cost_falls=True, any_sampler=True),
    "blend": Mode(_together, own_starts=False, exact=False, cost_falls=False, any_sampler=True),
    "scale": Mode(_together, own_starts=False, exact=False, cost_falls=False, any_sampler=True),
}
"""By the name of `--denoise-mode`."""
