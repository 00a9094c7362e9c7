"""JPEG XL: decoded and encoded by libjxl, in imagecodecs; its header and its boxes are read here.

imagecodecs tells nothing of a file but its pixels, and takes no profile: pictures are written in
sRGB. It calls what has 16 bits linear light, which is put right here. The header is that of
ISO/IEC 18181-1 (annexes A and D), the boxes are those of 18181-2.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from functools import partial
from typing import IO

import numpy as np

from tileup.images.boxes import box, boxes
from tileup.images.calibration import PRIMARIES, Calibration, as_light
from tileup.images.exif import read_block
from tileup.images.extras import exif_choices, xmp_choices
from tileup.images.formats.format import Format, Head, Opened, Raster, UnreadableError, Way
from tileup.images.formats.pillow import raster_of_words
from tileup.images.picture import Picture
from tileup.images.pixels import unit
from tileup.images.planes import to_whole

_CODESTREAM = b"\xff\x0a"
_BOXED = b"\0\0\0\x0cJXL \r\n\x87\n"
_FTYP = box(b"ftyp", b"jxl \0\0\0\0jxl ")
_LEVEL_10 = box(b"jxll", b"\x0a")
"""Says that decoders need more than the least: that of 16 bits does."""
_EXIF_PREFIX = b"Exif\0\0"
_THREADS = 2
_GREY, _CUSTOM = 1, 2
_P3, _BT2100 = 11, 9
_LINEAR, _SRGB = 8, 13
"""Transfers by number."""


class _Bits:
    """Numbers of a stream of bits, the lowest of each byte first."""

    def __init__(self, data: bytes) -> None:
        self._data = int.from_bytes(data, "little")
        self._left = self._all = 8 * len(data)

    @property
    def at(self) -> int:
        """How many bits were taken."""
        return self._all - self._left

    def take(self, count: int) -> int:
        """An unsigned number of so many bits."""
        if count > self._left:
            raise EOFError("the header is cut short")
        value = self._data & ((1 << count) - 1)
        self._data >>= count
        self._left -= count
        return value

    def flag(self) -> bool:
        return self.take(1) == 1

    def choice(self, *ways: tuple[int, int]) -> int:
        """A number in one of four ways, each so many bits and what is added to them."""
        count, plus = ways[self.take(2)]
        return self.take(count) + plus

    def enum(self) -> int:
        return self.choice((0, 0), (0, 1), (4, 2), (6, 18))


@dataclass(slots=True)
class _Header:
    """What a code stream says of its picture."""

    width: int
    height: int
    orientation: int = 1
    bits: int = 8
    floats: bool = False
    grey: bool = False
    alpha: bool = False
    lossy: bool = True
    profile: bool = False
    """Whether its colours are those of a profile."""
    primaries: int = 1
    transfer: int = _SRGB
    gamma: float | None = None
    """In place of a transfer."""
    transfer_at: int = 0
    """Bit behind the signature at which four bits begin that say the transfer, less 2."""
    animated: bool = False


_SIDE = ((9, 1), (13, 1), (18, 1), (30, 1))
_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}


def _read_size(bits: _Bits) -> tuple[int, int]:
    """Width and height."""
    small = bits.flag()
    height = 8 * (bits.take(5) + 1) if small else bits.choice(*_SIDE)
    ratio = bits.take(3)
    if ratio:
        across, down = _RATIOS[ratio]
        return height * across // down, height
    return (8 * (bits.take(5) + 1) if small else bits.choice(*_SIDE)), height


def _read_header(data: bytes) -> _Header:
    bits = _Bits(data[2:])
    header = _Header(*_read_size(bits))
    if bits.flag():  # nothing but the usual
        return header
    if bits.flag():
        _read_turn(bits, header)
    header.floats, header.bits = _read_depth(bits)
    bits.flag()
    for _ in range(bits.choice((0, 0), (0, 1), (4, 2), (12, 1))):
        header.alpha |= _read_extra(bits)
    header.lossy = bits.flag()
    _read_colours(bits, header)
    return header


def _read_turn(bits: _Bits, header: _Header) -> None:
    header.orientation = bits.take(3) + 1
    if bits.flag():
        _read_size(bits)
    if bits.flag():
        raise UnreadableError("has a preview in it, which is not supported yet; convert it to PNG")
    header.animated = bits.flag()
    if header.animated:
        bits.choice((0, 100), (0, 1000), (10, 1), (30, 1))
        bits.choice((0, 1), (0, 1001), (8, 1), (10, 1))
        bits.choice((0, 0), (3, 0), (16, 0), (32, 0))
        bits.flag()


def _read_depth(bits: _Bits) -> tuple[bool, int]:
    """Whether samples are floats, and their bits."""
    if not bits.flag():
        return False, bits.choice((0, 8), (0, 10), (0, 12), (6, 1))
    found = bits.choice((0, 32), (0, 16), (0, 24), (6, 1))
    bits.take(4)
    return True, found


def _read_extra(bits: _Bits) -> bool:
    """Whether an extra channel is alpha."""
    if bits.flag():
        return True
    kind = bits.enum()
    _read_depth(bits)
    bits.choice((0, 0), (0, 3), (0, 4), (3, 1))
    for _ in range(bits.choice((0, 0), (4, 0), (5, 16), (10, 48))):
        bits.take(8)
    if kind == 0:
        bits.flag()
    elif kind == 2:  # a spot colour
        bits.take(64)
    elif kind == 5:
        bits.choice((0, 1), (2, 0), (4, 3), (8, 19))
    return kind == 0


def _read_colours(bits: _Bits, header: _Header) -> None:
    if bits.flag():
        return
    header.profile = bits.flag()
    space = bits.enum()
    header.grey = space == _GREY
    if header.profile or space > _GREY:
        return
    white = bits.enum()
    if white == _CUSTOM:
        _skip_points(bits, 1)
    primaries = 1 if header.grey else bits.enum()
    if primaries == _CUSTOM:
        _skip_points(bits, 3)
    header.primaries = {_P3: 12, _BT2100: 9}.get(primaries, primaries)
    if bits.flag():
        header.gamma = bits.take(24) / 1e7
        return
    header.transfer_at = bits.at + 2
    header.transfer = bits.enum()


def _calibration(header: _Header) -> Calibration | None:
    """Tones that are no numbers of sRGB's own curve, such as linear light."""
    gamma = 1.0 if header.transfer == _LINEAR else header.gamma
    if gamma is None or not 0.05 < gamma <= 1:
        return None
    made = Calibration((gamma,) * 3, points=PRIMARIES.get(header.primaries))
    return None if made.is_srgb else made


