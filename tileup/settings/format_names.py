"""The names of picture formats: what people write, and what files end in.

What reads and writes each of them is a module of `tileup/images/formats/`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FormatName:
    """What a format and its files are called."""

    name: str
    """Also the extension of outputs that get one: jp2."""
    title: str
    """In words: JPEG 2000. In lower case and without blanks it is the name of its module."""
    extensions: tuple[str, ...] = ()
    """By which an output asks for it, lower case, without dot; none: it is only read."""
    also: tuple[str, ...] = ()
    """Further extensions of files that are read."""
    lossy: bool = False
    """Whether it loses what `quality` lets it lose."""
    lossless: bool = True
    """Whether it can keep every pixel."""


FORMAT_NAMES = (
    FormatName("png", "PNG", ("png",), ("apng",)),
    FormatName(
        "jpg",
        "JPEG",
        ("jpg", "jpeg", "jpe", "jfif"),
        ("jif", "jfi", "pjpeg", "pjp", "mpo"),
        lossy=True,
        lossless=False,
    ),
    FormatName("webp", "WebP", ("webp",), lossy=True),
    FormatName("tif", "TIFF", ("tif", "tiff")),
    FormatName("avif", "AVIF", ("avif",), lossy=True),
    FormatName("bmp", "BMP", ("bmp",), ("dib",)),
    FormatName("gif", "GIF", (), ("gif",)),
    FormatName("jp2", "JPEG 2000", ("jp2",), ("j2k", "jpc", "jpf", "jpx")),
    FormatName("jxl", "JPEG XL", ("jxl",), lossy=True),
    FormatName("heic", "HEIC", (), ("heic", "heif", "hif")),
    FormatName("ppm", "PPM", (), ("ppm", "pgm", "pbm", "pnm")),
    FormatName("tga", "TGA", (), ("tga",)),  # last: its files have no real signature
)
"""All of them, in the order in which they are told and named."""
FORMATS = {extension: each.name for each in FORMAT_NAMES for extension in each.extensions}
"""Formats that are written, by each extension that stands for them."""
LOSSY = [each.title for each in FORMAT_NAMES if each.lossy]
"""Formats that heed `quality`, in words."""
EITHER = [each.title for each in FORMAT_NAMES if each.lossy and each.lossless]
"""Formats that lose something unless they are asked not to, in words."""
