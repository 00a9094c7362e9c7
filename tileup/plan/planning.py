"""From a picture and settings to all that will be done, without a model and without torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tileup.contracts import ModelSpec
from tileup.images.picture import Picture
from tileup.images.sizes import output_size
from tileup.plan.advice import one_sided, stretched, warnings_of
from tileup.plan.cost import Cost, cost_of
from tileup.plan.detail import DetailMap
from tileup.plan.edits import HandDrawn, edited, read_drawn
from tileup.plan.itinerary import Itinerary, window_size
from tileup.plan.modes import MODES, itinerary_of, sampler_of
from tileup.plan.noise_levels import fitted
from tileup.plan.quadtree import NOISE_FLOOR, quadtree
from tileup.plan.samplers import Sampler
from tileup.plan.tiles import TilePlan
from tileup.settings.values import Settings


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
class Planner:
    """Plans one picture, at any threshold."""

    detail: DetailMap
    width: int
    height: int
    spec: ModelSpec
    settings: Settings
    sampler: Sampler
    drawn: HandDrawn

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
        warnings = warnings_of(itinerary, self.sampler, self.spec, self.settings)
        by_hand = *stretched(self.width, self.height, self.drawn), *one_sided(self.drawn)
        return Planned(plan, itinerary, self.sampler, cost, (*warnings, *more, *by_hand))

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


def plan_pixels(
    pixels: NDArray[np.float32],
    width: int,
    height: int,
    spec: ModelSpec,
    settings: Settings,
    drawn: HandDrawn | None = None,
) -> Planned:
    """Plan one picture from its pixels.

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
        drawn or HandDrawn(),
    )
    if settings.budget is not None:
        return planner.within(settings.budget)
    return planner.planned(planner.tiles(settings.detail_threshold))


def plan_picture(picture: Picture, spec: ModelSpec, settings: Settings) -> Planned:
    """Everything that will be done to a picture, without a model and without torch.

    Raises:
        UsageError: the settings do not go together, or a mask or map cannot be read.
    """
    width, height = output_size(picture.width, picture.height, settings)
    return plan_pixels(picture.pixels, width, height, spec, settings, read_drawn(settings))
