"""What a file is, by its first bytes and not by its name."""

from __future__ import annotations

from typing import IO

from tileup.errors import InputError

READ = frozenset({"png", "jpg", "webp", "tif", "avif", "bmp", "gif", "jp2"})
"""Formats that are read."""
KNOWN = "PNG, JPEG, WebP, TIFF, AVIF, BMP, GIF and JPEG 2000"
"""What is read, in words."""
SIGNATURES = (
    (0, b"\x89PNG\r\n\x1a\n", "png"),
    (0, b"\xff\xd8\xff", "jpg"),
    (8, b"WEBP", "webp"),
    (0, b"II*\0", "tif"),
    (0, b"MM\0*", "tif"),
    (0, b"II+\0", "tif"),
    (0, b"MM\0+", "tif"),
    (0, b"GIF8", "gif"),
    (0, b"BM", "bmp"),
    (4, b"ftypavi", "avif"),
    (4, b"ftyphei", "HEIC"),
    (4, b"ftyphev", "HEIC"),
    (4, b"ftypmif1", "HEIF"),
    (4, b"jP  ", "jp2"),
    (0, b"\xff\x4f\xff\x51", "jp2"),
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
"""Where a format's signature stands, the signature, and the format; where it is not in
`READ`, it is not supported."""


def recognised(stream: IO[bytes], where: str) -> str:
    """Format of a file by its first bytes: a member of `READ`.

    Raises:
        InputError: it is empty, no picture, or of a format that is not read; says which.
    """
    head = stream.read(16)
    stream.seek(0)
    if not head:
        raise InputError(f"{where} is empty (0 bytes); copy or export it again")
    for start, signature, name in SIGNATURES:
        if head[start:].startswith(signature):
            if name in READ:
                return name
            raise InputError(
                f"{where} is a {name} file, which is not supported yet; "
                f"convert it to PNG, JPEG, WebP or TIFF"
            )
    raise InputError(f"{where} is not a picture; tileup reads {KNOWN}")
