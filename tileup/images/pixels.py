"""Pixels that need not be in memory: their rows are asked for, some at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

BAND = 2**18
"""Pixels that are worked on at once: what lies between in float then stays in a CPU's cache."""

Numbers = NDArray[np.uint8] | NDArray[np.uint16]
"""Pixels as files hold them, shape (H, W, 1 to 4)."""


class Pixels(Protocol):
    """RGB in [0, 1], shape (H, W, 3), float32; an array in memory is one of them.

    `np.asarray` gives all of it.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[np.float32]: ...

    def __getitem__(self, rows: slice, /) -> NDArray[np.float32]:
        """Some rows, one after the other."""
        ...


class NumberRows(Protocol):
    """Pixels as whole numbers, shape (H, W, 1 to 4), of 8 or 16 bits; an array is one of them."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def __getitem__(self, rows: slice, /) -> NDArray[Any]: ...


@dataclass(frozen=True, slots=True, eq=False)
class IntegerPixels:
    """Pixels that are whole numbers until they are asked for; satisfies `Pixels`."""

    numbers: NumberRows
    """Grey or RGB, in memory or in a file."""

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.numbers.shape[:2], 3)

    @property
    def dtype(self) -> np.dtype[np.float32]:
        return np.dtype(np.float32)

    @property
    def bits(self) -> int:
        """Of each number: 8 or 16."""
        return 8 * self.numbers.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice, /) -> NDArray[np.float32]:
        values = unit(self.numbers[rows], 2**self.bits - 1)
        return values if values.shape[2] == 3 else np.repeat(values, 3, axis=2)

    def __array__(self, dtype: Any = None) -> NDArray[Any]:  # noqa: ANN401
        whole = np.empty(self.shape, np.float32)
        for rows in bands(*self.shape[:2]):
            whole[rows] = self[rows]
        return whole if dtype is None else whole.astype(dtype, copy=False)


@dataclass(frozen=True, slots=True, eq=False)
class Colours:
    """Numbers without their alpha; satisfies `NumberRows`."""

    numbers: NumberRows
    """Of 2 or 4 channels."""

    @property
    def shape(self) -> tuple[int, ...]:
        height, width, channels = self.numbers.shape
        return height, width, channels - 1

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.numbers.dtype

    def __getitem__(self, rows: slice, /) -> NDArray[Any]:
        return self.numbers[rows][..., :-1]


def unit(values: NDArray[Any], most: int) -> NDArray[np.float32]:
    """Whole numbers from 0 to `most` as numbers in [0, 1]."""
    return values.astype(np.float32) / np.float32(most)


def within_unit(
    values: NDArray[np.floating[Any]], out: NDArray[np.floating[Any]] | None = None
) -> NDArray[np.floating[Any]]:
    """Numbers brought into [0, 1], of any shape; what is no number stays none.

    As `numpy.clip`, in two thirds of its time.
    """
    made = np.maximum(values, 0, out=out)
    return np.minimum(made, 1, out=made)


def bands(height: int, width: int) -> Iterator[slice]:
    """All rows of a picture, some at a time."""
    return spans(height, max(1, BAND // width))


def spans(height: int, rows: int) -> Iterator[slice]:
    """All rows of a picture, so many at a time."""
    return (slice(top, min(top + rows, height)) for top in range(0, height, rows))
