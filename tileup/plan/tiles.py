"""What a plan is: tiles, each with its own strength, that partition the canvas."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast, overload

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


@dataclass(frozen=True, slots=True, eq=False)
class Tiles(Sequence[Tile]):
    """Many tiles, held as arrays: a `Tile` is made where one is asked for.

    Equal to any sequence of the same tiles.

    Raises:
        ValueError: a box is empty, a strength outside [0, 1] or a depth negative.
    """

    boxes: NDArray[np.int64]
    """Top, left, bottom and right in cells, shape (n, 4)."""
    depth: NDArray[np.int64]
    """Shape (n,), as are the next two."""
    detail: NDArray[np.float64]
    denoise: NDArray[np.float64]

    def __post_init__(self) -> None:
        good = (self.boxes[:, :2] < self.boxes[:, 2:]).all(axis=1)
        good &= (self.depth >= 0) & (self.denoise >= 0) & (self.denoise <= 1)
        if not good.all():
            self[int(np.argmin(good))]  # says what is wrong with it

    @classmethod
    def of(cls, tiles: Iterable[Tile]) -> Tiles:
        """Tiles that may lie in arrays already."""
        if isinstance(tiles, cls):
            return tiles
        given = list(tiles)
        boxes = [(b.top, b.left, b.bottom, b.right) for b in (tile.box for tile in given)]
        return cls(
            np.array(boxes, np.int64).reshape(-1, 4),
            np.array([tile.depth for tile in given], np.int64),
            np.array([tile.detail for tile in given], np.float64),
            np.array([tile.denoise for tile in given], np.float64),
        )

    def at_strengths(self, denoise: NDArray[np.float64]) -> Tiles:
        """The same tiles with other strengths, shape (n,)."""
        return Tiles(self.boxes, self.depth, self.detail, denoise)

    def __len__(self) -> int:
        return len(self.boxes)

    def __iter__(self) -> Iterator[Tile]:
        columns = (each.tolist() for each in (self.boxes, *self._columns))
        return (Tile(Box(*box), *rest) for box, *rest in zip(*columns, strict=True))

    @overload
    def __getitem__(self, index: int) -> Tile: ...
    @overload
    def __getitem__(self, index: slice) -> Tiles: ...
    def __getitem__(self, index: int | slice) -> Tile | Tiles:
        if isinstance(index, slice):
            return Tiles(self.boxes[index], *(each[index] for each in self._columns))
        return Tile(
            Box(*self.boxes[index].tolist()), *(each[index].item() for each in self._columns)
        )

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Tiles):
            return np.array_equal(self.boxes, other.boxes) and all(
                map(np.array_equal, self._columns, other._columns)
            )
        return isinstance(other, Sequence) and tuple(self) == tuple(cast("Sequence[object]", other))

    def __hash__(self) -> int:
        return hash(tuple(self))

    @property
    def _columns(self) -> tuple[NDArray[Any], ...]:
        return self.depth, self.detail, self.denoise


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
    tiles: Sequence[Tile]
    """In the order of their top left corners, row by row, when `quadtree` made them. Held as
    `Tiles`, whatever they are given as."""
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
        object.__setattr__(self, "tiles", Tiles.of(self.tiles))
        object.__setattr__(self, "grid", _partition(self.held, self.rows, self.columns))

    @property
    def held(self) -> Tiles:
        """The tiles as arrays."""
        return Tiles.of(self.tiles)

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
        found: list[float] = np.unique(self.held.denoise).tolist()
        return tuple(each for each in reversed(found) if each > 0)

    def denoise_map(self) -> NDArray[np.float64]:
        """Strength of every cell, shape (rows, columns)."""
        return self.grid.cells()

    def pixel_box(self, tile: Tile) -> Box:
        """The part of the picture that a tile owns, in output pixels."""
        box = tile.box.scaled(self.stride)
        return Box(box.top, box.left, min(box.bottom, self.height), min(box.right, self.width))

    def pixel_boxes(self) -> NDArray[np.int64]:
        """The same of all tiles: top, left, bottom and right, shape (n, 4)."""
        size = self.height, self.width
        return np.minimum(self.held.boxes * self.stride, np.array((*size, *size)))

    def pixel_areas(self) -> NDArray[np.int64]:
        """Output pixels of each tile, shape (n,)."""
        top, left, bottom, right = self.pixel_boxes().T
        return (bottom - top) * (right - left)

    def to_dict(self) -> dict[str, object]:
        """The plan as JSON can hold it, in output pixels; `from_dict` is its inverse."""
        return {
            "width": self.width,
            "height": self.height,
            "stride": self.stride,
            "scale": self.scale,
            "threshold": self.threshold,
            "tiles": [dict(zip(_KEYS, values, strict=True)) for values in self._values()],
        }

    def _values(self) -> Iterator[tuple[Any, ...]]:
        """What JSON holds of each tile, in the order of `_KEYS`."""
        top, left, bottom, right = self.pixel_boxes().T
        held = self.held
        columns = left, top, right - left, bottom - top, held.depth, held.detail, held.denoise
        return zip(*(each.tolist() for each in columns), strict=True)

    @classmethod
    def from_dict(cls, content: Mapping[str, object]) -> TilePlan:
        """The plan that `to_dict` described.

        Raises:
            ValueError: a key is missing, a value is of the wrong kind or too large, an edge is off
                the stride, or the tiles do not partition the canvas.
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


