"""Tags of a TIFF that was just written: where they stand, and other numbers put in their place."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

_SHORT, _LONG, _LONG8 = 3, 4, 16
"""Types of whole numbers, of two, four and eight bytes."""


class TagPlace(NamedTuple):
    """Where a tag of the first directory stands in a file, bytes."""

    kind: int
    """Where its type is told."""
    value: int
    """Where its value stands, or where that is to be found."""
    room: int
    """Bytes of a value that stands here."""


def tag_places(data: bytearray) -> Iterator[tuple[int, TagPlace]]:
    """The tags of the first directory, in classic files and in BigTIFF.

    Raises:
        ValueError: the file is not little endian, as all are that we write.
    """
    if not data.startswith(b"II"):
        raise ValueError("TIFF was expected to be little endian")
    big = data[2] == 43
    count_form, first_form, step, room = ("<Q", "<Q", 20, 8) if big else ("<H", "<L", 12, 4)
    (first,) = struct.unpack_from(first_form, data, 8 if big else 4)
    (count,) = struct.unpack_from(count_form, data, first)
    for number in range(count):
        at = first + struct.calcsize(count_form) + number * step
        (tag,) = struct.unpack_from("<H", data, at)
        yield tag, TagPlace(at + 2, at + step - room, room)


def value_at(data: bytearray, entry: TagPlace) -> int:
    """A whole number, or where numbers that do not fit in here are to be found."""
    return int.from_bytes(data[entry.value : entry.value + entry.room], "little")


def put_value(data: bytearray, entry: TagPlace, value: int) -> None:
    """Write a whole number, of a larger type where it needs one."""
    (kind,) = struct.unpack_from("<H", data, entry.kind)
    if kind == _SHORT and value >= 2**16:
        kind = _LONG
    if kind == _LONG and value >= 2**32:
        kind = _LONG8
    struct.pack_into("<H", data, entry.kind, kind)
    data[entry.value : entry.value + entry.room] = value.to_bytes(entry.room, "little")