def _numbers(header: _Header) -> tuple[int, int] | None:
    """Primaries and transfer, where they are given and not those of sRGB."""
    found = header.primaries, header.transfer
    usual = found == (1, _SRGB) or 2 in found
    return None if usual or header.gamma or header.transfer == _LINEAR else found


def _skip_points(bits: _Bits, count: int) -> None:
    for _ in range(2 * count):
        bits.choice((19, 0), (19, 524288), (20, 1048576), (21, 2097152))


def _open(stream: IO[bytes]) -> Opened:
    data = stream.read()
    parts = _parts(data)
    header = _read_header(parts.head)
    if header.floats or header.bits > 16:
        raise UnreadableError("has channels of more than 16 bits; convert it to 16 bits first")
    if header.profile and not header.lossy:
        raise UnreadableError(
            "has a colour profile, which is not read from a JPEG XL without loss; "
            "djxl IN.jxl OUT.png, of libjxl, makes a PNG that has it"
        )
    exif = read_block(None if parts.exif is None else _EXIF_PREFIX + parts.exif)
    head = Head(
        header.width,
        header.height,
        exif=exif.turned(header.orientation),
        frames=2 if header.animated else 1,
        mode=("L" if header.grey else "RGB") + ("A" if header.alpha else ""),
        lossless=not header.lossy and not parts.jpeg,
        calibration=_calibration(header),
        cicp=_numbers(header),
        xmp=None if parts.xmp is None else parts.xmp.decode("utf-8", "replace"),
    )
    return Opened("jxl", head, partial(_decode, data, header))


