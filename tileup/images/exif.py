"""EXIF: what is taken over from an input, and what an output says."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from PIL import Image

from tileup import __version__

TEXTS = {0x010E: ("Description", "Title"), 0x013B: ("Author",), 0x8298: ("Copyright",)}
"""Tags of the main directory that hold texts, and their keywords in PNG."""

BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    LookupError,
    EOFError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RuntimeError,  # of libavif
    struct.error,
    zlib.error,
)
"""What Pillow raises when a file does not keep to its format."""

SOFTWARE = f"tileup {__version__}"

_ORIENTATION, _SOFTWARE, _EXIF_IFD, _GPS_IFD = 0x0112, 0x0131, 0x8769, 0x8825
_USER_COMMENT, _WIDTH, _HEIGHT, _INTEROP = 0x9286, 0xA002, 0xA003, 0xA005
_SUBJECT = (0x9214, 0xA214)
"""Where the subject is, in pixels of the picture as it was stored."""
_FOCAL_ACROSS, _FOCAL_DOWN = 0xA20E, 0xA20F
"""Pixels of the picture to a unit of the sensor."""
_BYTE, _UNDEFINED = 1, 7
_DESCRIPTION = 0x010E
_PREFIX = b"Exif\0\0"
_DESCRIPTIVE = frozenset(
    {
        0x010D,  # DocumentName
        _DESCRIPTION,
        0x010F,  # Make
        0x0110,  # Model
        0x011D,  # PageName
        _ORIENTATION,
        0x011A,  # XResolution
        0x011B,  # YResolution
        0x0128,  # ResolutionUnit
        _SOFTWARE,
        0x0132,  # DateTime
        0x013B,  # Artist
        0x013C,  # HostComputer
        0x4746,  # Rating
        0x8298,  # Copyright
        _EXIF_IFD,
        _GPS_IFD,
        *range(0x9C9B, 0x9CA0),  # title, comment, author, keywords, subject of Windows
    }
)
"""Tags of the main directory that are about the picture and not about how a file stores it."""


@dataclass(frozen=True, slots=True)
class Exif:
    """What an input's EXIF says."""

    orientation: int = 1
    """1 to 8, as EXIF numbers them; 1 is upright."""
    block: bytes | None = None
    """What the output takes over: orientation 1, no thumbnail, no generation parameters."""
    parameters: str | None = None
    """A1111 text that stood in the user comment."""

    def turned(self, orientation: int) -> Exif:
        """The same where a file says elsewhere how its pixels lie."""
        return replace(self, orientation=orientation)


def read_exif(image: Image.Image) -> Exif:
    """EXIF of a decoded image; broken EXIF counts as none."""
    try:
        return _read(image.getexif())
    except BROKEN:
        return Exif()


def read_block(block: bytes | None) -> Exif:
    """EXIF of its bytes; broken EXIF counts as none."""
    if block is None:
        return Exif()
    try:
        exif = Image.Exif()
        exif.load(block)
        return _read(exif)
    except BROKEN:
        return Exif()


def _read(exif: Image.Exif) -> Exif:
    orientation = exif.get(_ORIENTATION, 1)
    parameters = a1111_text(exif.get_ifd(_EXIF_IFD).get(_USER_COMMENT))
    orientation = orientation if orientation in range(1, 9) else 1
    dropped = {_USER_COMMENT} if parameters is not None else set[int]()
    if orientation != 1:
        dropped |= {*_SUBJECT}
    return Exif(orientation, _block(exif, dropped), parameters)


def _block(exif: Image.Exif, dropped: set[int]) -> bytes | None:
    kept = Image.Exif()
    kept.endian = exif.endian
    for tag in _DESCRIPTIVE & exif.keys():
        kept[tag] = exif[tag] if tag not in (_EXIF_IFD, _GPS_IFD) else dict(exif.get_ifd(tag))
    if _ORIENTATION in kept:
        kept[_ORIENTATION] = 1
    if is_layout(kept.get(_DESCRIPTION)):
        del kept[_DESCRIPTION]
    _keep_bytes(kept)
    if _EXIF_IFD in kept:
        kept[_EXIF_IFD] = _detail(exif, dropped)
    return kept.tobytes() if kept.keys() - {_ORIENTATION} else None


def is_layout(description: object) -> bool:
    """Whether a description tells programs how pixels are stored: OME-XML, ImageJ's or tifffile's.

    They would read a larger picture by it, and wrongly.
    """
    text = description.decode("latin-1") if isinstance(description, bytes) else description
    return isinstance(text, str) and _LAYOUT.match(text.lstrip()) is not None


_LAYOUT = re.compile(r'(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?<OME\b|ImageJ=|{"shape":', re.DOTALL)


