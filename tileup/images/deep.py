"""More than eight bits per channel: what Pillow reads as eight, or cannot write at all."""

from __future__ import annotations

import struct
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.AvifImagePlugin import AvifImageFile
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from tileup.images.formats import avif
from tileup.images.formats import jpeg2000 as jp2

_WIDTH, _BITS, _PHOTOMETRIC, _FORMAT, _EXTRA = 256, 258, 262, 339, 338
_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


def is_deep(image: Image.Image) -> bool:
    """Whether a picture has more than 8 bits in each channel, which can be read; by its header."""
    if isinstance(image, AvifImageFile):
        return bits_of(image) > 8
    if isinstance(image, Jpeg2KImageFile):
        header = jp2.read_header(file_of(image))
        return 8 < header.bits <= 16 and header.plain
    if image.mode.startswith("I;16"):
        return True
    if isinstance(image, PngImageFile):
        # A key colour is rare and has no place in an array of words.
        return any(";16" in str(tile) for tile in image.tile) and "transparency" not in image.info
    if isinstance(image, TiffImageFile):
        return _tags(image, _BITS) == {16} and _tags(image, _FORMAT) in (set[int](), {1})
    return False


def bits_of(image: Image.Image) -> int:
    """Bits per channel in the file: Pillow reduces many kinds to 8 without a word."""
    if isinstance(image, TiffImageFile):
        return max(_tags(image, _BITS) or {1})
    if isinstance(image, AvifImageFile):
        return avif.read_header(file_of(image)).bits
    if isinstance(image, Jpeg2KImageFile):
        return jp2.read_header(file_of(image)).bits or 16
    return max((16 for tile in getattr(image, "tile", ()) if ";16" in str(tile)), default=8)


def file_of(image: Image.Image) -> bytes:
    """The whole file that an image is read from; empty where that is closed already."""
    stream = getattr(image, "fp", None)
    if stream is None or stream.closed:
        return b""
    before = stream.tell()
    stream.seek(0)
    data: bytes = stream.read()
    stream.seek(before)
    return data


def _tags(image: TiffImageFile, tag: int) -> set[int]:
    value: Any = image.tag_v2.get(tag, ())
    return set(value) if isinstance(value, tuple) else {int(value)}


def read_deep(image: Image.Image) -> NDArray[np.float32] | None:
    """Channels of a deep picture in [0, 1], shape (H, W, 1 to 4), grey or RGB and then alpha.

    Returns:
        None where its channels are laid out in a way that is not known here.
    """
    words, bits = _decoded(image)
    if words.dtype != np.uint16 or words.shape[:2] != (image.height, image.width):
        return None
    words = words.reshape(*words.shape[:2], -1)
    if words.shape[2] not in _MODES:
        return None
    if isinstance(image, TiffImageFile):
        words = _of_tiff(words, image)
    return None if words is None else words.astype(np.float32) / np.float32(2**bits - 1)


def _decoded(image: Image.Image) -> tuple[NDArray[Any], int]:
    """Channels as they are stored, and their bits."""
    # Imported here because few pictures need it.
    import imagecodecs

    data = file_of(image)
    try:
        if data and isinstance(image, PngImageFile):
            return np.asarray(imagecodecs.png_decode(data)), 16
        if data and isinstance(image, TiffImageFile):
            return np.asarray(imagecodecs.tiff_decode(data)), 16
        if data and isinstance(image, AvifImageFile):
            return avif.read_words(data), bits_of(image)
        if data and isinstance(image, Jpeg2KImageFile):
            return jp2.read_words(data), bits_of(image)
    except RuntimeError as error:  # what the errors of its codecs have in common
        raise OSError(str(error)) from error
    return np.asarray(image).astype(np.uint16), 16


def _of_tiff(words: NDArray[np.uint16], image: TiffImageFile) -> NDArray[np.uint16] | None:
    photometric = _tags(image, _PHOTOMETRIC)
    if photometric not in ({0}, {1}, {2}) or (photometric == {2}) != (words.shape[2] > 2):
        return None
    if photometric == {0}:  # white is zero
        inverted = np.subtract(65535, words[..., :1], dtype=np.uint16)
        words = np.concatenate([inverted, words[..., 1:]], axis=2)
    if _tags(image, _EXTRA) == {1} and words.shape[2] in (2, 4):  # multiplied by alpha
        alpha = np.maximum(words[..., -1:], 1).astype(np.float64)
        colours = np.clip(np.rint(words[..., :-1] / alpha * 65535), 0, 65535)
        words = np.concatenate([colours.astype(np.uint16), words[..., -1:]], axis=2)
    return words


