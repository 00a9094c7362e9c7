"""Pixels of a file that is decoded from the top down, again and again where that is asked for."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tileup.errors import InputError
from tileup.images.ahead import ahead
from tileup.images.exif import BROKEN

_ABOVE = 32
"""Rows that stay above those that were asked for: who goes down looks back a little."""


class FromTop:
    """Whole numbers of a picture, decoded as they are asked for; satisfies `NumberRows`.

    What is held grows with the width of the picture, not with its height. Threads may share it.

    Args:
        shape: height, width and channels.
        dtype: uint8 or uint16.
        begin: decodes the picture once more: gives its rows from the top down, in bands.
        where: what messages call the picture.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        dtype: np.dtype[Any],
        begin: Callable[[], Iterator[NDArray[Any]]],
        where: str,
    ) -> None:
        self.shape: tuple[int, ...] = shape
        self.dtype = dtype
        self._begin, self._where = begin, where
        self._lock = threading.Lock()
        self._bands: Iterator[NDArray[Any]] = iter(())
        self._held = deque[NDArray[Any]]()
        self._first = self._end = shape[0]  # so that the first who asks begins

    def __getitem__(self, rows: slice, /) -> NDArray[Any]:
        """Some rows.

        Raises:
            InputError: the file is broken or cut short there, or is no longer what it was.
        """
        first, last, _ = rows.indices(self.shape[0])
        with self._lock:
            if first < self._first:
                self._held.clear()
                self._first, self._end, self._bands = 0, 0, ahead(self._begin())
            while self._end < last:
                self._held.append(self._next())
                self._end += len(self._held[-1])
                while self._held and self._first + len(self._held[0]) <= first - _ABOVE:
                    self._first += len(self._held.popleft())
            return self._between(first, last)

    def _between(self, first: int, last: int) -> NDArray[Any]:
        """Rows that are held, copied only where they lie in several bands."""
        parts, top = [np.empty((0, *self.shape[1:]), self.dtype)], self._first
        for band in self._held:
            if top < last and first < top + len(band):
                parts.append(band[max(0, first - top) : last - top])
            top += len(band)
        return parts[-1] if len(parts) <= 2 else np.concatenate(parts)

    def _next(self) -> NDArray[Any]:
        try:
            band = next(self._bands, None)
        except InputError:
            raise
        except BROKEN as error:
            raise self._broken(" ".join(str(error).split())[:200]) from error
        if band is None or not len(band) or band.shape[1:] != self.shape[1:]:
            raise self._broken("rows are missing")
        return band.astype(self.dtype, copy=False)

    def _broken(self, reason: str) -> InputError:
        return InputError(
            f"{self._where} is broken or cut short ({reason}); copy or export it again"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return FromTop, (self.shape, self.dtype, self._begin, self._where)