def _detail(exif: Image.Exif, dropped: set[int]) -> dict[int, Any]:
    """The Exif directory, with the one inside of it, without some tags."""
    found = {tag: each for tag, each in exif.get_ifd(_EXIF_IFD).items() if tag not in dropped}
    if _INTEROP in found:
        found[_INTEROP] = dict(exif.get_ifd(_INTEROP))
    return found


def has_comment(block: bytes | None) -> bool:
    """Whether the user comment holds words."""
    comment: object = loaded(block).get_ifd(_EXIF_IFD).get(_USER_COMMENT)
    if isinstance(comment, str):
        return bool(comment.strip(" \0"))
    return isinstance(comment, bytes) and bool(comment[8:].strip(b" \0"))


def a1111_text(comment: object) -> str | None:
    """Generation parameters in a user comment; None where it holds something else."""
    if not isinstance(comment, bytes) or len(comment) <= 8:
        return None
    head, body = comment[:8], comment[8:]
    # The standard leaves the byte order of UNICODE open: A1111 writes big endian, others little.
    encodings = ("utf-16-be", "utf-16-le") if head == b"UNICODE\0" else ("utf-8",)
    texts = (body.decode(encoding, "replace") for encoding in encodings)
    return next((text.rstrip("\0") for text in texts if "Steps: " in text), None)


def stamped(
    block: bytes | None,
    width: int,
    height: int,
    comment: str | None = None,
    *,
    growth: tuple[float, float] = (1.0, 1.0),
    texts: Mapping[int, str] = MappingProxyType({}),
) -> bytes | None:
    """EXIF of an output.

    Args:
        block: what `read_exif` kept of the input.
        width, height: size of the output, pixels.
        comment: text for the user comment; None leaves it as it is.
        growth: by how much the picture has grown, across and down.
        texts: of tags of the main directory, for those that say nothing yet.

    Returns:
        EXIF that starts with `Exif` and two zeros; None when there is nothing to say.
    """
    if block is None and comment is None and not texts:
        return None
    exif = loaded(block)
    detail = _grown(_detail(exif, set()), *growth) | {_WIDTH: width, _HEIGHT: height}
    if comment is not None:
        detail[_USER_COMMENT] = b"UNICODE\0" + comment.encode("utf-16-be")
    for tag, text in texts.items():
        exif[tag] = exif.get(tag) or text.encode()
    exif[_SOFTWARE] = SOFTWARE
    exif[_EXIF_IFD] = detail
    return _with_undefined(exif.tobytes())


def _grown(detail: dict[int, Any], across: float, down: float) -> dict[int, Any]:
    """Measures in pixels, brought to the new size."""
    factors = (across, down, across, down)
    for tag in _SUBJECT:
        if isinstance(place := detail.get(tag), tuple):
            pairs = zip(place, factors, strict=False)
            detail[tag] = tuple(round(each * factor) for each, factor in pairs)
    for tag, factor in ((_FOCAL_ACROSS, across), (_FOCAL_DOWN, down)):
        if tag in detail:
            detail[tag] = float(detail[tag]) * factor
    return detail


def loaded(block: bytes | None) -> Image.Exif:
    """A block as Pillow's object, for changing and writing."""
    exif = Image.Exif()
    exif.load(block or b"")
    _keep_bytes(exif)
    return exif


def _keep_bytes(exif: Image.Exif) -> None:
    """Pillow reads text as Latin-1 and writes ASCII: as bytes, names keep their accents."""
    for tag, value in list(exif.items()):
        if isinstance(value, str):
            exif[tag] = value.encode("latin-1", "replace")


def _with_undefined(block: bytes) -> bytes:
    """A block whose Exif directory calls its byte strings UNDEFINED, as the standard does.

    Pillow writes BYTE, which A1111 does not take for a user comment.
    """
    order = ">" if block[6:8] == b"MM" else "<"
    result = bytearray(block)
    (first,) = struct.unpack_from(f"{order}L", block, 10)
    for entry in _entries(block, order, first):
        tag, _, _, directory = struct.unpack_from(f"{order}HHLL", block, entry)
        if tag == _EXIF_IFD:
            for at in _entries(block, order, directory):
                if struct.unpack_from(f"{order}H", block, at + 2) == (_BYTE,):
                    struct.pack_into(f"{order}H", result, at + 2, _UNDEFINED)
    return bytes(result)


def _entries(block: bytes, order: str, directory: int) -> range:
    """Where the entries of a directory start in a block."""
    first = len(_PREFIX) + directory
    (count,) = struct.unpack_from(f"{order}H", block, first)
    return range(first + 2, first + 2 + 12 * count, 12)
