"""JPEG 2000: more than eight bits, and the profile, EXIF and XMP that Pillow passes over.

The boxes are those of ISO/IEC 15444-1, annex I. EXIF and XMP stand in `uuid` boxes, as exiftool
and Adobe write them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile

from tileup.images.boxes import box, boxes, inside
from tileup.images.exif import read_block
from tileup.images.extras import exif_choices, xmp_choices
from tileup.images.formats.format import Format, OpenedPicture, Raster, Way
from tileup.images.formats.pillow import head_of, raster_of, raster_of_words, too_deep
from tileup.images.picture import Picture
from tileup.images.planes import to_whole

_EXIF = b"JpgTiffExif->JP2"
_XMP = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_IPTC = bytes.fromhex("33c7a4d2b81d4723a0baf1a3e097ad38")
_EXIF_PREFIX = b"Exif\0\0"
_SRGB, _GREY = 16, 17
"""Colour spaces by number."""


def _open(stream: IO[bytes]) -> OpenedPicture:
    data = stream.read()
    image = Jpeg2KImageFile(BytesIO(data))
    found = read_header(data)
    packet = None if found.xmp is None else found.xmp.decode("utf-8", "replace")
    exif = read_block(found.exif)
    # Its comments are names of encoders.
    head = head_of(image, icc=found.icc, exif=exif, xmp=packet, iptc=found.iptc, text={})
    deep = found.bits == 0 or found.bits > 8
    decode = partial(_words, data, image.size, found) if deep else partial(raster_of, image)
    return OpenedPicture("jp2", head, decode)


def _words(data: bytes, size: tuple[int, int], header: Jpeg2000Header) -> Raster:
    if not (8 < header.bits <= 16 and header.plain):
        raise too_deep()
    # Imported here because few pictures need it.
    import imagecodecs

    return raster_of_words(np.asarray(imagecodecs.jpeg2k_decode(data)), size, header.bits)


def _write(picture: Picture, way: Way) -> bytes:
    return encode(
        to_whole(picture),
        icc=picture.icc,
        exif=next(exif_choices(picture, way.said)),
        xmp=next(xmp_choices(picture, way.said)),
        dpi=picture.dpi,
        iptc=picture.iptc,
    )


@dataclass(frozen=True, slots=True)
class Jpeg2000Header:
    """What Pillow does not tell of a JPEG 2000 file."""

    bits: int = 8
    """Bits per channel; 0 where the channels differ, or have a sign."""
    plain: bool = True
    """Whether the channels are grey or RGB as they are stored."""
    icc: bytes | None = None
    exif: bytes | None = None
    """Starts with `Exif` and two zeros."""
    xmp: bytes | None = None
    iptc: bytes | None = None


def read_header(data: bytes) -> Jpeg2000Header:
    """The header of a whole file, in boxes or as a bare code stream."""
    stream, icc, exif, xmp, iptc, plain = data, None, None, None, None, True
    if not data.startswith(b"\xff\x4f"):
        stream = b""
        for kind, content in boxes(data):
            if kind == b"jp2c":
                stream = stream or content
            elif kind == b"uuid" and content.startswith(_EXIF):
                exif = _EXIF_PREFIX + content[16:].removeprefix(_EXIF_PREFIX)
            elif kind == b"uuid" and content.startswith(_XMP):
                xmp = content[16:]
            elif kind == b"uuid" and content.startswith(_IPTC):
                iptc = content[16:]
        icc, plain = _colour(inside(data, b"jp2h"))
    return Jpeg2000Header(_bits(stream), plain, icc, exif, xmp, iptc)


def _colour(jp2h: bytes) -> tuple[bytes | None, bool]:
    """The profile, and whether channels are what they seem: no YCC, no palette."""
    icc, plain = None, True
    for kind, content in boxes(jp2h):
        if kind == b"pclr":
            plain = False
        elif kind == b"colr" and content[:1] == b"\2":
            icc = content[3:]
        elif kind == b"colr" and content[:1] == b"\1" and len(content) >= 7:
            plain = struct.unpack_from(">L", content, 3)[0] in (_SRGB, _GREY)
    return icc, plain


def _bits(stream: bytes) -> int:
    """Bits per channel, from the first segment of a code stream (SIZ)."""
    if len(stream) < 45 or not stream.startswith(b"\xff\x4f\xff\x51"):
        return 8
    (count,) = struct.unpack_from(">H", stream, 40)
    each = set(stream[42 : 42 + 3 * count : 3])
    return min(each) + 1 if len(each) == 1 and min(each) < 0x80 else 0


def encode(
    values: NDArray[np.uint8] | NDArray[np.uint16],
    *,
    icc: bytes | None = None,
    exif: bytes | None = None,
    xmp: bytes | None = None,
    dpi: tuple[float, float] | None = None,
    iptc: bytes | None = None,
) -> bytes:
    """A whole file, without loss.

    Args:
        values: shape (H, W) or (H, W, 2 to 4).
        icc: colour profile.
        exif: starts with `Exif` and two zeros.
        xmp: a packet.
        dpi: pixels per inch, across and down.
        iptc: records.
    """
    # Imported here because few pictures need it.
    import imagecodecs

    planes = np.ascontiguousarray(values)
    # A side is halved for each resolution, and at least one pixel must be left.
    resolutions = min(6, min(planes.shape[:2]).bit_length())
    stream = bytes(
        imagecodecs.jpeg2k_encode(
            planes,
            level=0,
            codecformat="j2k",
            reversible=True,
            resolutions=resolutions,
            planar=False,
        )
    )
    height, width = planes.shape[:2]
    channels = 1 if planes.ndim == 2 else planes.shape[2]
    header = [_ihdr(width, height, channels, 8 * planes.itemsize), _colr(icc, channels)]
    if channels in (2, 4):
        header.append(_cdef(channels))
    if dpi is not None:
        header.append(_res(dpi))
    parts = [
        box(b"jP  ", b"\r\n\x87\n"),
        box(b"ftyp", b"jp2 \0\0\0\0jp2 "),
        box(b"jp2h", b"".join(header)),
    ]
    if exif is not None:
        parts.append(box(b"uuid", _EXIF + exif.removeprefix(_EXIF_PREFIX)))
    if xmp is not None:
        parts.append(box(b"uuid", _XMP + xmp))
    if iptc is not None:
        parts.append(box(b"uuid", _IPTC + iptc))
    # A length of 0 reaches to the end of the file: no size is too large for it.
    return b"".join([*parts, struct.pack(">L4s", 0, b"jp2c"), stream])


def _ihdr(width: int, height: int, channels: int, bits: int) -> bytes:
    return box(b"ihdr", struct.pack(">LLHBBBB", height, width, channels, bits - 1, 7, 0, 0))


def _colr(icc: bytes | None, channels: int) -> bytes:
    if icc is not None:
        return box(b"colr", b"\2\0\0" + icc)
    return box(b"colr", struct.pack(">BBBL", 1, 0, 0, _SRGB if channels > 2 else _GREY))


def _cdef(channels: int) -> bytes:
    """Which channel is which: colours first, then one of transparency for all of them."""
    colours = [(each, 0, each + 1) for each in range(channels - 1)]
    entries = [*colours, (channels - 1, 1, 0)]
    return box(
        b"cdef", struct.pack(">H", channels) + b"".join(struct.pack(">HHH", *e) for e in entries)
    )


def _res(dpi: tuple[float, float]) -> bytes:
    """Pixels per metre, down and then across: numerator / denominator * 10 ^ exponent each."""
    fine = max(dpi) < 655
    # An inch has 254 / 10^4 metres. Hundredths are kept where two bytes hold them.
    scale, exponent = (100, 2) if fine else (1, 4)
    across, down = (round(value * scale) for value in dpi)
    return box(b"res ", box(b"resc", struct.pack(">4H2b", down, 254, across, 254, *[exponent] * 2)))


FORMAT = Format(
    "jp2",
    ("JPEG2000",),
    ((4, b"jP  "), (0, b"\xff\x4f\xff\x51")),
    _open,
    _write,
    bits=16,
    holds=frozenset({"alpha", "icc", "exif", "xmp", "iptc"}),
)
