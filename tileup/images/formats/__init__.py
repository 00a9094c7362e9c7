"""The picture formats that tileup knows, a file for each."""

from __future__ import annotations

from tileup.images.formats.avif import AVIF
from tileup.images.formats.bmp import BMP
from tileup.images.formats.format import Format
from tileup.images.formats.gif import GIF
from tileup.images.formats.heic import HEIC
from tileup.images.formats.jpeg import JPEG
from tileup.images.formats.jpeg2000 import JPEG2000
from tileup.images.formats.jpegxl import JPEGXL
from tileup.images.formats.png import PNG
from tileup.images.formats.ppm import PNM
from tileup.images.formats.tga import TGA
from tileup.images.formats.tiff import TIFF
from tileup.images.formats.webp import WEBP

FORMATS = (PNG, JPEG, WEBP, TIFF, AVIF, BMP, GIF, JPEG2000, JPEGXL, HEIC, PNM, TGA)
"""All of them, in the order in which they are told and named."""
BY_NAME = {each.name: each for each in FORMATS}
WRITTEN = {name: each for each in FORMATS if each.write for name in each.extensions}
"""Formats that are written, by each extension that asks for them."""
SUFFIXES = frozenset(f".{name}" for each in FORMATS for name in (*each.extensions, *each.also))
"""Endings of files that are taken for pictures, lower case."""


def in_words(names: list[str]) -> str:
    """`a, b and c`."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)


READ_IN_WORDS = in_words([each.title for each in FORMATS])
"""What is read."""
WRITTEN_IN_WORDS = in_words([each.name for each in FORMATS if each.write])
"""What is written."""


def format_of(name: str) -> Format:
    """The format of this name."""
    return BY_NAME[name]
