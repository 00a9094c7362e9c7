"""BMP: pixels, and little else."""

from __future__ import annotations

import logging
from io import BytesIO
from typing import IO

from PIL.BmpImagePlugin import BmpImageFile

from tileup.images.colour import in_srgb
from tileup.images.extras import given, over_white, whole_dpi
from tileup.images.formats.format import Format, Opened, Way
from tileup.images.formats.pillow import opened_by_pillow
from tileup.images.picture import Picture
from tileup.images.planes import to_image

log = logging.getLogger(__name__)


def _open(stream: IO[bytes]) -> Opened:
    return opened_by_pillow("bmp", BmpImageFile(stream))


def _write(picture: Picture, _: Way) -> bytes:
    image = to_image(over_white(picture, "BMP"))
    if picture.icc is not None:
        converted = in_srgb(image, picture.icc)
        log.warning(
            "BMP holds no colour profile: %s",
            "the picture was converted to sRGB" if converted else "colours may be off",
        )
        image = converted or image
    stream = BytesIO()
    image.save(stream, "BMP", **given(dpi=whole_dpi(picture)))
    return stream.getvalue()


BMP = Format(
    "bmp",
    "BMP",
    ("bmp",),
    ("BMP",),
    ((0, b"BM"),),
    _open,
    _write,
    also=("dib",),
    most_pixels=2**30,  # at most 4 GiB
)
