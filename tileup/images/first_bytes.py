"""What a file is, by its first bytes and not by its name."""

from __future__ import annotations

from pathlib import Path
from typing import IO

from tileup.errors import InputError
from tileup.images.formats.known import FORMATS, READ_IN_WORDS

_OTHERS = (
    (0, b"8BPS", "Photoshop (PSD)"),
    (0, b"\x76\x2f\x31\x01", "OpenEXR"),
    (0, b"#?RADIANCE", "Radiance HDR"),
    (0, b"DDS ", "DDS"),
    (0, b"qoif", "QOI"),
    (0, b"\0\0\1\0", "Windows icon (ICO)"),
    (0, b"P7\n", "PAM"),
    (0, b"Pf", "PFM"),
    (0, b"PF", "PFM"),
    (4, b"ftypcrx ", "camera raw (CR3)"),
    (0, b"FUJIFILMCCD-RAW", "camera raw (RAF)"),
    (0, b"IIU\0", "camera raw (RW2)"),
    (0, b"IIRO", "camera raw (ORF)"),
    (0, b"IIRS", "camera raw (ORF)"),
    (0, b"MMOR", "camera raw (ORF)"),
    (0, b"FOVb", "camera raw (X3F)"),
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
    if head[8:10] == b"CR" and head[:4] in (b"II*\0", b"MM\0*"):
        raise InputError(_unsupported(where, "camera raw (CR2)"))
    for format in FORMATS:
        if any(head[start:].startswith(each) for start, each in format.signatures):
            return format.name
    for start, signature, name in _OTHERS:
        if head[start:].startswith(signature):
            raise InputError(_unsupported(where, name))
    raise InputError(f"{where} is not a picture; tileup reads {READ_IN_WORDS}")


def recognised_name(path: Path) -> str | None:
    """Format of a file by its first bytes; None where there is none that is read."""
    try:
        if not path.is_file():  # a pipe would wait
            return None
        with path.open("rb") as stream:
            return recognised(stream, str(path))
    except (InputError, OSError, ValueError):
        return None


def _unsupported(where: str, name: str) -> str:
    return (
        f"{where} is a {name} file, which is not supported yet; "
        f"convert it to PNG, JPEG, WebP or TIFF"
    )
