"""GIF, which is only read: its pictures have 256 colours at most."""

from __future__ import annotations

from typing import IO

from PIL.GifImagePlugin import GifImageFile

from tileup.images.formats.format import Format, OpenedPicture
from tileup.images.formats.pillow import opened_by_pillow


def _open(stream: IO[bytes]) -> OpenedPicture:
    return opened_by_pillow("gif", GifImageFile(stream))


FORMAT = Format(
    "gif",
    ("GIF",),
    ((0, b"GIF8"),),
    _open,
)