@dataclass(frozen=True, slots=True)
class _Parts:
    head: bytes
    """Beginning of the code stream."""
    exif: bytes | None = None
    """From the byte order on."""
    xmp: bytes | None = None
    jpeg: bytes | None = None
    """What a JPEG is restored by that was packed again."""


_HEAD = 4096
"""Bytes in which the header of a code stream ends."""


def _parts(data: bytes) -> _Parts:
    if data.startswith(_CODESTREAM):
        return _Parts(data[:_HEAD])
    found: dict[bytes, bytes] = {}
    for kind, content in boxes(data):
        if kind == b"brob":
            kind, content = content[:4], _unpacked(content[4:])
        if kind == b"jxlp":
            kind, content = b"jxlc", content[4:]
        found.setdefault(kind, content)
    exif = found.get(b"Exif")
    if exif is not None:
        exif = exif[4 + struct.unpack_from(">L", exif)[0] :]
    return _Parts(found.get(b"jxlc", b"")[:_HEAD], exif, found.get(b"xml "), found.get(b"jbrd"))


def _unpacked(data: bytes) -> bytes:
    import imagecodecs

    return bytes(imagecodecs.brotli_decode(data, out=2**24))


def _decode(data: bytes, header: _Header) -> Raster:
    # Imported here because few pictures need it.
    import imagecodecs

    values = np.asarray(
        imagecodecs.jpegxl_decode(data, index=0, keeporientation=True, numthreads=_THREADS)
    )
    if header.animated:
        values = values.reshape(-1, header.height, header.width, values.shape[-1])[0]
    if values.dtype == np.uint8:
        return Raster(unit(values.reshape(*values.shape[:2], -1), 2**header.bits - 1))
    return raster_of_words(values, (header.width, header.height), header.bits)


def _write(picture: Picture, way: Way) -> bytes:
    # Imported here because few pictures need it.
    import imagecodecs

    lossless = way.lossless or way.quality == 100
    if picture.deep and not lossless:
        # The encoder takes it for light, and stores it as such, whatever it is called later.
        picture = replace(picture, pixels=as_light(picture.whole).astype(np.float32))
    values = np.ascontiguousarray(to_whole(picture))
    made = bytes(
        imagecodecs.jpegxl_encode(
            values,
            lossless=lossless or None,
            distance=None if lossless else distance_of(way.quality),
            usecontainer=False,
            numthreads=_THREADS,
        )
    )
    if not made.startswith(_CODESTREAM):
        made = b"".join(content for kind, content in boxes(made) if kind == b"jxlc")
    stream = _in_srgb(made)
    exif, packet = next(exif_choices(picture, way.said)), next(xmp_choices(picture, way.said))
    level = [_LEVEL_10] if picture.deep else []
    extra = [] if exif is None else [box(b"Exif", bytes(4) + exif.removeprefix(_EXIF_PREFIX))]
    extra += [] if packet is None else [box(b"xml ", packet)]
    return b"".join([_BOXED, _FTYP, *level, *extra, struct.pack(">L4s", 0, b"jxlc"), stream])


def _in_srgb(stream: bytes) -> bytes:
    """A code stream whose transfer is that of sRGB, where it was linear."""
    header = _read_header(stream[:_HEAD])
    if header.transfer != _LINEAR:
        return stream
    head = int.from_bytes(stream[2:_HEAD], "little")
    head ^= ((_LINEAR - 2) ^ (_SRGB - 2)) << header.transfer_at
    return stream[:2] + head.to_bytes(len(stream[2:_HEAD]), "little") + stream[_HEAD:]


def distance_of(quality: int) -> float:
    """libjxl's distance for a quality as JPEG has it: its own rule for 30 to 99."""
    if quality >= 30:
        return 0.1 + (100 - quality) * 0.09
    return 53 / 3000 * quality**2 - 23 / 20 * quality + 25


FORMAT = Format(
    "jxl",
    ("JXL",),
    ((0, _CODESTREAM), (0, _BOXED)),
    _open,
    _write,
    bits=16,
    holds=frozenset({"alpha", "exif", "xmp"}),
)
