"""The rows of a PNG, packed and unpacked some at a time."""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

# Half of zlib's time, both ways, for files of the same size.
from zlib_ng import zlib_ng

try:  # unpacks in three quarters of the time; packs otherwise, to other bytes
    from isal.isal_zlib import decompressobj, error
except ImportError:
    from zlib_ng.zlib_ng import decompressobj, error

from tileup.images.ahead import ahead
from tileup.images.formats.format import Reopen
from tileup.images.pixels import BAND, Numbers, bands

SIGNATURE = b"\x89PNG\r\n\x1a\n"

Bytes = NDArray[np.uint8]

_DAMAGED = cast("type[Exception]", error)
"""Types take the class for one of its errors."""
_MOST_STORED = 2**16 - 1
"""Bytes of a block that is not compressed."""
_CHUNK = 2**20
"""Bytes of compressed pixels in a chunk."""
_PIECE = 2**18
"""Bytes that are packed at once."""
_WAITING = 8
"""Bands that are unpacked before they are asked for: where three threads share two cores, none has
to wait for the next one's turn."""
CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}
"""By type of colours: grey, RGB, grey with alpha, RGB with alpha."""
_COLOURS = {channels: colours for colours, channels in CHANNELS.items()}
"""Type of colours by the number of channels."""


def header(width: int, height: int, channels: int, bits: int) -> bytes:
    """The chunk of a picture's size and kind."""
    content = struct.pack(">LLBBBBB", width, height, bits, _COLOURS[channels], 0, 0, 0)
    return chunk(b"IHDR", content)


def chunk(name: bytes, content: bytes) -> bytes:
    """A chunk as it stands in a file."""
    check = zlib_ng.crc32(content, zlib_ng.crc32(name))
    return struct.pack(">L", len(content)) + name + content + struct.pack(">L", check)


def check_sum(name: bytes, found: int, stored: bytes) -> None:
    """Compare the checksum of a chunk with the one that ends it.

    Raises:
        OSError: they differ, or the file ends before it.
    """
    if len(stored) < 4:
        raise OSError("image file is truncated")
    if stored != struct.pack(">L", found):
        raise OSError(f"chunk {name!r} is damaged")


def write_rows(stream: IO[bytes], bands: Iterable[Numbers], level: int) -> None:
    """Write the chunks of the pixels and the last one.

    Args:
        stream: where they go.
        bands: rows of the picture from the top down, shape (rows, W, 1 to 4).
        level: 0 to 9, from fast to small; 1 is the same as 2.
    """
    # Its level 1 is another way to pack, which gives half as many bytes again.
    level = 2 if level == 1 else level
    packing = zlib_ng.compressobj(level, zlib.DEFLATED, zlib.MAX_WBITS, 9, zlib.Z_FILTERED)
    # In pieces of one size, as where one ends shows in what some levels make of it.
    packed = (packing.compress(piece) for piece in _pieces(_filtered_bands(bands), _PIECE))
    whole = itertools.chain(packed, (packing.flush() for _ in range(1)))
    for content in _pieces(whole, _CHUNK):
        stream.write(chunk(b"IDAT", content))
    stream.write(chunk(b"IEND", b""))


def _filtered_bands(bands: Iterable[Numbers]) -> Iterator[bytes]:
    above = None
    for band in bands:
        step = band.shape[2] * band.dtype.itemsize
        rows = _as_bytes(band)
        above = np.zeros_like(rows[0]) if above is None else above
        yield filtered(rows, above, step).tobytes()
        above = rows[-1]


def _pieces(parts: Iterable[bytes], size: int) -> Iterator[bytes]:
    """The same bytes in pieces of a size; the last may be smaller."""
    waiting = bytearray()
    for part in parts:
        waiting += part
        done = len(waiting) // size * size
        yield from (bytes(waiting[start : start + size]) for start in range(0, done, size))
        del waiting[:done]
    if waiting:
        yield bytes(waiting)


def _as_bytes(band: Numbers) -> Bytes:
    """Rows as they stand in a file, the higher byte of a number first: shape (rows, n)."""
    ordered = np.ascontiguousarray(band, ">u2" if band.dtype.itemsize == 2 else np.uint8)
    return ordered.view(np.uint8).reshape(len(band), -1)


def filtered(rows: Bytes, above: Bytes, step: int) -> Bytes:
    """Rows, each as its differences from what a filter foretells, by the filter that suits best.

    Which that is goes by the sum of the differences, as the format's authors recommend.

    Args:
        rows: shape (rows, n).
        above: the row before the first one, shape (n,).
        step: bytes of a pixel.

    Returns:
        Shape (rows, 1 + n): the number of the filter, and the differences.
    """
    up = np.concatenate([above[None], rows[:-1]])
    left, corner = _shifted(rows, step), _shifted(up, step)
    mean = (left & up) + ((left ^ up) >> 1)
    foretold = (None, left, up, mean, _paeth(left, up, corner))
    result = np.empty((len(rows), 1 + rows.shape[1]), np.uint8)
    least = np.full(len(rows), np.iinfo(np.uint32).max, np.uint32)  # no row is that long
    for number, each in enumerate(foretold):
        differences = rows if each is None else rows - each
        cost = np.abs(differences.view(np.int8)).view(np.uint8).sum(axis=1, dtype=np.uint32)
        better = np.flatnonzero(cost < least)
        least[better] = cost[better]
        result[better, 0] = number
        result[better, 1:] = differences[better]
    return result


