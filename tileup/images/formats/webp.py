"""WebP."""

from __future__ import annotations

from io import BytesIO
from typing import IO

from PIL.WebPImagePlugin import WebPImageFile

from tileup.images.extras import exif_choices, given, xmp_choices
from tileup.images.formats.format import Format, Opened, Way
from tileup.images.formats.pillow import opened_by_pillow
from tileup.images.picture import Picture
from tileup.images.planes import to_image


def _open(stream: IO[bytes]) -> Opened:
    return opened_by_pillow("webp", WebPImageFile(stream))


def _write(picture: Picture, way: Way) -> bytes:
    stream = BytesIO()
    to_image(picture).save(
        stream,
        "WEBP",
        quality=way.quality,
        **given(
            icc_profile=picture.icc,
            exif=next(exif_choices(picture, way.said)),
            xmp=next(xmp_choices(picture, way.said)),
        ),
    )
    return stream.getvalue()


WEBP = Format(
    "webp",
    "WebP",
    ("webp",),
    ("WEBP",),
    ((8, b"WEBP"),),
    _open,
    _write,
    longest=16383,
    holds=frozenset({"exif", "xmp"}),
)
