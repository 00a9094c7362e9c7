"""Boxes: the lengths and names of which AVIF and JPEG 2000 files are made."""

from __future__ import annotations

import struct
from collections.abc import Iterator

_HEAD = 8
"""Bytes of a length and a name."""


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and content of each box; stops without a word where the data do not keep to the form.

    Args:
        data: boxes one after the other: a file, or the content of a box that holds others.
    """
    at = 0
    while at + _HEAD <= len(data):
        length, kind = struct.unpack_from(">L4s", data, at)
        head = _HEAD
        if length == 1 and at + 16 <= len(data):  # a length of 64 bits follows the name
            (length,) = struct.unpack_from(">Q", data, at + _HEAD)
            head = 16
        elif length == 0:  # up to the end
            length = len(data) - at
        if length < head or at + length > len(data):
            return
        yield kind, data[at + head : at + length]
        at += length


def box(kind: bytes, content: bytes) -> bytes:
    """A box of this name."""
    return struct.pack(">L4s", _HEAD + len(content), kind) + content


def inside(data: bytes, *path: bytes) -> bytes:
    """Content of the first box that a path of names leads to; empty where there is none.

    `meta` boxes have four bytes of version and flags before the boxes in them, which are left out.
    """
    for name in path:
        data = next((content for kind, content in boxes(data) if kind == name), b"")
        if name == b"meta":
            data = data[4:]
    return data
