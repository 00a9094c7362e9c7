"""Edits of a plan: strengths by another rule, tiles skipped, masks and maps drawn by hand.

Each function takes a plan and gives a plan. A kept tile has strength 0.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tileup.contracts import Box
from tileup.errors import InputError, UsageError
from tileup.images.pixels import bands, spans
from tileup.images.reading import open_picture
from tileup.plan.tiles import Tile, TilePlan
from tileup.settings.values import Settings, parse_extent
from tileup.storage.remote import place

MAX_LEVELS = 8
"""Distinct strengths that a map or a metric is reduced to: each costs a start of its own."""
MAP_PIXELS = 8
"""Side of the squares that a denoise map is averaged over, output pixels."""
WHITE = 0.5 - 1e-6
"""From here on a mask is white."""
_BAND = 256
"""Rows of the output that a mask is enlarged to at once, or some more."""

GreyMap = NDArray[np.float32]
"""A picture of one channel in [0, 1], any size, shape (H, W)."""


@dataclass(frozen=True, slots=True)
class HandDrawn:
    """Pictures that edit a plan by hand."""

    mask: GreyMap | None = None
    """White parts are kept."""
    denoise_map: GreyMap | None = None
    """Grey is the strength."""


def read_drawn(settings: Settings) -> HandDrawn:
    """The mask and the denoise map that the settings name; what is transparent counts as black.

    Raises:
        UsageError: a file is missing or no picture.
    """
    limit = settings.max_input_pixels
    return HandDrawn(
        mask=_grey("mask", settings.mask, limit),
        denoise_map=_grey("denoise-map", settings.denoise_map, limit),
    )


def _grey(name: str, path: str | None, max_pixels: int) -> GreyMap | None:
    if path is None:
        return None
    try:
        picture = open_picture(place(path), max_pixels)
    except InputError as error:
        raise UsageError(f"{name}: {error}") from error
    grey = np.empty(picture.pixels.shape[:2], np.float32)
    for rows in bands(*grey.shape):
        grey[rows] = picture.pixels[rows].mean(axis=2)
    return grey if picture.alpha is None else grey * picture.alpha


def edited(plan: TilePlan, settings: Settings, drawn: HandDrawn) -> TilePlan:
    """All edits that the settings ask for, in this order: rule, map, skips, mask."""
    plan = by_rule(plan, settings)
    if drawn.denoise_map is not None:
        plan = with_map(plan, drawn.denoise_map)
    plan = skipped(plan, settings)
    return with_mask(plan, drawn.mask) if drawn.mask is not None else plan


def by_rule(plan: TilePlan, settings: Settings) -> TilePlan:
    """Strengths by detail or by area in place of depth.

    By detail: linear up to the threshold, in at most MAX_LEVELS steps. By area, as in the
    quadtree lineage: `min + (max - min) * (1 - area / largest area)`, with the areas that tiles
    would have if the canvas did not clip them.
    """
    low, high = settings.min_denoise, settings.max_denoise
    if settings.denoise_by == "depth":
        return plan
    tiles = plan.held
    if settings.denoise_by == "detail":
        unit = max(plan.threshold, 1e-9)
        steps = MAX_LEVELS - 1
        ways = np.rint(np.minimum(tiles.detail / unit, 1) * steps) / steps
    else:
        ways = 1 - 0.25 ** (tiles.depth - tiles.depth.min())
    return _with_strengths(plan, low + (high - low) * ways)


def skipped(plan: TilePlan, settings: Settings) -> TilePlan:
    """Tiles below or above a size, or below a strength, kept.

    A tile's size is the side it would have if the canvas did not clip it.
    """
    smaller = _limit(settings.skip_smaller, settings.tile, "skip-smaller", 0.0)
    larger = _limit(settings.skip_larger, settings.tile, "skip-larger", np.inf)
    weaker = settings.skip_below or 0.0
    if (smaller, larger, weaker) == (0.0, np.inf, 0.0):
        return plan

    tiles = plan.held
    side = settings.tile / 2.0**tiles.depth
    kept = (side < smaller) | (side > larger) | (tiles.denoise < weaker)
    return _with_strengths(plan, np.where(kept, 0.0, tiles.denoise))


def _limit(text: str | None, largest: int, name: str, default: float) -> float:
    if text is None:
        return default
    number, percent = parse_extent(name, text)
    return number * largest / 100 if percent else number


def with_mask(plan: TilePlan, mask: GreyMap) -> TilePlan:
    """Cells kept in which any pixel is white; tiles are cut along the mask's edge.

    A pixel of the output is white where at least half of the mask that lies under it is.
    """
    return cut(plan, np.where(_kept(plan, mask), 0.0, plan.denoise_map()))


def _kept(plan: TilePlan, mask: GreyMap) -> NDArray[np.bool_]:
    """Which cells a mask keeps, shape (rows, columns)."""
    return np.concatenate([_any_white(part, plan.stride) for part in _white_bands(mask, plan)])


def is_kept_by_hand(plan: TilePlan, drawn: HandDrawn) -> bool:
    """Whether the mask or the map alone keeps all of a picture, whatever else a plan says."""
    if drawn.denoise_map is not None and not with_map(plan, drawn.denoise_map).strengths:
        return True
    return drawn.mask is not None and bool(_kept(plan, drawn.mask).all())


def _any_white(white: NDArray[np.bool_], stride: int) -> NDArray[np.bool_]:
    rows, columns = (np.arange(0, length, stride) for length in white.shape)
    return np.maximum.reduceat(np.maximum.reduceat(white, rows, axis=0), columns, axis=1)


def _white_bands(mask: GreyMap, plan: TilePlan) -> Iterator[NDArray[np.bool_]]:
    """Which pixels of the output are white, whole rows of cells at a time.

    All of them at once where rows of the mask lie across those of the output.
    """
    times, rest = divmod(plan.height, len(mask))
    least = plan.stride * max(1, times)
    step = plan.height if rest else -(-_BAND // least) * least
    for rows in spans(plan.height, step):
        part = mask[rows.start // times : rows.stop // times] if not rest else mask
        yield _resampled(part, rows.stop - rows.start, plan.width) >= WHITE


def with_map(plan: TilePlan, grey: GreyMap) -> TilePlan:
    """Strengths read off a picture, in at most MAX_LEVELS distinct ones."""
    block = max(MAP_PIXELS // plan.stride, 1)
    rows, columns = -(-plan.rows // block), -(-plan.columns // block)
    coarse = quantised(_resampled(grey, rows, columns))
    cells = coarse.repeat(block, axis=0).repeat(block, axis=1)
    return cut(plan, cells[: plan.rows, : plan.columns])


def quantised(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """At most MAX_LEVELS distinct strengths, evenly from the lowest to the highest."""
    rounded = values.round(6)
    if len(np.unique(rounded)) <= MAX_LEVELS:
        return rounded
    low, high = float(values.min()), float(values.max())
    steps = MAX_LEVELS - 1
    return (low + np.rint((values - low) / (high - low) * steps) / steps * (high - low)).round(6)


def _resampled(grey: GreyMap, rows: int, columns: int) -> NDArray[np.float64]:
    """A picture averaged onto a grid; where the grid is finer, its nearest pixel."""
    image = Image.fromarray(np.ascontiguousarray(grey, dtype=np.float32))
    resized = image.resize((columns, rows), Image.Resampling.BOX)
    return np.clip(np.asarray(resized, dtype=np.float64), 0, 1)


def cut(plan: TilePlan, strengths: NDArray[np.float64]) -> TilePlan:
    """A plan with the given strength in every cell; tiles are cut in four until they are even.

    Args:
        plan: whose tiles to start from.
        strengths: shape (rows, columns), in [0, 1].
    """
    tiles = tuple(piece for tile in plan.tiles for piece in _pieces(tile, strengths))
    return replace(plan, tiles=tuple(sorted(tiles, key=lambda tile: (tile.box.top, tile.box.left))))


def _pieces(tile: Tile, strengths: NDArray[np.float64]) -> Iterator[Tile]:
    inside = strengths[tile.box.index]
    if inside.min() == inside.max():
        yield replace(tile, denoise=float(inside[0, 0]))
        return
    for box in _quarters(tile.box):
        yield from _pieces(replace(tile, box=box, depth=tile.depth + 1), strengths)


def _quarters(box: Box) -> Iterator[Box]:
    """Up to four parts of a box of more than one cell."""
    rows = (box.top, box.top + (box.height + 1) // 2, box.bottom)
    columns = (box.left, box.left + (box.width + 1) // 2, box.right)
    for top, bottom in itertools.pairwise(rows):
        for left, right in itertools.pairwise(columns):
            if top < bottom and left < right:
                yield Box(top, left, bottom, right)


def _with_strengths(plan: TilePlan, strengths: NDArray[np.float64]) -> TilePlan:
    found, which = np.unique(strengths, return_inverse=True)
    rounded = np.array([round(each, 6) for each in found.tolist()])
    return replace(plan, tiles=plan.held.at_strengths(rounded[which]))
