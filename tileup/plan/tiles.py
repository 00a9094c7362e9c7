"""What a plan is: tiles, each with its own strength, that partition the canvas."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
from numpy.typing import NDArray

from tileup.contracts import Box
from tileup.plan.grid import Grid


@dataclass(frozen=True, slots=True)
class Tile:
    """One leaf of the quadtree: a region and how strongly it is redrawn."""

    box: Box
    """Cells this tile owns. The boxes of a plan partition the canvas."""
    depth: int
    """Splits above it: 0 for a root."""
    detail: float
    """The detail metric over the box, in the metric's unit; never negative."""
    denoise: float
    """Denoising strength in [0, 1]: 0 keeps the source, 1 starts from the top noise level."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.denoise <= 1.0:
            raise ValueError(f"denoise must be in [0, 1], got {self.denoise}")
        if self.depth < 0:
            raise ValueError(f"depth must not be negative, got {self.depth}")


@dataclass(frozen=True, slots=True)
class TilePlan:
    """The tiles of one picture. One whose boxes do not partition its canvas cannot be made.

    Raises:
        ValueError: a size is not positive, a box leaves the canvas, or a cell is covered by no
            box or by more than one; names that cell.
    """

    width: int
    """Output pixels."""
    height: int
    """Output pixels."""
    stride: int
    """Pixels per cell."""
    scale: float
    """Output side / input side; the geometric mean of both axes where they differ."""
    tiles: tuple[Tile, ...]
    """In the order of their top left corners, row by row, when `quadtree` made them."""
    threshold: float
    """A tile with more detail than this was split, where its size allowed it."""
    grid: Grid = field(init=False, repr=False, compare=False)
    """Strength of every cell, held between the edges of the tiles."""

    def __post_init__(self) -> None:
        if min(self.width, self.height, self.stride) < 1:
            raise ValueError(
                f"width, height and stride must be at least 1, "
                f"got {self.width}, {self.height} and {self.stride}"
            )
        if not self.scale > 0:
            raise ValueError(f"scale must be positive, got {self.scale}")
        object.__setattr__(self, "grid", _partition(self.tiles, self.rows, self.columns))

    @property
    def rows(self) -> int:
        """Height of the canvas in cells; the last row may reach beyond the picture."""
        return -(-self.height // self.stride)

    @property
    def columns(self) -> int:
        """Width of the canvas in cells; the last column may reach beyond the picture."""
        return -(-self.width // self.stride)

    @property
    def strengths(self) -> tuple[float, ...]:
        """Distinct positive strengths, the strongest first."""
        return tuple(sorted({t.denoise for t in self.tiles if t.denoise > 0}, reverse=True))

    def denoise_map(self) -> NDArray[np.float64]:
        """Strength of every cell, shape (rows, columns)."""
        return self.grid.cells()

    def pixel_box(self, tile: Tile) -> Box:
        """The part of the picture that a tile owns, in output pixels."""
        box = tile.box.scaled(self.stride)
        return Box(box.top, box.left, min(box.bottom, self.height), min(box.right, self.width))

    def to_dict(self) -> dict[str, object]:
        """The plan as JSON can hold it, in output pixels; `from_dict` is its inverse."""
        return {
            "width": self.width,
            "height": self.height,
            "stride": self.stride,
            "scale": self.scale,
            "threshold": self.threshold,
            "tiles": [self._tile_to_dict(tile) for tile in self.tiles],
        }

    def _tile_to_dict(self, tile: Tile) -> dict[str, object]:
        box = self.pixel_box(tile)
        return {
            "x": box.left,
            "y": box.top,
            "width": box.width,
            "height": box.height,
            "depth": tile.depth,
            "detail": tile.detail,
            "denoise": tile.denoise,
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, object]) -> TilePlan:
        """The plan that `to_dict` described.

        Raises:
            ValueError: a key is missing, a value is of the wrong kind, an edge is off the
                stride, or the tiles do not partition the canvas.
        """
        stride = _whole(content, "stride")
        if stride < 1:
            raise ValueError(f"stride must be at least 1, got {stride}")
        tiles = content.get("tiles")
        if not isinstance(tiles, list | tuple):
            raise ValueError("a plan needs a list of tiles")
        entries = cast("Iterable[Mapping[str, object]]", tiles)
        width, height = _whole(content, "width"), _whole(content, "height")
        return cls(
            width=width,
            height=height,
            stride=stride,
            scale=_number(content, "scale"),
            tiles=tuple(_tile_from_dict(entry, stride, width, height) for entry in entries),
            threshold=_number(content, "threshold"),
        )


def _tile_from_dict(entry: Mapping[str, object], stride: int, width: int, height: int) -> Tile:
    top, left = _whole(entry, "y"), _whole(entry, "x")
    bottom, right = top + _whole(entry, "height"), left + _whole(entry, "width")
    ends = (bottom, height), (right, width)
    if top % stride or left % stride or any(end % stride and end != size for end, size in ends):
        raise ValueError(f"a tile's edges must be multiples of {stride}, got {dict(entry)}")
    return Tile(
        box=Box(top // stride, left // stride, -(-bottom // stride), -(-right // stride)),
        depth=_whole(entry, "depth"),
        detail=_number(entry, "detail"),
        denoise=_number(entry, "denoise"),
    )


def _whole(content: Mapping[str, object], name: str) -> int:
    value = content.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{name} must be a whole number, got {value!r}")
    return value


def _number(content: Mapping[str, object], name: str) -> float:
    value = content.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError(f"{name} must be a number, got {value!r}")
    return float(value)


def _partition(tiles: Sequence[Tile], rows: int, columns: int) -> Grid:
    """The strengths of tiles; ValueError unless every cell of rows x columns lies in exactly one.

    Only cells between two neighbouring edges can differ, so the work is as small as the plan,
    however fine the stride.
    """
    for tile in tiles:
        box = tile.box
        if box.top < 0 or box.left < 0 or box.bottom > rows or box.right > columns:
            raise ValueError(f"{box} leaves the canvas of {rows} rows and {columns} columns")
    corners = np.array(
        [(b.top, b.left, b.bottom, b.right) for b in (t.box for t in tiles)], np.int64
    )
    corners = corners.reshape(-1, 4)
    y, top, bottom = _ranks(corners[:, 0], corners[:, 2], rows)
    x, left, right = _ranks(corners[:, 1], corners[:, 3], columns)
    numbers = np.arange(1, len(tiles) + 1)
    cover, number = np.zeros((2, len(y), len(x)), np.int64)
    for row, column, sign in (
        (top, left, 1),
        (top, right, -1),
        (bottom, left, -1),
        (bottom, right, 1),
    ):
        np.add.at(cover, (row, column), sign)
        np.add.at(number, (row, column), sign * numbers)
    cover, number = (each.cumsum(0).cumsum(1)[:-1, :-1] for each in (cover, number))
    if (cover != 1).any():
        row, column = np.argwhere(cover != 1)[0]
        times = "no tile" if cover[row, column] == 0 else f"{cover[row, column]} tiles"
        raise ValueError(f"cell (row {y[row]}, column {x[column]}) lies in {times}")
    return Grid(y, x, np.array([tile.denoise for tile in tiles])[number - 1])


def _ranks(
    starts: NDArray[np.int64], stops: NDArray[np.int64], cells: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """All distinct edges along one axis, and where among them each box starts and stops."""
    edges = np.unique(np.concatenate([starts, stops, np.array([0, cells])]))
    return edges, np.searchsorted(edges, starts), np.searchsorted(edges, stops)
