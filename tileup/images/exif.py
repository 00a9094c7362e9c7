"""EXIF: what is taken over from an input, and what an output says."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from PIL import Image

from tileup import __version__

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
_USER_COMMENT, _WIDTH, _HEIGHT = 0x9286, 0xA002, 0xA003
_BYTE, _UNDEFINED = 1, 7
_PREFIX = b"Exif\0\0"
_DESCRIPTIVE = frozenset(
    {
        0x010E,  # ImageDescription
        0x010F,  # Make
        0x0110,  # Model
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
    return Exif(
        orientation if orientation in range(1, 9) else 1,
        _block(exif, drop_comment=parameters is not None),
        parameters,
    )


def _block(exif: Image.Exif, drop_comment: bool) -> bytes | None:
    kept = Image.Exif()
    kept.endian = exif.endian
    for tag in _DESCRIPTIVE & exif.keys():
        kept[tag] = dict(exif.get_ifd(tag)) if tag in (_EXIF_IFD, _GPS_IFD) else exif[tag]
    if _ORIENTATION in kept:
        kept[_ORIENTATION] = 1
    _keep_bytes(kept)
    if drop_comment:
        del kept[_EXIF_IFD][_USER_COMMENT]
    return kept.tobytes() if kept.keys() - {_ORIENTATION} else None


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
    block: bytes | None, width: int, height: int, parameters: str | None = None
) -> bytes | None:
    """EXIF of an output.

    Args:
        block: what `read_exif` kept of the input.
        width, height: size of the output, pixels.
        parameters: A1111 text for the user comment.

    Returns:
        EXIF that starts with `Exif` and two zeros; None when there is nothing to say.
    """
    if block is None and parameters is None:
        return None
    exif = loaded(block)
    detail = dict(exif.get_ifd(_EXIF_IFD)) | {_WIDTH: width, _HEIGHT: height}
    if parameters is not None:
        detail[_USER_COMMENT] = b"UNICODE\0" + parameters.encode("utf-16-be")
    exif[_SOFTWARE] = SOFTWARE
    exif[_EXIF_IFD] = detail
    return _with_undefined(exif.tobytes())


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
