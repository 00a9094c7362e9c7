"""PNG, of eight and of sixteen bits.

What stands beside the pixels is read from the chunks themselves: some of it may follow the
pixels, where Pillow would decode them to get there.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from typing import IO, Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngImageFile, PngInfo

from tileup.images import generators, iptc, png_rows
from tileup.images.calibration import Calibration, Points
from tileup.images.exif import read_block, stamped
from tileup.images.extras import given, merged, ours, stands_apart, texts_to_write
from tileup.images.formats.format import (
    CREDENTIALS,
    ByBands,
    Format,
    Head,
    OpenedPicture,
    Raster,
    UnreadableError,
    Way,
)
from tileup.images.formats.pillow import plausible_dpi, raster_of, raster_of_words
from tileup.images.picture import Picture
from tileup.images.planes import number_bands
from tileup.images.png_rows import CHANNELS, SIGNATURE, check_sum, read_rows

_SRGB = (1, 13)
"""Primaries and transfer of sRGB, as ITU-T H.273 numbers them."""
_XMP = "XML:com.adobe.xmp"
_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_MOST_TEXT = 2**20
"""Bytes to which one compressed text may unpack."""
_MOST_PROFILE = 2**26
"""Bytes to which a profile may unpack."""
_MODES = {0: "L", 2: "RGB", 3: "P", 4: "LA", 6: "RGBA"}


@dataclass(slots=True)
class _Chunks:
    """What was found while going through a file."""

    header: tuple[int, int, int, int] = (0, 0, 8, 0)
    """Width, height, bits per channel and type of colours."""
    laced: bool = False
    """Whether rows are stored in several passes."""
    clear: bool = False
    """Whether one colour counts as transparent."""
    frames: int = 1
    still: bool = True
    """Whether the pixels come before any frame: then they are no frame themselves."""
    icc: bytes | None = None
    srgb: bool = False
    gamma: float | None = None
    points: Points | None = None
    cicp: tuple[int, int] | None = None
    exif: bytes | None = None
    dpi: tuple[float, float] | None = None
    text: dict[str, str] = field(default_factory=dict[str, str])
    signed: bool = False
    """Whether there is a signature (C2PA)."""


def _open(stream: IO[bytes]) -> OpenedPicture:
    found = _Chunks()
    for name, content in _chunks(stream):
        _take(found, name, content)
    width, height, bits, colours = found.header
    if not width or not height:
        raise SyntaxError("no header")
    xmp = found.text.pop(_XMP, None)
    raw = iptc.raw_data(found.text, "exif") or iptc.raw_data(found.text, "APP1")
    records = iptc.of_texts(found.text)
    head = Head(
        width,
        height,
        exif=read_block(found.exif or raw),
        frames=found.frames,
        mode=_MODES.get(colours, "") + (";16" if bits == 16 else ""),
        icc=found.icc,
        calibration=_calibration(found),
        cicp=None if found.icc else found.cicp,
        xmp=xmp,
        dpi=plausible_dpi({"dpi": found.dpi}),
        iptc=records,
        text={key: each for key, each in found.text.items() if not _is_left(key)},
        left=(CREDENTIALS,) if found.signed else (),
    )
    decode = partial(_words, stream, (width, height)) if bits == 16 else partial(_bytes, stream)
    return OpenedPicture("png", head, decode, _by_bands(found))


def _by_bands(found: _Chunks) -> ByBands | None:
    """Of a picture whose rows are stored in their order, and as they are: of no palette."""
    width, height, bits, colours = found.header
    channels = CHANNELS.get(colours)
    if channels is None or bits < 8 or found.laced or found.clear or found.frames > 1:
        return None
    return ByBands(channels, bits, partial(read_rows, width, height, bits, colours))


_LEFT = ("Thumb::", "exif:", "png:", "jpeg:", "tiff:", "icc:", "date:")
"""Beginnings of keywords under which other programs write down what the file was."""


def _is_left(keyword: str) -> bool:
    return iptc.is_raw(keyword) or keyword.startswith(_LEFT)


def _calibration(found: _Chunks) -> Calibration | None:
    if found.icc or found.cicp or found.srgb:
        return None
    gamma = (found.gamma,) * 3 if found.gamma else None
    made = Calibration(gamma=gamma, points=found.points)
    return None if made.is_srgb else made


def _chunks(stream: IO[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Name and content of each chunk up to the end; of the pixels, which are left, no content."""
    stream.seek(len(SIGNATURE))
    while len(head := stream.read(8)) == 8:
        length, name = struct.unpack(">L4s", head)
        if name == b"IDAT":
            stream.seek(length + 4, 1)
            yield name, b""
            continue
        content = stream.read(length)
        check_sum(name, zlib.crc32(name + content), stream.read(4))
        yield name, content
        if name == b"IEND":
            return