def _shifted(rows: Bytes, step: int) -> Bytes:
    """What stands a pixel to the left."""
    result = np.zeros_like(rows)
    result[:, step:] = rows[:, :-step]
    return result


def _paeth(left: Bytes, up: Bytes, corner: Bytes) -> Bytes:
    """Of the three neighbours the one nearest to `left + up - corner`.

    In bytes throughout, a third of the time of wider numbers: how far it is from the corner is the
    sum of the distances from the two others where both lie on the same side of the corner, and so
    never less than one of them; else their difference.
    """
    to_left, to_up = _apart(up, corner), _apart(left, corner)
    same_side = (up >= corner) == (left >= corner)
    to_corner = _apart(to_left, to_up) | _mask(same_side)  # 255 is not less either
    near = corner ^ ((corner ^ up) & _mask(to_up <= to_corner))
    return near ^ ((near ^ left) & _mask((to_left <= to_up) & (to_left <= to_corner)))


def _apart(one: Bytes, other: Bytes) -> Bytes:
    """The distance of numbers."""
    return np.maximum(one, other) - np.minimum(one, other)


def _mask(true: NDArray[np.bool_]) -> Bytes:
    """All bits where it is true, none elsewhere."""
    return -true.view(np.uint8)


def read_rows(
    width: int, height: int, bits: int, colours: int, reopen: Reopen
) -> Iterator[Numbers]:
    """Rows of a picture from the top down.

    Args:
        width, height, bits, colours: what its header says; no palette, no passes.
        reopen: opens its file.

    Raises:
        ValueError, OSError, EOFError, zlib.error: the file is broken or cut short.
    """
    # Imported here because few pictures need it.
    import imagecodecs

    length = 1 + width * CHANNELS[colours] * bits // 8
    kind = bits, colours, 0, 0, 0
    above = b""
    with reopen() as stream:
        unpacked = ahead(_unpacked(stream, length * max(1, BAND // width)), _WAITING)
        for part in bands(height, width):
            rows = part.stop - part.start
            packed = _cut(next(unpacked, []), rows * length)
            if sum(map(len, packed)) < rows * length or (part.stop == height and any(unpacked)):
                raise EOFError("its pixels end too early")
            head = struct.pack(">LLBBBBB", width, rows + bool(above), *kind)
            band = np.asarray(imagecodecs.png_decode(_small(head, above, packed)))
            band = band.reshape(*band.shape[:2], -1)[bool(above) :]
            above = b"\0" + _as_bytes(band[-1:]).tobytes()
            yield band


def _cut(parts: Sequence[bytes], size: int) -> list[memoryview]:
    """The first bytes of what lies in several parts."""
    found: list[memoryview] = []
    for part in parts:
        found.append(memoryview(part)[:size])
        size -= len(found[-1])
    return found


def _small(head: bytes, above: bytes, packed: Sequence[memoryview]) -> bytearray:
    """A picture of some rows and the one above them, whose bytes are in it as they are.

    Each is copied once; zlib's own level 0 and whole chunks would do so five times.
    """
    parts = [part for part in (memoryview(above), *packed) if part]
    blocks, check = [b"\x78\x01"], 1
    for number, part in enumerate(parts, 1):
        check = zlib_ng.adler32(part, check)
        for start in range(0, len(part), _MOST_STORED):
            block = part[start : start + _MOST_STORED]
            last = number == len(parts) and start + len(block) == len(part)
            blocks += [struct.pack("<?HH", last, len(block), _MOST_STORED - len(block)), block]
    blocks.append(struct.pack(">L", check))
    length = struct.pack(">L", sum(map(len, blocks)))
    made = bytearray().join([SIGNATURE, chunk(b"IHDR", head), length, b"IDAT", *blocks])
    checked = len(SIGNATURE) + 12 + len(head) + 4
    made += struct.pack(">L", zlib_ng.crc32(memoryview(made)[checked:]))
    made += chunk(b"IEND", b"")
    return made


def _unpacked(stream: IO[bytes], size: int) -> Iterator[list[bytes]]:
    """What is packed in the chunks of the pixels, in pieces of a size; the last may be smaller.

    A piece is in several parts, as it was unpacked: nothing is copied.

    Raises:
        EOFError: the file ends before they do.
        OSError, zlib.error: they are damaged.
    """
    unpacking, parts, missing = decompressobj(), list[bytes](), size
    for content in itertools.chain(_pixels(stream), [b""]):
        left, full = content, True
        while (left or full) and not unpacking.eof:  # what follows is no part of them
            try:
                part = unpacking.decompress(left, missing)
            except _DAMAGED as error:
                raise zlib.error(*error.args) from error
            left, missing = unpacking.unconsumed_tail, missing - len(part)
            parts += [part] if part else []
            full = not missing
            if full:
                yield parts
                parts, missing = [], size
    yield parts
    if not unpacking.eof:
        raise EOFError("its pixels end too early")


def _pixels(stream: IO[bytes]) -> Iterator[bytes]:
    """The content of the chunks of pixels, in pieces.

    Raises:
        OSError: one is damaged, or cut short.
    """
    stream.seek(len(SIGNATURE))
    while len(head := stream.read(8)) == 8:
        length, name = struct.unpack(">L4s", head)
        if name != b"IDAT":
            stream.seek(length + 4, 1)
            continue
        check = zlib_ng.crc32(name)
        while length and (content := stream.read(min(length, _CHUNK))):
            length -= len(content)
            check = zlib_ng.crc32(content, check)
            yield content
        check_sum(name, check, stream.read(4))