_KEYS = ("x", "y", "width", "height", "depth", "detail", "denoise")
"""Of a tile in JSON."""
_LARGEST = 2**53
"""Whole number in JSON; sums of two find room in 64 bits."""


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
    if abs(value) > _LARGEST:
        raise ValueError(f"{name} must be at most {_LARGEST}, got {value}")
    return value


def _number(content: Mapping[str, object], name: str) -> float:
    value = content.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError(f"{name} must be a number, got {value!r}")
    return float(value)


def _partition(tiles: Tiles, rows: int, columns: int) -> Grid:
    """The strengths of tiles; ValueError unless every cell of rows x columns lies in exactly one.

    Only cells between two neighbouring edges can differ, so the work is as small as the plan,
    however fine the stride.
    """
    corners = tiles.boxes
    most = corners[:, 2].max(initial=0), corners[:, 3].max(initial=0)
    if corners.min(initial=0) < 0 or most[0] > rows or most[1] > columns:
        outside = (corners[:, :2] < 0).any(axis=1) | (corners[:, 2:] > (rows, columns)).any(axis=1)
        box = tiles[int(outside.argmax())].box
        raise ValueError(f"{box} leaves the canvas of {rows} rows and {columns} columns")
    y, top, bottom = _ranks(corners[:, 0], corners[:, 2], rows)
    x, left, right = _ranks(corners[:, 1], corners[:, 3], columns)
    field, tile = _fields(np.stack([top, left, bottom, right], axis=1), len(x) - 1)
    cover = np.bincount(field, minlength=(len(y) - 1) * (len(x) - 1))
    if (cover != 1).any():
        row, column = divmod(int((cover != 1).argmax()), len(x) - 1)
        times = cover[row * (len(x) - 1) + column]
        said = "no tile" if times == 0 else f"{times} tiles"
        raise ValueError(f"cell (row {y[row]}, column {x[column]}) lies in {said}")
    values = np.empty(len(cover))
    values[field] = tiles.denoise[tile]
    return Grid(y, x, values.reshape(len(y) - 1, -1))


def _fields(boxes: NDArray[np.int64], width: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All fields of all boxes, as numbers in a grid that is so wide, and whose each is."""
    several = ((boxes[:, 2:] - boxes[:, :2]) != 1).any(axis=1)
    one, many = np.flatnonzero(~several), np.flatnonzero(several)  # most boxes are one field
    top, left, bottom, right = boxes[many].T
    row, box = _counted_up(top, bottom)
    column, of_row = _counted_up(left[box], right[box])
    fields = boxes[one, 0] * width + boxes[one, 1], row[of_row] * width + column
    return np.concatenate(fields), np.concatenate([one, many[box[of_row]]])


def _counted_up(
    starts: NDArray[np.int64], stops: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
    """All numbers of some half-open ranges, one after the other, and the range of each."""
    lengths = stops - starts
    ends = lengths.cumsum()
    of = np.arange(len(starts)).repeat(lengths)
    return np.arange(len(of)) + (starts - ends + lengths)[of], of


def _ranks(
    starts: NDArray[np.int64], stops: NDArray[np.int64], cells: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """All distinct edges along one axis, and where among them each box starts and stops."""
    is_edge = np.zeros(cells + 1, np.bool_)
    for each in (starts, stops, [0, cells]):
        is_edge[each] = True
    rank = is_edge.cumsum() - 1
    return np.flatnonzero(is_edge), rank[starts], rank[stops]
