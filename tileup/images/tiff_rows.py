"""The pixels of a TIFF some rows at a time, so that a large picture is never held as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any

import numpy as np

from tileup.images.formats.format import Reopen
from tileup.images.pixels import Numbers, bands


def tiff_rows(width: int, height: int, channels: int, reopen: Reopen) -> Iterator[Numbers]:
    """Rows of a picture from the top down, whole numbers of shape (h, width, channels).

    Raises:
        EOFError: the file ends before its pixels do.
    """
    # Imported here because few pictures need it.
    import tifffile

    with reopen() as stream, tifffile.TiffFile(stream) as file:
        page = file.pages[0]
        assert isinstance(page, tifffile.TiffPage)
        if page.is_contiguous:
            dtype = np.dtype(page.dtype or np.uint8).newbyteorder(file.byteorder)
            yield from _plain_rows(stream, page.dataoffsets[0], dtype, (height, width, channels))
        else:
            yield from _segments(page, (height, width, channels))


def _plain_rows(
    stream: IO[bytes], start: int, dtype: np.dtype[Any], shape: tuple[int, int, int]
) -> Iterator[Numbers]:
    """Of pixels that stand in the file as they are, one behind the other."""
    height, width, channels = shape
    stream.seek(start)
    for part in bands(height, width):
        size = (part.stop - part.start) * width * channels
        read = np.frombuffer(stream.read(size * dtype.itemsize), dtype)
        if len(read) < size:
            raise EOFError("its pixels end too early")
        yield read.reshape(-1, width, channels).astype(dtype.newbyteorder("="), copy=False)


def _segments(page: Any, shape: tuple[int, int, int]) -> Iterator[Numbers]:  # noqa: ANN401
    """Of strips or tiles, which are decoded row by row of them."""
    height, width, channels = shape
    dtype: np.dtype[Any] = page.dtype
    top, band = 0, np.empty((0, width, channels), dtype)
    for decoded, place, _ in page.segments(maxworkers=1):
        row, column = place[2], place[3]
        if row != top or not len(band):
            if len(band):
                yield band
            rows = min(page.tilelength if page.is_tiled else page.rowsperstrip, height - row)
            top, band = row, np.zeros((rows, width, channels), dtype)
        if decoded is not None:
            part = decoded[0][: len(band), : width - column]
            band[: len(part), column : column + part.shape[1]] = part
    yield band
