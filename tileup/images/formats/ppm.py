"""PBM, PGM and PPM, which are only read."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL.PpmImagePlugin import PpmImageFile

from tileup.images.formats.format import Format, OpenedPicture, Raster
from tileup.images.formats.pillow import head_of, raster_of, raster_of_words

_HEAD = 4096
"""Bytes in which a header ends, comments and all."""
_DEEP = re.compile(rb"P([2356])" + rb"(?:\s+|#[^\n]*\n)+(\d+)" * 3 + rb"\s")
"""Kind, width, height and largest number of a header."""


def _open(stream: IO[bytes]) -> OpenedPicture:
    match = _DEEP.match(stream.read(_HEAD))
    stream.seek(0)
    image = PpmImageFile(stream)
    decode = partial(raster_of, image)
    if match and int(match[4]) > 255:
        read = _as_text if match[1] in b"23" else _as_bytes
        numbers = partial(read, stream, match.end())
        decode = partial(_words, numbers, 1 if match[1] in b"25" else 3, int(match[4]), image.size)
    return OpenedPicture("ppm", head_of(image), decode)


def _as_bytes(stream: IO[bytes], start: int, count: int) -> NDArray[Any]:
    """Numbers of two bytes, the higher one first."""
    stream.seek(start)
    return np.frombuffer(stream.read(2 * count), ">u2")


def _as_text(stream: IO[bytes], start: int, count: int) -> NDArray[Any]:
    """Numbers in words, with comments up to the ends of lines."""
    stream.seek(start)
    words = re.sub(rb"#[^\n]*", b"", stream.read()).split(maxsplit=count)
    return np.array(words[:count], np.uint16)


def _words(
    numbers: Callable[[int], NDArray[Any]], channels: int, most: int, size: tuple[int, int]
) -> Raster:
    """Numbers from 0 to `most`."""
    width, height = size
    data = numbers(width * height * channels)
    words = np.minimum(data.astype(np.float64) / most, 1) * 65535
    planes = np.rint(words).astype(np.uint16).reshape(height, width, channels)
    return raster_of_words(planes, size, 16)


FORMAT = Format(
    "ppm",
    ("PPM",),
    tuple((0, b"P%d%s" % (kind, space)) for kind in range(1, 7) for space in (b"\n", b" ", b"\r")),
    _open,
)
