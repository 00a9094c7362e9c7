"""Weights of strength: where a phase works, and how strengths fade into one another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt  # pyright: ignore[reportUnknownVariableType]

Map = NDArray[np.float64]


def working_weight(strengths: Map, weakest: float, margin: int) -> Map:
    """How much each cell takes part in a phase.

    1 on the working tiles; falling to 0 over `margin` cells into tiles that start later; 0 on kept
    tiles, because a weight held below 1 down to noise level 0 would pull the picture back
    (x - source goes with sigma^(1 - w)).

    Args:
        strengths: strength of each cell, 0 for kept ones, shape (H, W).
        weakest: the weakest strength at work.
        margin: cells over which the weight falls.

    Returns:
        Weights in [0, 1], shape (H, W).
    """
    working = strengths >= weakest
    weight = working.astype(np.float64)
    if margin == 0 or working.all():
        return weight
    distance = _distance_to(working)
    fading = (strengths > 0) & ~working & (distance <= margin)
    weight[fading] = 0.5 + 0.5 * np.cos(np.pi * distance[fading] / (margin + 1))
    return weight


def memberships(strengths: Map, levels: Sequence[float], margin: int) -> list[Map]:
    """How finished canvases of single strengths are feathered together.

    Args:
        strengths: strength of each cell, 0 for kept ones, shape (H, W).
        levels: the distinct positive strengths.
        margin: cells over which neighbouring strengths fade into one another, on each side.

    Returns:
        One map for each level, in [0, 1]; they sum to one on working cells and are 0 on kept ones.
    """
    working = strengths > 0
    raw: list[Map] = []
    for level in levels:
        distance = _distance_to(strengths == level)
        fall = 0.5 + 0.5 * np.cos(np.pi * np.minimum(distance / (margin + 1), 1))
        raw.append(np.where(working & (distance <= margin), fall, 0.0))
    total = np.maximum(np.sum(raw, axis=0), np.finfo(np.float64).tiny)
    return [each / total for each in raw]


def finished_share(strengths: Map, width: int) -> Map:
    """Share of the model's picture in the finished one.

    0 on kept tiles, rising to 1 over `width` cells inside the working tiles around them.

    Args:
        strengths: strength of each cell, shape (H, W).
        width: cells over which the two are faded into each other.

    Returns:
        Shares in [0, 1], shape (H, W).
    """
    kept = strengths == 0
    if width == 0 or not kept.any():
        return (~kept).astype(np.float64)
    way = np.minimum(_distance_to(kept) / (width + 1), 1.0)
    return np.where(kept, 0.0, 0.5 - 0.5 * np.cos(np.pi * way))


def _distance_to(cells: NDArray[np.bool_]) -> Map:
    """Euclidean distance from each cell to the nearest of the given ones; infinite without any."""
    if not cells.any():
        return np.full(cells.shape, np.inf)
    return np.asarray(distance_transform_edt(~cells), dtype=np.float64)
