"""From a picture and settings to all that will be done, without a model and without torch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tileup.contracts import Box, ModelSpec
from tileup.errors import UsageError
from tileup.plan.cost import Cost
from tileup.plan.detail import DetailMap
from tileup.plan.edits import Drawn, edited
from tileup.plan.itinerary import Itinerary, Layout, effective
from tileup.plan.laying import LAYINGS
from tileup.plan.modes import MODES, Canvas
from tileup.plan.noise_levels import fitted
from tileup.plan.quadtree import NOISE_FLOOR, quadtree
from tileup.plan.samplers import SAMPLERS, Sampler
from tileup.plan.schedules import SCHEDULERS, Scheduler, make_schedule
from tileup.plan.tiles import Tile, TilePlan
from tileup.settings.values import Settings, did_you_mean


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan, how it will be run, and what that costs."""

    plan: TilePlan
    itinerary: Itinerary
    sampler: Sampler
    cost: Cost
    warnings: tuple[str, ...]
    """Whole sentences that the user should see once."""


@dataclass(frozen=True, slots=True)
class WindowSize:
    """Side and margin of the windows in cells."""

    side: int
    margin: int


@dataclass(frozen=True, slots=True)
class Planner:
    """Plans one picture, at any threshold."""

    detail: DetailMap
    width: int
    height: int
    spec: ModelSpec
    settings: Settings
    sampler: Sampler
    drawn: Drawn

    def tiles(self, threshold: float | str) -> TilePlan:
        """The edited plan at a detail threshold."""
        settings, detail = self.settings, self.detail
        plan = quadtree(
            detail,
            width=self.width,
            height=self.height,
            scale=(self.width * self.height / (detail.width * detail.height)) ** 0.5,
            stride=self.spec.stride,
            tile=settings.tile,
            min_tile=settings.min_tile,
            min_denoise=settings.min_denoise,
            max_denoise=settings.max_denoise,
            threshold=threshold,
        )
        return edited(plan, settings, self.drawn)

    def planned(self, plan: TilePlan, *more: str) -> Planned:
        """How a plan is run, and what that costs."""
        itinerary = itinerary_of(plan, self.spec, self.settings)
        cost = cost_of(plan, itinerary, self.sampler, self.spec, self.settings)
        warnings = _warnings(itinerary, self.sampler, self.spec, self.settings)
        stretched = _stretched(self.width, self.height, self.drawn)
        return Planned(plan, itinerary, self.sampler, cost, (*warnings, *more, *stretched))

    def within(self, budget: float) -> Planned:
        """The plan with most detail whose cost is at most a share of uniform max denoise.

        A search on the plan alone: the cost falls as the threshold rises. If even whole roots
        cost more, they are planned, with a warning that says what can be reached.
        """
        floor = NOISE_FLOOR[self.settings.detail_metric]
        finest = self.tiles(0.0)
        top = max(2 * floor, *(tile.detail for tile in finest.tiles)) * 1.01
        best = self.planned(self.tiles(top))
        if _share(best) > budget:
            return self.planned(
                best.plan,
                f"A budget of {budget:.0%} cannot be reached; the cheapest plan of this picture"
                f" costs {_share(best):.0%}. {self._cheaper()}",
            )
        low, high = math.log(floor), math.log(top)
        for _ in range(BUDGET_STEPS):
            middle = (low + high) / 2
            plan = self.planned(self.tiles(math.exp(middle)))
            if _share(plan) <= budget:
                best, high = plan, middle
            else:
                low = middle
        return best

    def _cheaper(self) -> str:
        """What would cost less than the cheapest plan."""
        if MODES[self.settings.denoise_mode].cost_falls and self.settings.min_denoise > 0:
            return "A lower --min-denoise or --skip-larger costs less."
        return "Only kept tiles cost less: a --mask, or --skip-larger."


BUDGET_STEPS = 14
"""Halvings of the range of thresholds, on a log scale: to a part in a thousand."""


def _share(planned: Planned) -> float:
    return 1 - planned.cost.saving


