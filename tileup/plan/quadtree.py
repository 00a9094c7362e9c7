"""Where the detail is: a quadtree of tiles, the strongest where it is finest.

The tree is held as one array per depth, not as nodes: along each axis a segment's parent is its
index halved, because only trailing segments are ever clipped away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tileup.images.pixels import Pixels
from tileup.plan.detail import DetailMap
from tileup.plan.grid import Edges
from tileup.plan.tiles import TilePlan, Tiles

NOISE_FLOOR = {"gradient": 0.003, "variance": 1.0}
"""Detail that `auto` takes for noise, by metric."""
QUARTER = 0.25
"""The part of the area, the most detailed one, that `auto` looks at..."""
REACH = 0.87
"""...and how far up from min to max denoise its mean strength has to come."""
DIGITS = 6
"""Decimals of detail and denoise: equal on every machine, and readable in JSON."""


@dataclass(frozen=True, slots=True)
class Cuts:
    """Where a canvas may be cut."""

    width: int
    """Output pixels."""
    height: int
    """Output pixels."""
    stride: int
    """Pixels per cell; every edge lies on it."""
    root: int
    """Side of the largest boxes, cells."""
    depth: int
    """How often they may be halved."""

    @classmethod
    def of(cls, width: int, height: int, stride: int, tile: int, min_tile: int) -> Cuts:
        """Sides of the largest and smallest boxes, in output pixels, are rounded to cells.

        Raises:
            ValueError: a size is not positive.
        """
        if min(width, height, stride, tile, min_tile) < 1:
            raise ValueError("width, height, stride, tile and min_tile must be at least 1")
        root, smallest = (max(1, (2 * side + stride) // (2 * stride)) for side in (tile, min_tile))
        return cls(width, height, stride, root, max(0, (root // smallest).bit_length() - 1))

    def cells(self, depth: int) -> tuple[Edges, Edges]:
        """Edges of the rows and columns of boxes of one depth."""
        rows, columns = -(-self.height // self.stride), -(-self.width // self.stride)
        return _edges(rows, self.root, depth), _edges(columns, self.root, depth)

    def pixels(self, depth: int) -> tuple[Edges, Edges]:
        """The same in output pixels; none lies beyond the picture."""
        rows, columns = (each * self.stride for each in self.cells(depth))
        return np.minimum(rows, self.height), np.minimum(columns, self.width)

    def inside(
        self, depth: int, height: int, width: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The same in pixels of a picture of another size."""
        y, x = self.pixels(depth)
        return y * (height / self.height), x * (width / self.width)

    def measured(self, pixels: Pixels, metric: str) -> DetailMap:
        """The detail of a picture, wherever a box may lie; see `DetailMap.of`."""
        return DetailMap.of(pixels, metric, *self.inside(self.depth, *pixels.shape[:2]))


