"""PBM, PGM and PPM, which are only read."""

from __future__ import annotations

import re
from functools import partial
from typing import IO

import numpy as np
from PIL.PpmImagePlugin import PpmImageFile

from tileup.images.formats.format import Format, OpenedPicture, Raster
from tileup.images.formats.pillow import head_of, raster_of, raster_of_words

_HEAD = 4096
"""Bytes in which a header ends, comments and all."""
_DEEP = re.compile(rb"P([56])" + rb"(?:\s+|#[^\n]*\n)+(\d+)" * 3 + rb"\s")
"""Kind, width, height and largest number of a header."""


def _open(stream: IO[bytes]) -> OpenedPicture:
    match = _DEEP.match(stream.read(_HEAD))
    stream.seek(0)
    image = PpmImageFile(stream)
    decode = partial(raster_of, image)
    if match and int(match[4]) > 255:
        decode = partial(_words, stream, match.end(), 1 if match[1] == b"5" else 3, int(match[4]))
        decode = partial(decode, image.size)
    return OpenedPicture("ppm", head_of(image), decode)


def _words(
    stream: IO[bytes], start: int, channels: int, most: int, size: tuple[int, int]
) -> Raster:
    """Numbers of two bytes, the higher one first, from 0 to `most`."""
    width, height = size
    stream.seek(start)
    data = np.frombuffer(stream.read(2 * width * height * channels), ">u2")
    words = np.minimum(data.astype(np.float64) / most, 1) * 65535
    planes = np.rint(words).astype(np.uint16).reshape(height, width, channels)
    return raster_of_words(planes, size, 16)


FORMAT = Format(
    "ppm",
    ("PPM",),
    tuple((0, b"P%d%s" % (kind, space)) for kind in range(1, 7) for space in (b"\n", b" ", b"\r")),
    _open,
)