def plan_picture(
    pixels: NDArray[np.float32],
    width: int,
    height: int,
    spec: ModelSpec,
    settings: Settings,
    drawn: Drawn | None = None,
) -> Planned:
    """Plan one picture.

    Args:
        pixels: the input before enlarging, RGB in [0, 1], shape (H, W, 3).
        width, height: size of the output, pixels.
        spec: the model that will be used.
        settings: everything else.
        drawn: mask and map, already read.

    Raises:
        UsageError: a sampler, scheduler or window that cannot be.
    """
    spec = fitted(spec, window_size(spec, settings).side * spec.stride)
    planner = Planner(
        DetailMap.of(pixels, settings.detail_metric),
        width,
        height,
        spec,
        settings,
        sampler_of(settings),
        drawn or Drawn(),
    )
    if settings.budget is not None:
        return planner.within(settings.budget)
    return planner.planned(planner.tiles(settings.detail_threshold))


STRETCH = 1.1
"""Ratio of aspect ratios from which a mask or map was hardly meant for the picture."""


def _stretched(width: int, height: int, drawn: Drawn) -> Iterator[str]:
    for name, grey in (("mask", drawn.mask), ("denoise-map", drawn.denoise_map)):
        if grey is None:
            continue
        rows, columns = grey.shape
        ratio = (width * rows) / (height * columns)
        if max(ratio, 1 / ratio) > STRETCH:
            yield f"{name} is {columns}x{rows}: it is stretched to the picture's {width}x{height}."


def itinerary_of(plan: TilePlan, spec: ModelSpec, settings: Settings) -> Itinerary:
    """How a plan is run: schedule, phases and windows."""
    mode = MODES[settings.denoise_mode]
    top = strongest(plan, settings)
    strengths = {top, *plan.strengths} if mode.own_starts else {top}
    schedule = make_schedule(
        spec.levels, known_scheduler(settings.scheduler), settings.steps, [*strengths - {0.0}]
    )
    size = window_size(spec, settings)
    layout = layout_of(plan, spec, size)
    canvas = Canvas(
        strengths=effective(plan.denoise_map(), schedule),
        schedule=schedule,
        layout=layout,
        laying=LAYINGS[settings.windows],
        levels=spec.levels,
        seed=settings.seed,
    )
    return Itinerary(layout, schedule, mode.runs(canvas), layout.padded(canvas.strengths))


