"""What a file is, by its first bytes and not by its name."""

from __future__ import annotations

from typing import IO

from tileup.errors import InputError
from tileup.images.formats import FORMATS, READ_IN_WORDS

_OTHERS = (
    (4, b"ftyphei", "HEIC"),
    (4, b"ftyphev", "HEIC"),
    (4, b"ftypmif1", "HEIF"),
    (0, b"\xff\x0a", "JPEG XL"),
    (4, b"JXL ", "JPEG XL"),
    (0, b"8BPS", "Photoshop (PSD)"),
    (0, b"\x76\x2f\x31\x01", "OpenEXR"),
    (0, b"#?RADIANCE", "Radiance HDR"),
    (0, b"DDS ", "DDS"),
    (0, b"qoif", "QOI"),
    (0, b"\0\0\1\0", "icon (ICO)"),
    (0, b"P5", "PGM"),
    (0, b"P6", "PPM"),
    (0, b"%PDF", "PDF"),
    (0, b"<svg", "SVG"),
)
"""Formats that are not read: where their signature stands, the signature, and what they are."""


def recognised(stream: IO[bytes], where: str) -> str:
    """Format of a file by its first bytes: the name of one of `FORMATS`.

    Raises:
        InputError: it is empty, no picture, or of a format that is not read; says which.
    """
    head = stream.read(16)
    stream.seek(0)
    if not head:
        raise InputError(f"{where} is empty (0 bytes); copy or export it again")
    for format in FORMATS:
        if any(head[start:].startswith(each) for start, each in format.signatures):
            return format.name
    for start, signature, name in _OTHERS:
        if head[start:].startswith(signature):
            raise InputError(
                f"{where} is a {name} file, which is not supported yet; "
                f"convert it to PNG, JPEG, WebP or TIFF"
            )
    raise InputError(f"{where} is not a picture; tileup reads {READ_IN_WORDS}")
