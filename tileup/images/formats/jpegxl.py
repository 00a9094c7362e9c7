"""JPEG XL: decoded and encoded by libjxl, in imagecodecs; its boxes are read here.

imagecodecs tells nothing of a file but its pixels, and takes no profile; pylibjxl gives one, and
what is written gets its own in `jpegxl_profile`. imagecodecs calls what has 16 bits linear light,
which is put right here. The boxes are those of ISO/IEC 18181-2.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from tileup.images.boxes import box, boxes
from tileup.images.calibration import as_light, as_srgb
from tileup.images.colour import from_light, in_light, is_profile_of, without_profile
from tileup.images.exif import read_block
from tileup.images.extras import exif_choices, xmp_choices
from tileup.images.formats.format import (
    CREDENTIALS,
    Format,
    Head,
    OpenedPicture,
    Raster,
    UnreadableError,
    Way,
)
from tileup.images.formats.pillow import raster_of_words
from tileup.images.jpegxl_header import (
    LINEAR,
    SRGB,
    JxlHeader,
    calibration_of,
    numbers_of,
    read_header,
)
from tileup.images.jpegxl_profile import in_floats, plain_profile, with_profile
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


def _open(stream: IO[bytes]) -> OpenedPicture:
    data = stream.read()
    parts = _parts(data)
    header = read_header(parts.head)
    if header.floats or header.bits > 16:
        raise UnreadableError("has channels of more than 16 bits; convert it to 16 bits first")
    if header.profile and not header.lossy and plain_profile(_stream(data)) is None:
        _check_profiles_are_read()
    exif = read_block(None if parts.exif is None else _EXIF_PREFIX + parts.exif)
    head = Head(
        header.width,
        header.height,
        exif=exif.turned(header.orientation),
        frames=2 if header.animated else 1,
        mode=("L" if header.grey else "RGB") + ("A" if header.alpha else ""),
        lossless=not header.lossy and not parts.jpeg,
        calibration=calibration_of(header),
        cicp=numbers_of(header),
        xmp=None if parts.xmp is None else parts.xmp.decode("utf-8", "replace"),
        left=(CREDENTIALS,) if parts.signed else (),
    )
    return OpenedPicture("jxl", head, partial(_decode, data, header))


def _check_profiles_are_read() -> None:
    try:
        import pylibjxl  # pyright: ignore[reportUnusedImport]  # noqa: F401
    except ModuleNotFoundError as error:
        raise UnreadableError(
            "has a colour profile, which needs pylibjxl in a JPEG XL: pip install 'tileup[jxl]'"
        ) from error


@dataclass(frozen=True, slots=True)
class _JxlBoxes:
    head: bytes
    """Beginning of the code stream."""
    exif: bytes | None = None
    """From the byte order on."""
    xmp: bytes | None = None
    signed: bool = False
    """Whether there is a signature (C2PA)."""
    jpeg: bytes | None = None
    """What a JPEG is restored by that was packed again."""


_HEAD = 4096
"""Bytes in which the header of a code stream ends."""


def _parts(data: bytes) -> _JxlBoxes:
    if data.startswith(_CODESTREAM):
        return _JxlBoxes(data[:_HEAD])
    found: dict[bytes, bytes] = {}
    for kind, content in boxes(data):
        if kind == b"brob":
            kind, content = content[:4], _unpacked(content[4:])
        found.setdefault(kind, content)
    signed = b"c2pa" in found.get(b"jumb", b"")
    exif = found.get(b"Exif")
    if exif is not None:
        exif = exif[4 + struct.unpack_from(">L", exif)[0] :]
    return _JxlBoxes(_stream(data, _HEAD), exif, found.get(b"xml "), signed, found.get(b"jbrd"))


def _stream(data: bytes, most: int | None = None) -> bytes:
    """A code stream out of its boxes, of which there may be several; so many bytes of it."""
    if data.startswith(_CODESTREAM):
        return data[:most]
    starts, found = {b"jxlc": 0, b"jxlp": 4}, bytearray()
    for kind, content in boxes(data):
        if kind in starts:
            found += content[starts[kind] :][:most]
        if most is not None and len(found) >= most:
            break
    return bytes(found[:most])


def _unpacked(data: bytes) -> bytes:
    import imagecodecs

    return bytes(imagecodecs.brotli_decode(data, out=2**24))


def _decode(data: bytes, header: JxlHeader) -> Raster:
    if header.profile and header.lossy:
        return _of_light(data, header)
    raster = _pixels(data, header)
    return replace(raster, icc=_profile(data)) if header.profile else raster


def _of_light(data: bytes, header: JxlHeader) -> Raster:
    """A picture with loss and a profile: libjxl gives it as light, in the primaries of sRGB.

    Where the profile can be read, it is converted back to that; its colours stay.
    """
    stream = _stream(data)
    values = _pixels(in_floats(stream) if header.end else stream, header).values
    colours = values[..., : 1 if header.grey else 3]
    icc = _profile_if_read(data)
    found = None if icc is None else from_light(colours, icc)
    if found is None:
        icc, found = None, as_srgb(np.clip(colours, 0, 1))
    colours[...] = np.clip(found, 0, 1)
    told = "it was converted to sRGB; colours of its profile that lie outside are cut"
    return Raster(values, header.deep, icc, None if icc else (None, told))


def _profile_if_read(data: bytes) -> bytes | None:
    try:
        return _profile(data)
    except ModuleNotFoundError:
        return None


def _changed(stream: bytes, change: Callable[[int], int]) -> bytes:
    """A code stream with other bits behind its signature, which are given as a whole number."""
    head = change(int.from_bytes(stream[2:_HEAD], "little"))
    return stream[:2] + head.to_bytes(len(stream[2:_HEAD]), "little") + stream[_HEAD:]


def _profile(data: bytes) -> bytes:
    profile = plain_profile(_stream(data))
    if profile is None:
        import pylibjxl

        profile = pylibjxl.decode(data, metadata=True)[1]["icc"]
    if profile[16:20] not in (b"RGB ", b"GRAY"):
        raise UnreadableError(f"is a {profile[16:20].decode()} picture; convert it to RGB first")
    return profile


def _pixels(data: bytes, header: JxlHeader) -> Raster:
    # Imported here because few pictures need it.
    import imagecodecs

    values = np.asarray(
        imagecodecs.jpegxl_decode(data, index=0, keeporientation=True, numthreads=_THREADS)
    )
    if header.animated:
        values = values.reshape(-1, header.height, header.width, values.shape[-1])[0]
    if values.dtype == np.float32:
        return Raster(values.reshape(*values.shape[:2], -1))
    if values.dtype == np.uint8:
        return Raster(unit(values.reshape(*values.shape[:2], -1), 2**header.bits - 1))
    return raster_of_words(values, (header.width, header.height), header.bits)


def _write(picture: Picture, way: Way) -> bytes:
    distance = None if way.lossless or way.quality == 100 else distance_of(way.quality)
    stream = None if picture.icc is None else _with_profile(picture, picture.icc, distance)
    if stream is None:
        if picture.icc is not None:
            picture, lost = without_profile(picture)
            way.tell(lost.replace("a colour", "this colour", 1))
        stream = _encoded(picture, distance)
    exif, packet = next(exif_choices(picture, way.said)), next(xmp_choices(picture, way.said))
    level = [_LEVEL_10] if picture.deep or picture.alpha is not None else []
    extra = [] if exif is None else [box(b"Exif", bytes(4) + exif.removeprefix(_EXIF_PREFIX))]
    extra += [] if packet is None else [box(b"xml ", packet)]
    return b"".join([_BOXED, _FTYP, *level, *extra, struct.pack(">L4s", 0, b"jxlc"), stream])


def _with_profile(picture: Picture, icc: bytes, distance: float | None) -> bytes | None:
    """A code stream that holds the profile; None where it is none for this picture."""
    picture = replace(picture, grey=picture.grey and icc[16:20] == b"GRAY")
    if not is_profile_of(icc, grey=picture.grey):
        return None
    values = to_whole(picture) if distance is None else in_light(picture)
    return with_profile(_stream_of(values, distance), icc, 16 if picture.deep else 8)


def _encoded(picture: Picture, distance: float | None) -> bytes:
    """A code stream in sRGB; without a distance it loses nothing."""
    if picture.deep and distance is not None:
        # The encoder takes it for light, and stores it as such, whatever it is called later.
        picture = replace(picture, pixels=as_light(picture.whole).astype(np.float32))
    return _in_srgb(_stream_of(to_whole(picture), distance))


def _stream_of(values: NDArray[Any], distance: float | None) -> bytes:
    # Imported here because few pictures need it.
    import imagecodecs

    made = imagecodecs.jpegxl_encode(
        np.ascontiguousarray(values),
        lossless=distance is None or None,
        distance=distance,
        usecontainer=False,
        numthreads=_THREADS,
    )
    return _stream(bytes(made))


def _in_srgb(stream: bytes) -> bytes:
    """A code stream whose transfer is that of sRGB, where it was linear."""
    header = read_header(stream[:_HEAD])
    if header.transfer != LINEAR:
        return stream
    other = ((LINEAR - 2) ^ (SRGB - 2)) << header.transfer_at
    return _changed(stream, lambda head: head ^ other)


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
    holds=frozenset({"alpha", "icc", "exif", "xmp"}),
)
