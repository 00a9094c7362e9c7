"""BMP: pixels, and little else."""

from __future__ import annotations

import struct
from io import BytesIO
from typing import IO

import numpy as np
from PIL.BmpImagePlugin import BmpImageFile

from tileup.images.calibration import Calibration
from tileup.images.extras import given, whole_dpi
from tileup.images.formats.format import Format, OpenedPicture, Way
from tileup.images.formats.pillow import opened_by_pillow
from tileup.images.picture import Picture
from tileup.images.planes import to_image


def _open(stream: IO[bytes]) -> OpenedPicture:
    stream.seek(14)
    header = stream.read(124)
    (length,) = struct.unpack_from("<L", header)
    colours: dict[str, object] = {}
    if length >= _V4 and header[56:60] == _CALIBRATED:
        colours = {"calibration": _calibration(header)}
    elif length >= _V5 and header[56:60] == _EMBEDDED:
        start, size = struct.unpack_from("<LL", header, 112)
        stream.seek(14 + start)
        colours = {"icc": stream.read(size) or None}
    stream.seek(0)
    return opened_by_pillow("bmp", BmpImageFile(stream), **colours)


_V4, _V5 = 108, 124
"""Lengths of the headers that tell of colours."""
_CALIBRATED, _EMBEDDED = bytes(4), b"DEBM"


def _calibration(header: bytes) -> Calibration | None:
    """Gamma and primaries of a header of version 4, whose numbers are of fixed point."""
    lights = np.array(struct.unpack_from("<9L", header, 60), np.float64).reshape(3, 3)
    gamma = tuple(65536 / each for each in struct.unpack_from("<3L", header, 96) if each)
    points = None
    if lights[:, 1].min() > 0:
        whole = np.vstack([lights.sum(axis=0), lights])
        places = whole[:, :2] / whole.sum(axis=1, keepdims=True)
        points = tuple((float(x), float(y)) for x, y in places)
    made = Calibration(gamma if len(gamma) == 3 else None, points=points)
    return None if made.is_srgb else made


def _write(picture: Picture, _: Way) -> bytes:
    stream = BytesIO()
    to_image(picture).save(stream, "BMP", **given(dpi=whole_dpi(picture)))
    return stream.getvalue()


FORMAT = Format(
    "bmp",
    ("BMP",),
    ((0, b"BM"),),
    _open,
    _write,
    most_pixels=2**30,  # at most 4 GiB
)