def turned(words: NDArray[np.float32], orientation: int) -> NDArray[np.float32]:
    """An array made upright, from the orientation that EXIF gives it."""
    return _TURNS[orientation](words)


_TURNS: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: np.rot90,
}


def png_of_words(words: NDArray[np.uint16], example: bytes) -> bytes:
    """A PNG of 16 bits.

    Args:
        words: shape (H, W) or (H, W, 2 to 4).
        example: a PNG with the other chunks that the result shall have: profile, EXIF, texts.
    """
    import imagecodecs

    made = bytes(imagecodecs.png_encode(np.ascontiguousarray(words), level=6))
    # The signature and the first chunk, which is the header; then what is not pixels.
    head = made[:33]
    pixels = [chunk for name, chunk in _chunks(made) if name in (b"IDAT", b"IEND")]
    others = [
        (name, chunk) for name, chunk in _chunks(example) if name not in (b"IHDR", b"IDAT", b"IEND")
    ]
    before = [chunk for _, chunk in others]
    return b"".join([head, *before, *pixels])


def png_cicp(png: bytes) -> tuple[int, int] | None:
    """Primaries and transfer by number, where a file gives them and they are not those of sRGB."""
    for name, chunk in _chunks(png):
        if name == b"IDAT":
            break
        if name == b"cICP" and len(chunk) == 16 and (chunk[8], chunk[9]) != avif.SRGB:
            return chunk[8], chunk[9]
    return None


def _chunks(png: bytes) -> list[tuple[bytes, bytes]]:
    """Name and whole bytes of each chunk."""
    found: list[tuple[bytes, bytes]] = []
    at = 8
    while at + 12 <= len(png):
        (length,) = struct.unpack_from(">L", png, at)
        found.append((png[at + 4 : at + 8], png[at : at + 12 + length]))
        at += 12 + length
    return found


def tiff_of_words(words: NDArray[np.uint16], save: Callable[[Image.Image, BytesIO], None]) -> bytes:
    """A TIFF of 16 bits, uncompressed.

    Args:
        words: shape (H, W) or (H, W, 2 to 4).
        save: writes a Pillow image as uncompressed TIFF, with all tags it shall have.

    Pillow writes the bytes of the words as a picture of bytes that is twice as wide. Then its
    width and its bits per channel are corrected in place: nothing else depends on them.
    """
    planes = words.reshape(*words.shape[:2], -1)
    if planes.shape[2] == 2:  # which few programs read, Pillow among those that do not
        planes = planes[..., [0, 0, 0, 1]]
    height, width, channels = planes.shape
    split = np.ascontiguousarray(planes, "<u2").view(np.uint8).reshape(height, width * 2, channels)
    stream = BytesIO()
    save(Image.fromarray(split[..., 0] if channels == 1 else split, _MODES[channels]), stream)
    data = bytearray(stream.getvalue())
    if not data.startswith(b"II"):
        raise ValueError("TIFF was expected to be little endian")
    _correct(data, width, channels)
    return bytes(data)


def _correct(data: bytearray, width: int, channels: int) -> None:
    big = data[2] == 43
    count_form, first_form, step, inline = ("<Q", "<Q", 20, 8) if big else ("<H", "<L", 12, 4)
    (first,) = struct.unpack_from(first_form, data, 8 if big else 4)
    (count,) = struct.unpack_from(count_form, data, first)
    for entry in range(count):
        at = first + struct.calcsize(count_form) + entry * step
        tag, kind = struct.unpack_from("<HH", data, at)
        value = at + step - inline
        if tag == _WIDTH:
            struct.pack_into("<H" if kind == 3 else "<L", data, value, width)
        elif tag == _BITS:
            where = value
            if 2 * channels > inline:
                (where,) = struct.unpack_from(first_form, data, value)
            struct.pack_into(f"<{channels}H", data, where, *[16] * channels)
