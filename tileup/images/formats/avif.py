"""AVIF: more than eight bits, and what Pillow does not read or write of such a file.

The pictures are encoded and decoded by libavif, in imagecodecs. Profile, EXIF and XMP, which
imagecodecs leaves away, are put in here: ISO/IEC 14496-12 (boxes and items) and 23000-22 (MIAF).
Pillow, which could write them for 8 bits, turns RGB into YCbCr half a level off, and loses 2 dB.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import partial
from io import BytesIO
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL.AvifImagePlugin import AvifImageFile

from tileup.images.boxes import box, boxes, inside
from tileup.images.extras import exif_choices, xmp_choices
from tileup.images.formats.format import CREDENTIALS, Format, OpenedPicture, Raster, Way
from tileup.images.formats.pillow import head_of, raster_of, raster_of_words
from tileup.images.picture import Picture
from tileup.images.planes import to_whole

BITS = 10
"""Bits per channel that are written for a deep picture: what programs that show AVIF can read."""
SRGB = (1, 13)
"""Primaries and transfer of sRGB, as ITU-T H.273 numbers them."""
_UNSPECIFIED = (2, 2)
_BT601, _IDENTITY = 6, 0
"""Matrices between RGB and what is stored: YCbCr as JPEG has it, and RGB itself."""
_FULL_CHROMA_QUALITY = 90
"""Quality from which colour is stored at full resolution."""
_SPEED = 6
_THREADS = 2
"""More do not change the bytes; one alone does."""
_EXIF_PREFIX = b"Exif\0\0"
_DESCRIBES = b"cdsc"
_TURNS = (b"irot", b"imir")
_ESSENTIAL = 0x80
"""Marks a property that must be understood, as turns must be."""


def _open(stream: IO[bytes]) -> OpenedPicture:
    data = stream.read()
    image = AvifImageFile(BytesIO(data))
    bits, cicp, lossless = bits_and_colours(data)
    cicp = None if "icc_profile" in image.info else cicp
    head = head_of(image, cicp=cicp, lossless=lossless, left=credentials_of(data))
    decode = partial(_words, data, image.size, bits) if bits > 8 else partial(raster_of, image)
    return OpenedPicture("avif", head, decode)


def credentials_of(data: bytes) -> tuple[str, ...]:
    """What is told of a signature, where a file has one."""
    signed = any(kind == b"uuid" and each.startswith(_C2PA) for kind, each in boxes(data))
    return (CREDENTIALS,) if signed else ()


_C2PA = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")


def bits_and_colours(data: bytes) -> tuple[int, tuple[int, int] | None, bool]:
    """Bits per channel, primaries and transfer where they are given and not those of sRGB, and
    whether channels are stored as RGB, which is done for pictures without loss.

    Args:
        data: the file, or as much of its head as holds the `meta` box.
    """
    bits, cicp, plain = 8, None, False
    for kind, content in boxes(inside(data, b"meta", b"iprp", b"ipco")):
        if kind == b"av1C" and len(content) >= 3:
            # Bits 6 and 5 of the third byte: high_bitdepth and twelve_bit of AV1.
            deep, twelve = content[2] & 0x40, content[2] & 0x20
            bits = max(bits, 12 if deep and twelve else 10 if deep else 8)
        elif kind == b"colr" and content[:4] == b"nclx" and len(content) >= 10:
            primaries, transfer, matrix = struct.unpack_from(">HHH", content, 4)
            plain = matrix == _IDENTITY
            if 2 not in (primaries, transfer) and (primaries, transfer) != SRGB:
                cicp = (primaries, transfer)
    return bits, cicp, plain


def _words(data: bytes, size: tuple[int, int], bits: int) -> Raster:
    # Imported here because few pictures need it.
    import imagecodecs

    words = np.asarray(imagecodecs.avif_decode(data, index=0, numthreads=_THREADS))
    return raster_of_words(words, size, bits)


def _write(picture: Picture, way: Way) -> bytes:
    return encode(
        to_whole(picture, BITS),
        100 if way.lossless else way.quality,
        lossless=way.lossless,
        icc=picture.icc,
        exif=next(exif_choices(picture, way.said)),
        xmp=next(xmp_choices(picture, way.said)),
        cicp=picture.cicp,
    )


def encode(
    values: NDArray[np.uint8] | NDArray[np.uint16],
    quality: int,
    *,
    lossless: bool = False,
    icc: bytes | None = None,
    exif: bytes | None = None,
    xmp: bytes | None = None,
    cicp: tuple[int, int] | None = None,
) -> bytes:
    """A whole file; the same arguments give the same bytes.

    Args:
        values: shape (H, W) or (H, W, 2 to 4); uint8, or uint16 of `BITS` bits.
        quality: 1 to 100. From 90 on, colour is stored at full resolution.
        lossless: whether every number is kept; at quality 100.
        icc: colour profile.
        exif: starts with `Exif` and two zeros.
        xmp: a packet.
        cicp: primaries and transfer; None: sRGB, or whatever the profile says.
    """
    # Imported here because few pictures need it.
    import imagecodecs

    primaries, transfer = cicp or (_UNSPECIFIED if icc else SRGB)
    grey = values.ndim == 2 or values.shape[2] == 2
    made = imagecodecs.avif_encode(
        np.ascontiguousarray(values),
        level=quality,
        speed=_SPEED,
        bitspersample=8 if values.dtype == np.uint8 else BITS,
        pixelformat="400" if grey else "444" if quality >= _FULL_CHROMA_QUALITY else "420",
        primaries=primaries,
        transfer=transfer,
        matrix=_IDENTITY if lossless and not grey else _BT601,
        numthreads=_THREADS,
    )
    items: list[tuple[bytes, bytes, bytes]] = []
    if exif is not None:
        # Four bytes say how far behind them the TIFF header begins.
        items.append((b"Exif", b"", bytes(4) + exif.removeprefix(_EXIF_PREFIX)))
    if xmp is not None:
        items.append((b"mime", b"application/rdf+xml\0", xmp))
    profile = [] if icc is None else [box(b"colr", b"prof" + icc)]
    return with_extras(bytes(made), profile, items)


def with_extras(
    avif: bytes, properties: Sequence[bytes], items: Sequence[tuple[bytes, bytes, bytes]]
) -> bytes:
    """A file of libavif with more properties of its picture, and more items that describe it.

    Args:
        avif: ftyp, meta and mdat, in this order.
        properties: whole boxes.
        items: type, what follows the empty name in the item's entry, and content, of each.
    """
    (_, ftyp), (_, meta), (_, mdat) = boxes(avif)
    parts = dict(boxes(meta[4:]))
    (primary,) = struct.unpack_from(">H", parts[b"pitm"], 4)
    places = _places(parts[b"iloc"])
    numbers = range(max(place[0] for place in places) + 1, 0x10000)
    extra = list(zip(numbers, items, strict=False))
    parts[b"iinf"] = _more_entries(parts[b"iinf"], extra)
    parts[b"iprp"] = _more_properties(parts[b"iprp"], properties, primary)
    if extra:
        # A reference: from, how many, to.
        refers = (struct.pack(">HHH", number, 1, primary) for number, _ in extra)
        references = parts.get(b"iref", bytes(4)) + b"".join(
            box(_DESCRIBES, each) for each in refers
        )
        parts[b"iref"] = references
    added, before = b"", len(avif) - len(mdat)
    contents: list[tuple[int, int, int]] = []
    for number, (_, _, content) in extra:
        contents.append((number, before + len(mdat) + len(added), len(content)))
        added += content
    # The table of places has the same length whatever stands in it.
    parts[b"iloc"] = _located([*places, *contents])
    grown = len(_meta(parts)) - len(box(b"meta", meta))
    moved = [(number, start + grown, length) for number, start, length in (*places, *contents)]
    parts[b"iloc"] = _located(moved)
    return box(b"ftyp", ftyp) + _meta(parts) + box(b"mdat", mdat + added)


_ORDER = (b"hdlr", b"pitm", b"iloc", b"iinf", b"iref", b"iprp")


def _meta(parts: dict[bytes, bytes]) -> bytes:
    return box(b"meta", bytes(4) + b"".join(box(k, parts[k]) for k in _ORDER if k in parts))


def _places(iloc: bytes) -> list[tuple[int, int, int]]:
    """Item, offset in the file and length, of a table in the form that libavif writes."""
    form, count = struct.unpack_from(">LxxH", iloc)
    if form != 0 or iloc[4:6] != b"\x44\0" or len(iloc) != 8 + 14 * count:
        raise ValueError("libavif writes tables of items in another form")
    entries = (struct.unpack_from(">HHHLL", iloc, 8 + 14 * each) for each in range(count))
    return [(item, start, length) for item, _, _, start, length in entries]


def _located(places: Sequence[tuple[int, int, int]]) -> bytes:
    head = struct.pack(">L", 0) + b"\x44\0" + struct.pack(">H", len(places))
    return head + b"".join(struct.pack(">HHHLL", i, 0, 1, start, n) for i, start, n in places)


def _more_entries(iinf: bytes, extra: Sequence[tuple[int, tuple[bytes, bytes, bytes]]]) -> bytes:
    (count,) = struct.unpack_from(">H", iinf, 4)
    entries = b"".join(
        box(b"infe", b"\2\0\0\1" + struct.pack(">HH", number, 0) + kind + b"\0" + rest)
        for number, (kind, rest, _) in extra
    )
    return iinf[:4] + struct.pack(">H", count + len(extra)) + iinf[6:] + entries


def _more_properties(iprp: bytes, properties: Sequence[bytes], primary: int) -> bytes:
    (_, ipco), (_, ipma) = boxes(iprp)
    first = len(list(boxes(ipco))) + 1
    numbers = bytes(
        number | (_ESSENTIAL if each[4:8] in _TURNS else 0)
        for number, each in enumerate(properties, first)
    )
    count, at = struct.unpack_from(">L", ipma, 4)[0], 8
    entries = b""
    for _ in range(count):
        item, known = struct.unpack_from(">HB", ipma, at)
        mine = ipma[at + 3 : at + 3 + known] + (numbers if item == primary else b"")
        entries += struct.pack(">HB", item, len(mine)) + mine
        at += 3 + known
    changed = ipma[:8] + entries
    return box(b"ipco", ipco + b"".join(properties)) + box(b"ipma", changed)


FORMAT = Format(
    "avif",
    ("AVIF",),
    ((4, b"ftypavi"),),
    _open,
    _write,
    bits=BITS,
    longest=32768,  # what programs with libavif open unless told otherwise
    most_pixels=16384**2,
    holds=frozenset({"alpha", "icc", "cicp", "exif", "xmp"}),
)
