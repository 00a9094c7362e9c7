"""From a picture and settings to all that will be done, without a model and without torch."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tileup.contracts import Box, ModelSpec
from tileup.errors import UsageError
from tileup.plan.cost import Cost, megapixel_steps, model_calls
from tileup.plan.detail import DetailMap
from tileup.plan.phases import Itinerary, distinct_windows, make_itinerary
from tileup.plan.quadtree import quadtree
from tileup.plan.samplers import SAMPLERS, Sampler
from tileup.plan.schedules import SCHEDULERS, Schedule, make_schedule
from tileup.plan.tiles import Tile, TilePlan
from tileup.settings import Settings, did_you_mean


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


def plan_picture(
    pixels: NDArray[np.float32], width: int, height: int, spec: ModelSpec, settings: Settings
) -> Planned:
    """Plan one picture.

    Args:
        pixels: the input before enlarging, RGB in [0, 1], shape (H, W, 3).
        width, height: size of the output, pixels.
        spec: the model that will be used.
        settings: everything else.

    Raises:
        UsageError: a sampler, scheduler or window that cannot be.
    """
    sampler = known_sampler(settings.sampler)
    plan = quadtree(
        DetailMap.of(pixels, settings.detail_metric),
        width=width,
        height=height,
        scale=(width * height / (pixels.shape[1] * pixels.shape[0])) ** 0.5,
        stride=spec.stride,
        tile=settings.tile,
        min_tile=settings.min_tile,
        min_denoise=settings.min_denoise,
        max_denoise=settings.max_denoise,
        threshold=settings.detail_threshold,
    )
    itinerary = itinerary_of(plan, spec, settings)
    calls = model_calls(itinerary, sampler)
    uniform = itinerary_of(at_strength(plan, settings.max_denoise), spec, settings)
    cost = Cost(
        tiles=len(plan.tiles),
        windows=distinct_windows(itinerary.phases),
        model_calls=calls,
        megapixel_steps=megapixel_steps(calls, itinerary, spec.stride),
        uniform_megapixel_steps=megapixel_steps(
            model_calls(uniform, sampler), uniform, spec.stride
        ),
    )
    return Planned(plan, itinerary, sampler, cost, _warnings(settings, itinerary.schedule))


def itinerary_of(plan: TilePlan, spec: ModelSpec, settings: Settings) -> Itinerary:
    """How a plan is run: schedule, phases and windows."""
    if settings.scheduler not in SCHEDULERS:
        raise UsageError(
            f"scheduler {settings.scheduler!r} is not known"
            f"{did_you_mean(settings.scheduler, list(SCHEDULERS))}"
        )
    schedule = make_schedule(
        spec.levels, SCHEDULERS[settings.scheduler], settings.steps, plan.strengths
    )
    size = window_size(spec, settings)
    return make_itinerary(plan, schedule, size.side, size.margin)


def known_sampler(name: str) -> Sampler:
    """A sampler by name.

    Raises:
        UsageError: there is none of this name; says which is near.
    """
    if name not in SAMPLERS:
        raise UsageError(f"sampler {name!r} is not known{did_you_mean(name, list(SAMPLERS))}")
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
        raise UsageError(
            f"overlap ({settings.overlap}) must be below the window ({side * spec.stride}); "
            f"a fifth of it is usual"
        )
    return WindowSize(side, margin)


def at_strength(plan: TilePlan, denoise: float) -> TilePlan:
    """The same canvas as one tile of one strength."""
    whole = Box(0, 0, plan.rows, plan.columns)
    detail = max(tile.detail for tile in plan.tiles)
    return replace(plan, tiles=(Tile(whole, depth=0, detail=detail, denoise=denoise),))


def _warnings(settings: Settings, schedule: Schedule) -> tuple[str, ...]:
    found: list[str] = []
    if settings.min_denoise == settings.max_denoise:
        found.append(
            f"min-denoise equals max-denoise: every tile has strength {settings.max_denoise:g}."
        )
    if schedule.merged:
        pairs = ", ".join(f"{lost:g} as {kept:g}" for lost, kept in schedule.merged.items())
        found.append(
            f"This plan has more strengths than {schedule.steps} steps can keep apart; "
            f"these run as their neighbours: {pairs}."
        )
    return tuple(found)
