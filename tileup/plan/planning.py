"""From a picture and settings to all that will be done, without a model and without torch."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from tileup.contracts import ModelSpec
from tileup.images.picture import Picture
from tileup.images.pixels import Pixels
from tileup.images.sizes import output_size
from tileup.plan.advice import Facts, warnings_of
from tileup.plan.blocks import COARSE, looked_at, quantisation_step
from tileup.plan.budget import within
from tileup.plan.cost import Cost, Prices
from tileup.plan.edits import HandDrawn, edited, read_drawn
from tileup.plan.itinerary import Itinerary, window_size
from tileup.plan.modes import sampler_of
from tileup.plan.noise_levels import fitted
from tileup.plan.quadtree import Cuts, Forest
from tileup.plan.samplers import Sampler
from tileup.plan.tiles import TilePlan
from tileup.settings.values import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan, how it will be run, and what that costs."""

    plan: TilePlan
    itinerary: Itinerary
    sampler: Sampler
    cost: Cost
    warnings: tuple[str, ...]
    """Whole sentences that the user should see once."""
    deblock: bool = False
    """Whether JPEG's damage shall be undone."""


def plan_picture(picture: Picture, spec: ModelSpec, settings: Settings) -> Planned:
    """Everything that will be done to a picture, without a model and without torch.

    Raises:
        UsageError: the settings do not go together, or a mask or map cannot be read.
    """
    width, height = output_size(picture.width, picture.height, settings)
    return plan_pixels(picture.pixels, width, height, spec, settings, read_drawn(settings))


def plan_pixels(
    pixels: Pixels,
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
    if _detects_blocks(spec, settings) and not isinstance(pixels, np.ndarray):
        pixels = looked_at(pixels)
    spec = fitted(spec, window_size(spec, settings).side * spec.stride)
    sampler, drawn = sampler_of(settings), drawn or HandDrawn()
    prices = Prices(spec, settings, sampler)
    cuts = Cuts.of(width, height, spec.stride, settings.tile, settings.min_tile)
    plan = _tiles(pixels, cuts, settings, drawn, prices)
    itinerary = prices.itinerary(plan)
    cost = prices.of(plan, itinerary)
    given = pixels.shape[1], pixels.shape[0]
    warnings = warnings_of(Facts(plan, itinerary, cost, sampler, spec, settings, drawn, given))
    return Planned(plan, itinerary, sampler, cost, warnings, _deblock(pixels, spec, settings))


def _deblock(pixels: Pixels, spec: ModelSpec, settings: Settings) -> bool:
    """Whether JPEG's damage shall be undone: by a wish, or because there is some."""
    if not _detects_blocks(spec, settings):
        return settings.deblock == "on"
    step = quantisation_step(pixels)
    if step >= COARSE:
        log.info("JPEG quantised the picture in steps of %g: it is deblocked", step)
    return step >= COARSE


def _detects_blocks(spec: ModelSpec, settings: Settings) -> bool:
    """Whether the pixels are asked for JPEG's damage."""
    return settings.deblock == "auto" and spec.deblocks


def _tiles(
    pixels: Pixels, cuts: Cuts, settings: Settings, drawn: HandDrawn, prices: Prices
) -> TilePlan:
    """The tiles at the threshold or within the budget of the settings, edited as they ask."""
    detail = cuts.measured(pixels, settings.detail_metric)
    forest = Forest.of(detail, cuts, settings.min_denoise, settings.max_denoise)

    def tiles(threshold: float | str) -> TilePlan:
        return edited(forest.plan(threshold), settings, drawn)

    if settings.budget is None:
        return tiles(settings.detail_threshold)
    return within(settings.budget, tiles, prices.share, forest.noise_floor, forest.highest)
