"""What each denoise mode runs: which strengths share a schedule, and which windows it evaluates.

How a mode brings strength about is in `tileup.denoise`; here is what it costs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tileup.contracts import ModelSpec, NoiseLevels
from tileup.errors import UsageError
from tileup.plan.grid import Grid
from tileup.plan.itinerary import Itinerary, Layout, Phase, Run, effective, layout_of, window_size
from tileup.plan.layings import LAYINGS, Laying
from tileup.plan.samplers import SAMPLERS, Sampler
from tileup.plan.schedules import Schedule, known_scheduler, make_schedule
from tileup.plan.tiles import TilePlan
from tileup.settings.values import Settings, did_you_mean


@dataclass(frozen=True, slots=True)
class Canvas:
    """What the runs of a mode are made from."""

    strengths: Grid
    """Strength of each cell of the picture, after merging."""
    schedule: Schedule
    layout: Layout
    laying: Laying
    levels: NoiseLevels
    seed: int

    def distinct(self) -> list[float]:
        """Positive strengths, strongest first."""
        return sorted(
            (each for each in np.unique(self.strengths.values).tolist() if each), reverse=True
        )

    def phase(
        self, start: int, stop: int, strengths: Sequence[float], working: NDArray[np.bool_]
    ) -> Phase:
        """Steps [start, stop) with windows over the working fields."""
        cells = self.strengths.with_values(working)
        windows = self.laying(cells, self.layout, range(start, stop), self.seed)
        return Phase(start, stop, tuple(strengths), windows)


def _schedule(canvas: Canvas) -> tuple[Run, ...]:
    """One run; a phase begins where a strength starts, and all stronger tiles work already."""
    distinct = canvas.distinct()
    starts = [canvas.schedule.starts[strength] for strength in distinct]
    bounds = itertools.pairwise([*starts, canvas.schedule.steps])
    phases = tuple(
        canvas.phase(start, stop, distinct[: order + 1], canvas.strengths.values >= distinct[order])
        for order, (start, stop) in enumerate(bounds)
    )
    return (Run(phases),) if phases else ()


def _sigma(canvas: Canvas) -> tuple[Run, ...]:
    """A canvas for each strength, all steps, windows over the tiles of that strength."""
    distinct = canvas.distinct()
    return tuple(
        Run(
            (canvas.phase(0, canvas.schedule.steps, [each], canvas.strengths.values == each),),
            contraction=float(sigma / canvas.schedule.sigmas[0]),
        )
        for each, sigma in zip(distinct, canvas.levels.sigma(np.array(distinct)), strict=True)
    )


def _passes(canvas: Canvas) -> tuple[Run, ...]:
    """A complete run of the whole canvas for each strength, from its own start."""
    everywhere, starts = (
        np.ones_like(canvas.strengths.values, dtype=np.bool_),
        canvas.schedule.starts,
    )
    return tuple(
        Run((canvas.phase(starts[strength], canvas.schedule.steps, [strength], everywhere),))
        for strength in canvas.distinct()
    )


def _together(canvas: Canvas) -> tuple[Run, ...]:
    """One run in which every tile that is not kept works in every step."""
    distinct = canvas.distinct()
    if not distinct:
        return ()
    return (Run((canvas.phase(0, canvas.schedule.steps, distinct, canvas.strengths.values > 0),)),)


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


def itinerary_of(
    plan: TilePlan, spec: ModelSpec, settings: Settings, laying: Laying | None = None
) -> Itinerary:
    """How a plan is run: schedule, phases and windows.

    Args:
        plan: the tiles.
        spec: the model.
        settings: how it is run.
        laying: that of the settings, where it remembers what it laid.
    """
    mode = MODES[settings.denoise_mode]
    top = strongest(plan, settings)
    strengths = {top, *plan.strengths} if mode.own_starts else {top}
    schedule = make_schedule(
        spec.levels, known_scheduler(settings.scheduler), settings.steps, [*strengths - {0.0}]
    )
    size = window_size(spec, settings)
    layout = layout_of(plan, spec, size)
    canvas = Canvas(
        strengths=effective(plan.grid, schedule),
        schedule=schedule,
        layout=layout,
        laying=laying or LAYINGS[settings.windows],
        levels=spec.levels,
        seed=settings.seed,
    )
    return Itinerary(layout, schedule, mode.runs(canvas), layout.padded(canvas.strengths))


def strongest(plan: TilePlan, settings: Settings) -> float:
    """Where the schedule starts: max denoise, whether or not a tile of this picture has it.

    So a flat tile takes the same few steps in every picture. A map drawn by hand has a highest
    strength of its own.
    """
    top = settings.max_denoise if settings.denoise_map is None else 0.0
    return round(max(top, *plan.strengths, 0.0), 6)


def sampler_of(settings: Settings) -> Sampler:
    """The sampler, if it can do what is asked of it.

    Raises:
        UsageError: there is none of this name (says which is near); or it chooses its own steps,
            by an error over the whole canvas, where tiles start at steps of their own.
    """
    name, mode = settings.sampler, settings.denoise_mode
    if name not in SAMPLERS:
        raise UsageError(f"sampler {name!r} is not known{did_you_mean(name, list(SAMPLERS))}")
    uniform = settings.min_denoise == settings.max_denoise and settings.denoise_map is None
    if SAMPLERS[name].call == "tolerance" and not (
        MODES[mode].any_sampler or (mode == "schedule" and uniform)
    ):
        others = [each for each, sampler in SAMPLERS.items() if sampler.call != "tolerance"]
        modes = [each for each, known in MODES.items() if known.any_sampler]
        raise UsageError(
            f"sampler {name} chooses its own steps, by an error over the whole canvas, so"
            f" denoise-mode {mode} cannot give tiles strengths of their own with it;"
            f" use {', '.join(others[:-1])} or {others[-1]}, or denoise-mode {' or '.join(modes)}"
        )
    return SAMPLERS[name]
