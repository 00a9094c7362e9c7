"""The rows of a PNG, filtered and compressed as they come."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from typing import IO

import numpy as np
from numpy.typing import NDArray

from tileup.images.pixels import Numbers

Bytes = NDArray[np.uint8]

_CHUNK = 2**20
"""Bytes of compressed pixels in a chunk."""
_COLOURS = {1: 0, 2: 4, 3: 2, 4: 6}
"""Type of colours by the number of channels: grey, grey with alpha, RGB, RGB with alpha."""


def header(width: int, height: int, channels: int, bits: int) -> bytes:
    """The chunk of a picture's size and kind."""
    content = struct.pack(">LLBBBBB", width, height, bits, _COLOURS[channels], 0, 0, 0)
    return chunk(b"IHDR", content)


def chunk(name: bytes, content: bytes) -> bytes:
    """A chunk as it stands in a file."""
    check = zlib.crc32(content, zlib.crc32(name))
    return struct.pack(">L", len(content)) + name + content + struct.pack(">L", check)


def write_rows(stream: IO[bytes], bands: Iterable[Numbers], level: int) -> None:
    """Write the chunks of the pixels and the last one.

    Args:
        stream: where they go.
        bands: rows of the picture from the top down, shape (rows, W, 1 to 4).
        level: 0 to 9, from fast to small.
    """
    packing = zlib.compressobj(level, zlib.DEFLATED, zlib.MAX_WBITS, 9, zlib.Z_FILTERED)
    above, waiting = None, bytearray()
    for band in bands:
        step = band.shape[2] * band.dtype.itemsize
        rows = _as_bytes(band)
        above = np.zeros_like(rows[0]) if above is None else above
        waiting += packing.compress(filtered(rows, above, step).tobytes())
        above = rows[-1]
        while len(waiting) > _CHUNK:
            stream.write(chunk(b"IDAT", bytes(waiting[:_CHUNK])))
            del waiting[:_CHUNK]
    stream.write(chunk(b"IDAT", bytes(waiting) + packing.flush()))
    stream.write(chunk(b"IEND", b""))


def _as_bytes(band: Numbers) -> Bytes:
    """Rows as they stand in a file, the higher byte of a number first: shape (rows, n)."""
    ordered = np.ascontiguousarray(band, ">u2" if band.dtype.itemsize == 2 else np.uint8)
    return ordered.view(np.uint8).reshape(len(band), -1)


def filtered(rows: Bytes, above: Bytes, step: int) -> Bytes:
    """Rows, each as its differences from what a filter foretells, by the filter that suits best.

    Which that is goes by the sum of the differences, as the format's authors recommend.

    Args:
        rows: shape (rows, n).
        above: the row before the first one, shape (n,).
        step: bytes of a pixel.

    Returns:
        Shape (rows, 1 + n): the number of the filter, and the differences.
    """
    up = np.concatenate([above[None], rows[:-1]])
    left, corner = _shifted(rows, step), _shifted(up, step)
    mean = (left & up) + ((left ^ up) >> 1)
    foretold = (None, left, up, mean, _paeth(left, up, corner))
    result = np.empty((len(rows), 1 + rows.shape[1]), np.uint8)
    least = np.full(len(rows), np.iinfo(np.int64).max)
    for number, each in enumerate(foretold):
        differences = rows if each is None else rows - each
        cost = np.abs(differences.view(np.int8)).view(np.uint8).sum(axis=1, dtype=np.int64)
        better = np.flatnonzero(cost < least)
        least[better] = cost[better]
        result[better, 0] = number
        result[better, 1:] = differences[better]
    return result


def _shifted(rows: Bytes, step: int) -> Bytes:
    """What stands a pixel to the left."""
    result = np.zeros_like(rows)
    result[:, step:] = rows[:, :-step]
    return result


def _paeth(left: Bytes, up: Bytes, corner: Bytes) -> Bytes:
    """Of the three neighbours the one nearest to `left + up - corner`."""
    a, b, c = (each.astype(np.int16) for each in (left, up, corner))
    b -= c
    a -= c
    to_left, to_up, to_corner = np.abs(b), np.abs(a), np.abs(a + b)
    near = np.where(to_up <= to_corner, up, corner)
    return np.where((to_left <= to_up) & (to_left <= to_corner), left, near)