def layout_of(plan: TilePlan, spec: ModelSpec, size: WindowSize) -> Layout:
    """The padded canvas. A window larger than both the picture and the model's own is cut down."""
    unit = spec.multiple // spec.stride
    useful = max(plan.rows, plan.columns, spec.window // spec.stride)
    side = min(size.side, -(-useful // unit) * unit)
    margin = min(size.margin, (side - 1) // 2)
    return Layout(max(plan.rows, side), max(plan.columns, side), side, margin)


def strongest(plan: TilePlan, settings: Settings) -> float:
    """Where the schedule starts: max denoise, whether or not a tile of this picture has it.

    So a flat tile takes the same few steps in every picture. A map drawn by hand has a highest
    strength of its own.
    """
    top = settings.max_denoise if settings.denoise_map is None else 0.0
    return round(max(top, *plan.strengths, 0.0), 6)


def cost_of(
    plan: TilePlan, itinerary: Itinerary, sampler: Sampler, spec: ModelSpec, settings: Settings
) -> Cost:
    """What an itinerary costs, beside one tile of the strongest strength."""
    uniform = itinerary_of(
        at_strength(plan, strongest(plan, settings)),
        spec,
        replace(settings, denoise_mode="schedule"),
    )
    area = (itinerary.layout.window * spec.stride) ** 2 / 1e6
    calls = itinerary.model_calls(sampler)
    return Cost(
        tiles=len(plan.tiles),
        windows=itinerary.windows,
        model_calls=calls,
        megapixel_steps=calls * area,
        uniform_megapixel_steps=uniform.model_calls(sampler) * area,
        exact=sampler.call != "tolerance",
    )


def known_scheduler(name: str) -> Scheduler:
    """A scheduler by name.

    Raises:
        UsageError: there is none of this name; says which is near.
    """
    if name not in SCHEDULERS:
        raise UsageError(f"scheduler {name!r} is not known{did_you_mean(name, list(SCHEDULERS))}")
    return SCHEDULERS[name]


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
    return WindowSize(side, margin)


def _blend_width(itinerary: Itinerary) -> float:
    """Cells over which one Gaussian window gives way to the next, from 10 to 90 percent.

    Two bells of variance 0.01 a distance D apart mix as a logistic curve: 4.394 * 0.01 * T^2 / D.
    """
    side, margin = itinerary.layout.window, itinerary.layout.margin
    return 4.394 * 0.01 * side**2 / (side - 2 * margin)


def at_strength(plan: TilePlan, denoise: float) -> TilePlan:
    """The same canvas as one tile of one strength."""
    whole = Box(0, 0, plan.rows, plan.columns)
    detail = max(tile.detail for tile in plan.tiles)
    return replace(plan, tiles=(Tile(whole, depth=0, detail=detail, denoise=denoise),))


GEOMETRIC = frozenset({"karras", "exponential", "polyexponential"})
TEXTLESS = "bundled"
"""The family that takes no text."""
HUGE_SIGMA = 100
"""Above this, karras and exponential spend most steps at noise levels no weak tile starts from."""


def _idle(settings: Settings, spec: ModelSpec, sampler: Sampler) -> Iterator[str]:
    """What was asked for beside the defaults and is not used."""
    usual = Settings()

    def asked(*names: str) -> Iterator[str]:
        for name in names:
            if getattr(settings, name) != getattr(usual, name):
                yield name.replace("_", "-")

    if settings.denoise_mode != "scale":
        for name in asked("min_scale", "scale_range", "ramp"):
            yield f"{name} has no effect: it belongs to denoise-mode scale."
    if not settings.control:
        for name in asked("control_scale", "control_end"):
            yield f"{name} has no effect: no control is given."
    if settings.denoise_map is not None:
        for name in asked("denoise_by"):
            yield f"{name} has no effect: the denoise map gives every tile its strength."
    if spec.family == TEXTLESS:
        for name in asked("vae_tile"):
            yield f"{name} has no effect: {spec.name} has no VAE."
    elif spec.family != "flux-dev":
        for name in asked("guidance"):
            yield f"{name} has no effect: {spec.name} was not distilled with it; cfg guides it."
    for name in asked(*sorted({"eta", "s_noise", "s_churn"} - sampler.options)):
        yield f"{sampler.name} takes no {name}: it has no effect."
    if spec.family == TEXTLESS:
        for name in asked("prompt", "negative", "cfg", "guidance"):
            yield f"{spec.name} takes no text: {name} has no effect."


def _warnings(
    itinerary: Itinerary, sampler: Sampler, spec: ModelSpec, settings: Settings
) -> Iterator[str]:
    schedule, mode = itinerary.schedule, settings.denoise_mode
    if settings.min_denoise == settings.max_denoise and settings.denoise_map is None:
        yield f"min-denoise equals max-denoise: every tile has strength {settings.max_denoise:g}."
    if schedule.merged:
        pairs = ", ".join(f"{lost:g} as {kept:g}" for lost, kept in schedule.merged.items())
        yield (
            f"This plan has more strengths than {schedule.steps} steps can keep apart; "
            f"these run as their neighbours: {pairs}."
        )
    if not MODES[mode].exact:
        yield f"denoise-mode {mode} is an approximation: it is not per-tile denoise."
    for run in itinerary.runs:
        below = sum(0 < s * run.contraction < spec.levels.sigma_min for s in schedule.sigmas)
        if below and run.contraction < 1:
            yield (
                f"strength {run.phases[0].strengths[0]:g}: {below} of {schedule.steps} steps fall"
                f" below the lowest noise level that the model knows ({spec.levels.sigma_min:g})."
            )
    if settings.scheduler in GEOMETRIC and max(schedule.sigmas, default=0) > HUGE_SIGMA:
        yield (
            f"{settings.scheduler} starts from noise level {schedule.sigmas[0]:g} here and"
            f" leaves few steps for details; sgm_uniform does not."
        )
    if settings.weights == "gaussian" and 0 < (blend := _blend_width(itinerary)) < 2:
        yield (
            f"gaussian weights blend over {blend:.1f} latent cells with windows this small, which"
            f" is nearly a hard edge; feather blends over the whole overlap."
        )
    yield from _idle(settings, spec, sampler)
    if sampler.call == "tolerance":
        yield f"{sampler.name} chooses its own steps: --steps is ignored, the cost is a guess."
