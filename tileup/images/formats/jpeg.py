"""JPEG."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from io import BytesIO
from typing import IO

from PIL.JpegImagePlugin import JpegImageFile

from tileup.images import iptc
from tileup.images.extras import exif_choices, given, whole_dpi, xmp_choices
from tileup.images.formats.format import Format, Opened, Way
from tileup.images.formats.pillow import opened_by_pillow
from tileup.images.picture import Picture
from tileup.images.planes import to_image

_SEGMENT = 65_000
"""Bytes that a marker holds, less what Pillow puts in front of EXIF and XMP."""
_FULL_CHROMA_QUALITY = 90
"""Quality from which colour is stored at full resolution."""


def _open(stream: IO[bytes]) -> Opened:
    image = JpegImageFile(stream)
    resources = image.info.get("photoshop")
    records = resources.get(iptc.RESOURCE) if isinstance(resources, dict) else None
    return opened_by_pillow("jpg", image, iptc=records if isinstance(records, bytes) else None)


def _write(picture: Picture, way: Way) -> bytes:
    stream = BytesIO()
    to_image(picture).save(
        stream,
        "JPEG",
        quality=way.quality,
        subsampling=0 if way.quality >= _FULL_CHROMA_QUALITY else 2,
        icc_profile=picture.icc,
        exif=_first_that_fits(exif_choices(picture, way.said, comments=True), way) or b"",
        **given(
            xmp=_first_that_fits(xmp_choices(picture, way.said, comments=True), way),
            dpi=whole_dpi(picture),
            comment=_comment(picture),
        ),
        extra=_records(picture, way),
    )
    return stream.getvalue()


def _comment(picture: Picture) -> bytes | None:
    text = picture.text.get("Comment")
    return None if text is None else text.encode()[:_SEGMENT]


def _records(picture: Picture, way: Way) -> bytes:
    """IPTC in the segment where Photoshop keeps it; nothing where it does not fit."""
    if picture.iptc is None:
        return b""
    if len(picture.iptc) > _SEGMENT:
        way.tell("more than 64 kB of IPTC")
        return b""
    content = b"Photoshop 3.0\0" + iptc.as_resource(picture.iptc)
    return b"\xff\xed" + struct.pack(">H", len(content) + 2) + content


def _first_that_fits(choices: Iterable[bytes | None], way: Way) -> bytes | None:
    """The first that a marker can hold; told where that is not the fullest."""
    for number, choice in enumerate(choices):
        if choice is None or len(choice) <= _SEGMENT:
            if number:
                way.tell("more than 64 kB of EXIF, and of XMP")
            return choice
    return None


FORMAT = Format(
    "jpg",
    ("JPEG", "MPO"),
    ((0, b"\xff\xd8\xff"),),
    _open,
    _write,
    longest=65500,  # the format's own is 65535, but libjpeg, which writes it, stops earlier
    holds=frozenset({"icc", "exif", "xmp", "iptc", "comment"}),
)
