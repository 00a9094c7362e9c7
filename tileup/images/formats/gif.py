"""GIF, which is only read: its pictures have 256 colours at most."""

from __future__ import annotations

from io import BytesIO
from typing import IO

from PIL.GifImagePlugin import GifImageFile

from tileup.images import xmp
from tileup.images.formats.format import Format, OpenedPicture
from tileup.images.formats.pillow import opened_by_pillow


def _open(stream: IO[bytes]) -> OpenedPicture:
    data = stream.read()
    packet = xmp.packet_of({"xmp": _packet(data)}) or None
    return opened_by_pillow("gif", GifImageFile(BytesIO(data)), xmp=packet)


_XMP, _TRAILER = b"!\xff\x0bXMP DataXMP", b"\x01\xff\xfe"
"""What a packet stands between: it is not cut into blocks, and the end leads readers out of it."""


def _packet(data: bytes) -> bytes:
    """XMP, which Pillow does not read; empty where there is none."""
    _, _, found = data.partition(_XMP)
    packet, trailer, _ = found.partition(_TRAILER)
    return packet if trailer else b""


FORMAT = Format(
    "gif",
    ("GIF",),
    ((0, b"GIF8"),),
    _open,
)
