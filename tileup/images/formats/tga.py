"""TGA, which is only read."""

from __future__ import annotations

from typing import IO

from PIL.TgaImagePlugin import TgaImageFile

from tileup.images.formats.format import Format, OpenedPicture
from tileup.images.formats.pillow import opened_by_pillow


def _open(stream: IO[bytes]) -> OpenedPicture:
    return opened_by_pillow("tga", TgaImageFile(stream))


_KINDS = (2, 3, 10, 11)
"""Colours and greys, plain and packed."""
_WITH_PALETTE = (b"\1\1\0\0", b"\1\x09\0\0")

FORMAT = Format(
    "tga",
    ("TGA",),
    # There is no signature: a kind of picture, and that there is no palette, or one from 0 on.
    (*((1, bytes([0, kind, 0, 0, 0, 0, 0])) for kind in _KINDS), *((1, a) for a in _WITH_PALETTE)),
    _open,
)
