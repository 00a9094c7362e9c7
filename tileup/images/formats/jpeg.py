"""JPEG."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from io import BytesIO
from typing import IO

from PIL.JpegImagePlugin import JpegImageFile

from tileup.images.extras import exif_choices, given, over_white, whole_dpi, xmp_choices
from tileup.images.formats.format import Format, Opened, Way
from tileup.images.formats.pillow import opened_by_pillow
from tileup.images.picture import Picture
from tileup.images.planes import to_image

log = logging.getLogger(__name__)

_SEGMENT = 65_000
"""Bytes that a marker holds, less what Pillow puts in front of EXIF and XMP."""
_FULL_CHROMA_QUALITY = 90
"""Quality from which colour is stored at full resolution."""


def _open(stream: IO[bytes]) -> Opened:
    return opened_by_pillow("jpg", JpegImageFile(stream))


def _write(picture: Picture, way: Way) -> bytes:
    stream = BytesIO()
    to_image(over_white(picture, "JPEG")).save(
        stream,
        "JPEG",
        quality=way.quality,
        subsampling=0 if way.quality >= _FULL_CHROMA_QUALITY else 2,
        icc_profile=picture.icc,
        exif=_first_that_fits(exif_choices(picture, way.said)) or b"",
        **given(xmp=_first_that_fits(xmp_choices(picture, way.said)), dpi=whole_dpi(picture)),
    )
    return stream.getvalue()


def _first_that_fits(choices: Iterable[bytes | None]) -> bytes | None:
    """The first that a marker can hold, with a warning where that is not the fullest."""
    for number, choice in enumerate(choices):
        if choice is None or len(choice) <= _SEGMENT:
            if number:
                log.warning("JPEG holds 64 kB of EXIF and of XMP each: some was left out")
            return choice
    return None


JPEG = Format(
    "jpg",
    "JPEG",
    ("jpg", "jpeg"),
    ("JPEG", "MPO"),
    ((0, b"\xff\xd8\xff"),),
    _open,
    _write,
    also=("jpe", "jfif"),
    longest=65500,  # the format's own is 65535, but libjpeg, which writes it, stops earlier
    holds=frozenset({"exif", "xmp"}),
)