@dataclass(frozen=True, slots=True, eq=False)
class _Depth:
    """All boxes that the tree could have at one depth."""

    rows: NDArray[np.int64]
    """Edges in cells, shape (R + 1,), the last clipped by the canvas."""
    columns: NDArray[np.int64]
    """The same, shape (C + 1,)."""
    detail: NDArray[np.float64]
    """Shape (R, C)."""
    split: NDArray[np.float64]
    """Below this threshold the box is there and splits: the least detail from its root down to
    itself, shape (R, C); minus infinity at the deepest level."""
    born: NDArray[np.float64]
    """Below this threshold the box is there: `split` of its parent, infinity for a root."""
    area: NDArray[np.float64]
    """Output pixels, shape (R, C)."""
    denoise: float
    """Strength of a tile of this depth."""

    def tiles(self, depth: int, threshold: float) -> Tiles:
        """The boxes that exist at a threshold and do not split."""
        row, column = np.nonzero(_is_leaf(self, threshold))
        edges = self.rows[row], self.columns[column], self.rows[row + 1], self.columns[column + 1]
        shape = row.shape
        return Tiles(
            np.stack(edges, axis=1),
            np.full(shape, depth),
            self.detail[row, column],
            np.full(shape, self.denoise),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Forest:
    """All boxes that a picture's trees could have: a plan at any threshold.

    Roots are squares from the top left corner. A box splits into quarters while its detail
    exceeds the threshold, down to one depth for the whole canvas: the last at which no box is
    below `min_tile` (boxes clipped by the canvas count with their full size). Strength is linear
    in depth: `min_denoise` for a root, `max_denoise` at that last depth, even if it is the first.
    """

    cuts: Cuts
    scale: float
    """Output side / input side, for the record."""
    levels: tuple[_Depth, ...]
    """The roots first."""
    noise_floor: float
    """The least threshold that `auto` may choose."""

    @classmethod
    def of(
        cls,
        detail: DetailMap,
        cuts: Cuts,
        min_denoise: float,
        max_denoise: float,
        noise_floor: float | None = None,
    ) -> Forest:
        """Measure all boxes.

        Args:
            detail: of the input picture.
            cuts: of the canvas.
            min_denoise, max_denoise: strengths in [0, 1].
            noise_floor: the least that `auto` may choose; None: `NOISE_FLOOR` of the metric.

        Raises:
            ValueError: the strengths are in the wrong order.
        """
        if not 0 <= min_denoise <= max_denoise <= 1:
            raise ValueError(
                f"strengths must rise within [0, 1], got {min_denoise} to {max_denoise}"
            )
        floor = NOISE_FLOOR[detail.metric] if noise_floor is None else noise_floor
        strengths = _strengths(min_denoise, max_denoise, cuts.depth)
        scale = (cuts.width * cuts.height / (detail.width * detail.height)) ** 0.5
        levels = tuple(_levels(detail, cuts, strengths))
        return cls(cuts, scale, levels, floor)

    def plan(self, threshold: float | str) -> TilePlan:
        """The tiles at a threshold.

        Args:
            threshold: in the metric's unit, or `auto`: the largest at which the most detailed
                quarter of the area has a mean strength of `min + 0.87 * (max - min)`, both on the
                finest grid and among the plan's own tiles; the noise floor if that cannot be had
                above it.

        Raises:
            ValueError: the threshold is a word other than `auto`.
        """
        levels, cuts = self.levels, self.cuts
        limit = _number(threshold) if threshold != "auto" else _auto(levels, self.noise_floor)
        found = [level.tiles(depth, limit) for depth, level in enumerate(levels)]
        return TilePlan(cuts.width, cuts.height, cuts.stride, self.scale, _in_order(found), limit)

    @property
    def highest(self) -> float:
        """The most detail that a tile of the finest plan has: at this threshold roots are whole."""
        return max(
            float(level.detail[_is_leaf(level, 0.0)].max(initial=0.0)) for level in self.levels
        )


def _in_order(parts: Sequence[Tiles]) -> Tiles:
    """Tiles by their top left corners, row by row, of parts in which they lie so."""
    boxes = np.concatenate([part.boxes for part in parts])
    # Stable, as that goes by stretches that lie in order.
    order = np.argsort(boxes[:, 0] * (boxes[:, 1].max() + 1) + boxes[:, 1], kind="stable")
    depth, detail, denoise = (
        np.concatenate(each)[order]
        for each in zip(*((part.depth, part.detail, part.denoise) for part in parts), strict=True)
    )
    return Tiles(boxes[order], depth, detail, denoise)


def _number(threshold: float | str) -> float:
    if isinstance(threshold, str):
        raise ValueError(f"threshold must be a number or 'auto', got {threshold!r}")
    return float(threshold)


def _strengths(least: float, most: float, depth: int) -> list[float]:
    """Strength at depths 0 to `depth`."""
    if depth == 0:
        return [round(most, DIGITS)]
    steps = (least + (most - least) * d / depth for d in range(depth + 1))
    return [round(strength, DIGITS) for strength in steps]


def _levels(detail: DetailMap, cuts: Cuts, strengths: list[float]) -> list[_Depth]:
    """The boxes of every depth, the roots first."""
    levels: list[_Depth] = []
    for depth, denoise in enumerate(strengths):
        measured = _measure(detail, *cuts.inside(depth, detail.height, detail.width))
        born = np.full_like(measured, np.inf)
        if levels:
            row, column = (np.arange(length) // 2 for length in measured.shape)
            born = levels[-1].split[np.ix_(row, column)]
        last = depth == len(strengths) - 1
        split = np.full_like(born, -np.inf) if last else np.minimum(born, measured)
        area = np.outer(*(np.diff(each) for each in cuts.pixels(depth))).astype(np.float64)
        levels.append(_Depth(*cuts.cells(depth), measured, split, born, area, denoise))
    return levels


def _edges(cells: int, root: int, depth: int) -> NDArray[np.int64]:
    """Edges of the boxes of one depth along an axis of `cells` cells."""
    inside = np.array([0, root])
    for _ in range(depth):
        middle = (inside[:-1] + inside[1:] + 1) // 2
        inside = np.append(np.stack([inside[:-1], middle], axis=1), inside[-1])
    starts = np.add.outer(np.arange(0, cells, root), inside[:-1]).ravel()
    return np.append(starts[starts < cells], cells)


def _measure(
    detail: DetailMap, y: NDArray[np.float64], x: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Detail between neighbouring edges given in input pixels, shape (len(y) - 1, len(x) - 1)."""
    return detail.between(y, x).round(DIGITS)


def _is_leaf(level: _Depth, threshold: float) -> NDArray[np.bool_]:
    """Which boxes of one depth exist at this threshold and do not split."""
    return (level.born > threshold) & (level.split <= threshold)


def _auto(levels: Sequence[_Depth], floor: float) -> float:
    """The threshold that `auto` stands for; see `quadtree`."""
    candidates, strength = _strength_of_quarter(levels)
    target = _target(levels)
    allowed = candidates[(strength >= target) & (candidates > floor)][::-1]
    done, many = 0, 64  # few are looked at, as a rule
    while done < len(allowed):
        these: list[float] = allowed[done : done + many].tolist()
        nodes = _Nodes.of(levels, these[-1], these[0])
        for candidate in these:
            if nodes.strength_of_quarter(candidate) >= target:
                return candidate
        done, many = done + many, 8 * many
    return floor


def _target(levels: Sequence[_Depth]) -> float:
    least, most = levels[0].denoise, levels[-1].denoise
    return least + REACH * (most - least) - 1e-9


def _strength_of_quarter(
    levels: Sequence[_Depth],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean strength of the finest grid's most detailed quarter at each candidate threshold.

    A box that splits lifts the part of the quarter inside it by one step of strength, so the
    mean at a threshold is a sum over the boxes whose `split` is above it.

    Returns:
        Every threshold at which a box stops splitting, rising, and the strength there, falling.
    """
    weight = _quarter(levels[-1])
    lifts: list[NDArray[np.float64]] = []
    for level, finer in zip(levels[-2::-1], levels[:0:-1], strict=True):
        weight = np.add.reduceat(weight, np.arange(0, weight.shape[0], 2), axis=0)
        weight = np.add.reduceat(weight, np.arange(0, weight.shape[1], 2), axis=1)
        lifts.append((weight * (finer.denoise - level.denoise)).ravel())
    splits = [level.split.ravel() for level in levels[-2::-1]]
    if not splits:
        return np.empty(0), np.empty(0)
    candidates, which = np.unique(np.concatenate(splits), return_inverse=True)
    lift = np.bincount(which, np.concatenate(lifts), len(candidates))
    return candidates, levels[0].denoise + np.append(lift[::-1].cumsum()[-2::-1], 0.0)


def _quarter(level: _Depth) -> NDArray[np.float64]:
    """How much of each box belongs to the most detailed quarter of the area; sums to 1.

    Boxes of equal detail at its edge belong to it in equal part, so mirroring changes nothing.
    """
    detail, area = level.detail, level.area
    wanted = QUARTER * area.sum()
    edge = _edge_of_quarter(detail, area, wanted)
    above, at = detail > edge, detail == edge
    part = above.astype(np.float64)
    part[at] = np.clip((wanted - area[above].sum()) / area[at].sum(), 0.0, 1.0)
    return area * part / wanted


def _edge_of_quarter(
    detail: NDArray[np.float64], area: NDArray[np.float64], wanted: float
) -> np.float64:
    """The most detail from which on boxes have the wanted area together.

    Areas are whole numbers, whose sums no order changes; values are sorted without their places,
    which takes a tenth of the time.
    """
    values = np.sort(detail, axis=None)
    low, high = 0, len(values) - 1
    while low < high:
        middle = (low + high + 1) // 2
        enough = (detail >= values[middle]).ravel() @ area.ravel() >= wanted
        low, high = (middle, high) if enough else (low, middle - 1)
    return values[low]


@dataclass(frozen=True, slots=True, eq=False)
class _Nodes:
    """The boxes of all depths that are tiles at one of some thresholds, in the order in which they
    enter the most detailed quarter.

    Among boxes of equal detail the weaker come first: the quarter is no stronger than found
    here, however a reader breaks the tie.
    """

    born: NDArray[np.float64]
    split: NDArray[np.float64]
    area: NDArray[np.float64]
    denoise: NDArray[np.float64]

    @classmethod
    def of(cls, levels: Sequence[_Depth], lowest: float, highest: float) -> _Nodes:
        some = [(level.born > lowest) & (level.split <= highest) for level in levels]
        detail, born, split, area = (
            np.concatenate([part[which] for part, which in zip(parts, some, strict=True)])
            for parts in zip(*((x.detail, x.born, x.split, x.area) for x in levels), strict=True)
        )
        counts = [np.count_nonzero(which) for which in some]
        denoise = np.repeat([level.denoise for level in levels], counts)
        order = np.argsort(-detail, kind="stable")  # levels, the weaker first, stay in their order
        return cls(born[order], split[order], area[order], denoise[order])

    def strength_of_quarter(self, threshold: float) -> float:
        """Mean strength of the most detailed quarter of the plan's own tiles."""
        leaf = np.flatnonzero((self.born > threshold) & (self.split <= threshold))
        area = self.area[leaf].cumsum()
        inside = np.diff(np.minimum(area, QUARTER * area[-1]), prepend=0.0)
        return float((inside * self.denoise[leaf]).sum() / inside.sum())
