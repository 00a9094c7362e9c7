"""JPEG."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from io import BytesIO
from typing import IO, Any

from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from tileup.images import iptc
from tileup.images.exif import BROKEN
from tileup.images.extras import exif_choices, given, whole_dpi, xmp_choices
from tileup.images.formats.format import CREDENTIALS, Format, OpenedPicture, Way
from tileup.images.formats.pillow import comment_of, opened_by_pillow
from tileup.images.picture import Picture
from tileup.images.planes import number_bands, to_image

_SEGMENT = 65_000
"""Bytes that a marker holds, less what Pillow puts in front of EXIF and XMP."""
_FULL_CHROMA_QUALITY = 90
"""Quality from which colour is stored at full resolution."""


def _open(stream: IO[bytes]) -> OpenedPicture:
    image = JpegImageFile(stream)
    resources = image.info.get("photoshop")
    records = resources.get(iptc.RESOURCE) if isinstance(resources, dict) else None
    left = tuple(dict.fromkeys(_left(image)))
    return opened_by_pillow(
        "jpg",
        image,
        frames=1 if _has_gain_map(image) else _pictures(image),
        iptc=records if isinstance(records, bytes) else None,
        text=_comments(image),
        left=left,
    )


def _left(image: JpegImageFile) -> Iterator[str]:
    """What other segments are about; what XMP is about is told with it."""
    for name, content in image.applist:
        if name == "APP11" and b"c2pa" in content:
            yield CREDENTIALS
        if name == "APP2" and content.startswith(_ISO_GAIN_MAP):
            yield "its gain map"


_ISO_GAIN_MAP = b"urn:iso:std:iso:ts:21496:-1\0"


def _has_gain_map(image: JpegImageFile) -> bool:
    """Whether the second picture in it is that, by ISO 21496-1 or by XMP: which is told then."""
    return any(
        content.startswith(_ISO_GAIN_MAP) or b"http://ns.adobe.com/hdr-gain-map/" in content
        for _, content in image.applist
    )


_ENTRIES = 0xB002
"""Of CIPA DC-007: what each picture is."""


def _pictures(image: JpegImageFile) -> int:
    """How many a file of several has, besides smaller copies that cameras put there."""
    try:
        index = image._getmp() or {}  # pyright: ignore[reportPrivateUsage]
        kinds = [str(each["Attribute"]["MPType"]) for each in index.get(_ENTRIES, ())]
    except BROKEN:
        return 1
    return sum("Thumbnail" not in kind for kind in kinds) or 1


def _comments(image: JpegImageFile) -> dict[str, str]:
    """All of them, a line or more each."""
    found = [comment_of(content) for name, content in image.applist if name == "COM"]
    words = dict.fromkeys(each["Comment"] for each in found if each)
    return {"Comment": "\n".join(words)} if words else {}


def _write(picture: Picture, way: Way) -> bytes:
    stream = BytesIO()
    to_image(picture).save(stream, "JPEG", **_coding(way), **_beside(picture, way))
    return stream.getvalue()


def _write_bands(picture: Picture, way: Way, stream: IO[bytes]) -> None:
    """Each band is encoded by itself. Markers behind each row of blocks make the decoder begin
    anew, so that the coded rows of the bands can stand one behind the other."""
    beside = _beside(picture, way)  # of the first one
    for number, band in enumerate(number_bands(picture, 8, _ROWS)):
        image = Image.fromarray(band[..., 0] if band.shape[2] == 1 else band)
        made = BytesIO()
        image.save(made, "JPEG", restart_marker_rows=1, **_coding(way), **beside)
        beside.clear()
        head, coded = _split(bytearray(made.getvalue()), picture.height)
        stream.write(_LAST_RESTART if number else head)
        stream.write(coded)
    stream.write(_END)


_ROWS = 128
"""Rows of a band: eight rows of blocks, or sixteen, so that the numbers of the markers, which go
from 0 to 7, begin with each band."""
_LAST_RESTART, _END = b"\xff\xd7", b"\xff\xd9"
_SIZE, _SCAN = 0xC0, 0xDA
"""Segments of a picture's size and of its coded rows."""


def _split(data: bytearray, height: int) -> tuple[bytes, bytes]:
    """What stands before the coded rows, of a picture of another height; and they themselves."""
    at, kind = 2, 0
    while kind != _SCAN:
        kind, (length,) = data[at + 1], struct.unpack_from(">H", data, at + 2)
        if kind == _SIZE:
            struct.pack_into(">H", data, at + 5, height)
        at += 2 + length
    return bytes(data[:at]), bytes(data[at : -len(_END)])


def _coding(way: Way) -> dict[str, Any]:
    """How Pillow shall encode pixels."""
    full = way.quality >= _FULL_CHROMA_QUALITY
    return {"quality": way.quality, "subsampling": 0 if full else 2}


def _beside(picture: Picture, way: Way) -> dict[str, Any]:
    """What Pillow is told to write beside the pixels."""
    return {
        "icc_profile": picture.icc,
        "exif": _first_that_fits(exif_choices(picture, way.said, comments=True), way) or b"",
        **given(
            xmp=_first_that_fits(xmp_choices(picture, way.said, comments=True), way),
            dpi=whole_dpi(picture),
            comment=_comment(picture),
        ),
        "extra": _records(picture, way),
    }


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
    _write_bands,
    longest=65500,  # the format's own is 65535, but libjpeg, which writes it, stops earlier
    holds=frozenset({"icc", "exif", "xmp", "iptc", "comment"}),
)