def _take(found: _Chunks, name: bytes, content: bytes) -> None:
    if name == b"IHDR":
        found.header = struct.unpack_from(">LLBB", content)
        found.laced = content[12:13] != b"\0"
    elif name == b"tRNS":
        found.clear = True
    elif name in _TEXTS:
        _take_texts(found, _text(name, content))
    elif name == b"iCCP":
        found.icc = _profile(content)
    elif name == b"cICP" and len(content) == 4 and (content[0], content[1]) != _SRGB:
        found.cicp = content[0], content[1]
    elif name in (b"sRGB", b"gAMA", b"cHRM"):
        _take_colours(found, name, content)
    elif name == b"caBX":
        found.signed = True
    elif name == b"eXIf":
        found.exif = b"Exif\0\0" + content
    elif name == b"pHYs" and len(content) == 9:
        across, down, metres = struct.unpack(">LLB", content)
        found.dpi = (across * 0.0254, down * 0.0254) if metres == 1 else None
    else:
        _count(found, name, content)


def _take_texts(found: _Chunks, texts: dict[str, str]) -> None:
    """Of a person's texts, those under one keyword stay together."""
    several = {} if _XMP in texts else generators.personal(texts)
    for key, each in texts.items():
        before = found.text.get(key, "")
        if before and key in several and not _is_left(key):
            each = before if each in before.split("\n") else f"{before}\n{each}"
        found.text[key] = each


