"""WebP."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from io import BytesIO
from typing import IO

from PIL.WebPImagePlugin import WebPImageFile

from tileup.images.extras import exif_choices, given, xmp_choices
from tileup.images.formats.format import CREDENTIALS, Format, OpenedPicture, Way
from tileup.images.formats.pillow import opened_by_pillow
from tileup.images.picture import Picture
from tileup.images.planes import to_image


def _open(stream: IO[bytes]) -> OpenedPicture:
    names = set(_chunks(stream))
    stream.seek(0)
    left = (CREDENTIALS,) if b"C2PA" in names else ()
    return opened_by_pillow("webp", WebPImageFile(stream), lossless=b"VP8L" in names, left=left)


def _chunks(stream: IO[bytes]) -> Iterator[bytes]:
    """Names of the chunks of a file."""
    stream.seek(12)
    while len(head := stream.read(8)) == 8:
        name, length = struct.unpack("<4sL", head)
        yield name
        stream.seek(length + length % 2, 1)


def _write(picture: Picture, way: Way) -> bytes:
    stream = BytesIO()
    to_image(picture).save(
        stream,
        "WEBP",
        quality=way.quality,
        lossless=way.lossless,
        exact=way.lossless,
        **given(
            icc_profile=picture.icc,
            exif=next(exif_choices(picture, way.said, comfy=True)),
            xmp=next(xmp_choices(picture, way.said, comfy=True)),
        ),
    )
    return stream.getvalue()


FORMAT = Format(
    "webp",
    ("WEBP",),
    ((8, b"WEBP"),),
    _open,
    _write,
    longest=16383,
    holds=frozenset({"alpha", "icc", "exif", "xmp"}),
)