def _take_colours(found: _Chunks, name: bytes, content: bytes) -> None:
    whole = content[: len(content) // 4 * 4]
    numbers = [each / 100_000 for (each,) in struct.iter_unpack(">L", whole)]
    if name == b"sRGB":
        found.srgb = True
    elif name == b"gAMA" and numbers and 0.05 < numbers[0] < 20:
        found.gamma = numbers[0]
    elif name == b"cHRM" and len(numbers) == 8 and min(numbers[1::2]) > 0:
        found.points = tuple(zip(numbers[::2], numbers[1::2], strict=True))


def _count(found: _Chunks, name: bytes, content: bytes) -> None:
    """Pictures of an animation, and the one outside of it where there is one."""
    if name == b"acTL" and len(content) == 8:
        found.frames = struct.unpack_from(">L", content)[0] or 1
    elif name == b"fcTL":
        found.still = False
    elif name == b"IDAT" and found.still and found.frames > 1:
        found.frames, found.still = found.frames + 1, False


def _text(name: bytes, content: bytes) -> dict[str, str]:
    """Keyword and text of a chunk; nothing where it does not keep to its form."""
    key, _, rest = content.partition(b"\0")
    keyword = key.decode("latin-1")
    if name == b"tEXt":
        return {keyword: rest.decode("latin-1")}
    if name == b"zTXt":
        return {keyword: _unpacked(rest[1:], _MOST_TEXT).decode("latin-1")}
    packed, body = rest[:1], rest[2:].split(b"\0", 2)[-1]
    data = _unpacked(body, _MOST_TEXT) if packed == b"\1" else body
    return {keyword: data.decode("utf-8", "replace")}


def _profile(content: bytes) -> bytes | None:
    try:
        return _unpacked(content.partition(b"\0")[2][1:], _MOST_PROFILE) or None
    except UnreadableError:
        return None


def _unpacked(data: bytes, most: int) -> bytes:
    """Inflated, as far as it goes; refused beyond a size."""
    unpacking = zlib.decompressobj()
    try:
        result = unpacking.decompress(data, most)
    except zlib.error:
        return b""
    if unpacking.unconsumed_tail:
        raise UnreadableError(
            "holds text chunks that unpack to more than a picture needs; "
            "save it again without metadata"
        )
    return result


def _bare(stream: IO[bytes]) -> bytes:
    """The file with the chunks of its pixels alone, whose checksums Pillow does not look at.

    Raises:
        OSError: one is damaged, or cut short.
    """
    stream.seek(0)
    kept = [each for each in _whole_chunks(stream.read()) if each[0] in _PIXELS]
    for name, chunk in kept:
        end = 8 + int.from_bytes(chunk[:4], "big")
        check_sum(name, zlib.crc32(chunk[4:end]), chunk[end:])
    return SIGNATURE + b"".join(chunk for _, chunk in kept)


def _bytes(stream: IO[bytes]) -> Raster:
    with PngImageFile(BytesIO(_bare(stream))) as image:
        return raster_of(image)


def _words(stream: IO[bytes], size: tuple[int, int]) -> Raster:
    # Imported here because few pictures need it.
    import imagecodecs

    return raster_of_words(np.asarray(imagecodecs.png_decode(_bare(stream))), size, 16)


def _write(picture: Picture, way: Way) -> bytes:
    stream = BytesIO()
    _write_bands(picture, way, stream)
    return stream.getvalue()


def _write_bands(picture: Picture, way: Way, stream: IO[bytes]) -> None:
    bits = 16 if picture.deep else 8
    channels = (1 if picture.grey else 3) + (picture.alpha is not None)
    others = _others(_example(_options(picture, way)))
    head = png_rows.header(picture.width, picture.height, channels, bits)
    stream.write(b"".join([SIGNATURE, head, *others]))
    png_rows.write_rows(stream, number_bands(picture, bits), way.compression)


def _example(options: Mapping[str, Any]) -> bytes:
    """A picture of one pixel, with the other chunks that a result shall have."""
    stream = BytesIO()
    Image.new("L", (1, 1)).save(stream, "PNG", **options)
    return stream.getvalue()


def _others(png: bytes) -> list[bytes]:
    """What a file holds besides its pixels: profile, EXIF, texts."""
    return [chunk for name, chunk in _whole_chunks(png) if name not in (b"IHDR", b"IDAT", b"IEND")]


def _options(picture: Picture, way: Way) -> dict[str, Any]:
    """What Pillow is told."""
    chunks, apart = PngInfo(), stands_apart(picture)
    for name, text in texts_to_write(picture, way.said).items():
        chunks.add_text(name, text)
    if picture.iptc is not None:
        chunks.add_text(*iptc.raw_text("iptc", picture.iptc), zip=True)
    if way.said is not None:
        chunks.add_text("tileup", way.said.settings)
        if not apart:
            chunks.add_text("parameters", way.said.parameters)
    packet = merged(picture, None if way.said is None else ours(way.said, apart, bare=True))
    if packet is not None:
        chunks.add_itxt(_XMP, packet)
    if picture.cicp is not None:
        # RGB as it is (matrix 0), all of the range.
        chunks.add(b"cICP", bytes([*picture.cicp, 0, 1]))
    return {
        "pnginfo": chunks,
        "icc_profile": picture.icc,
        "exif": stamped(picture.exif, picture.width, picture.height, growth=picture.growth),
        "compress_level": way.compression,
        **given(dpi=picture.dpi),
    }


def _whole_chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and whole bytes of each chunk."""
    at = len(SIGNATURE)
    while at + 12 <= len(png):
        (length,) = struct.unpack_from(">L", png, at)
        yield png[at + 4 : at + 8], png[at : at + 12 + length]
        at += 12 + length


FORMAT = Format(
    "png",
    ("PNG",),
    ((0, SIGNATURE),),
    _open,
    _write,
    _write_bands,
    bits=16,
    holds=frozenset({"alpha", "icc", "cicp", "exif", "xmp", "iptc", "text"}),
)
