"""TIFF, of eight and of sixteen bits."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from io import BytesIO
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from tileup.images import iptc
from tileup.images.calibration import SRGB_POINTS, Calibration, as_light
from tileup.images.exif import loaded, stamped
from tileup.images.extras import given, merged, placement
from tileup.images.formats.format import Format, Opened, Raster, UnreadableError, Way
from tileup.images.formats.pillow import head_of, raster_of, raster_of_words, too_deep
from tileup.images.picture import Picture
from tileup.images.planes import to_image, to_words

_WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _FORMAT, _EXTRA = 256, 257, 258, 262, 339, 338
_XMP, _ORIENTATION, _IPTC, _PHOTOSHOP, _PROFILE = 700, 274, 33723, 34377, 34675
_KIND, _BELOW, _MAKE, _DNG_VERSION = 254, 330, 271, 50706
_OF_SENSORS = (32803, 34892)
"""Photometric interpretations: a filter array, and linear values of a sensor."""
_TRANSFER, _WHITE, _PRIMARIES = 301, 318, 319
_NEAR = 0.02
"""So far a table of tones may lie from that of sRGB."""
_D65, _SRGB = SRGB_POINTS[0], tuple(each for point in SRGB_POINTS[1:] for each in point)
_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
_CLASSIC = 2**32 - 2**24
"""Bytes of pixels up to which a file is written with 32-bit offsets."""


def _open(stream: IO[bytes]) -> Opened:
    image = TiffImageFile(stream)
    _refuse_raw(image)
    head = head_of(
        image,
        # Pillow gives the size as it is seen, and would turn the pixels itself.
        width=image.tag_v2[_WIDTH],
        height=image.tag_v2[_HEIGHT],
        calibration=None if _PROFILE in image.tag_v2 else _calibration(image),
        iptc=_iptc(image),
    )
    deep = _tags(image, _BITS) == {16} and _tags(image, _FORMAT) in (set[int](), {1})
    decode = partial(_words, image, stream) if deep else partial(_bytes, image)
    return Opened("tif", head, decode)


def _refuse_raw(image: TiffImageFile) -> None:
    """Refuse what is no more than the preview of a picture that is not read.

    Camera raw files are TIFFs whose first directory holds a thumbnail, a reduced picture whose
    whole stands in directories below it, or the values of the sensor.
    """
    tags = image.tag_v2
    reduced = bool(_number(tags.get(_KIND)) & 1)
    sensor = _number(tags.get(_PHOTOMETRIC)) in _OF_SENSORS
    if _DNG_VERSION in tags or sensor or (reduced and _BELOW in tags):
        name = "DNG" if _DNG_VERSION in tags else str(tags.get(_MAKE, "")).strip("\0 ")
        raise UnreadableError(
            f"is a camera raw file{f' ({name})' if name else ''}, of which only the preview could "
            f"be read; develop it to TIFF or PNG first"
        )
    if reduced:
        raise UnreadableError(
            "begins with a reduced copy of its picture; save it again without the preview"
        )


def _number(value: Any) -> int:  # noqa: ANN401
    value = value[0] if isinstance(value, tuple) and value else value
    return value if isinstance(value, int) else 0


def _calibration(image: TiffImageFile) -> Calibration | None:
    """Tones by a table, and primaries."""
    tags = image.tag_v2
    table, white, points = (tags.get(each) for each in (_TRANSFER, _WHITE, _PRIMARIES))
    curve = found = None
    if isinstance(table, tuple) and max(table) > 0:
        count = 2 ** max(_tags(image, _BITS) or {1})
        columns = np.array(table, np.float64).reshape(-1, count).T
        usual = np.abs(columns / columns.max() - as_light(np.linspace(0, 1, count))[:, None])
        curve = columns / columns.max() if usual.max() > _NEAR else None
    if white is not None or points is not None:
        numbers = [float(each) for each in (*(white or _D65), *(points or _SRGB))]
        found = tuple(zip(numbers[::2], numbers[1::2], strict=True))
    made = Calibration(table=curve, points=found)
    return None if made.is_srgb else made


def _iptc(image: TiffImageFile) -> bytes | None:
    """IPTC, in a tag of its own or among Photoshop's resources."""
    raw = image.tag_v2.get(_IPTC)
    if isinstance(raw, tuple):  # as whole numbers of four bytes, which some programs call it
        order = "<" if image.tag_v2.prefix == b"II" else ">"
        raw = struct.pack(f"{order}{len(raw)}L", *raw).rstrip(b"\0")
    if isinstance(raw, bytes) and raw:
        return raw
    resources = image.tag_v2.get(_PHOTOSHOP)
    return iptc.of_resources(resources) if isinstance(resources, bytes) else None


def _tags(image: TiffImageFile, tag: int) -> set[int]:
    value: Any = image.tag_v2.get(tag, ())
    return set(value) if isinstance(value, tuple) else {int(value)}


def _bytes(image: TiffImageFile) -> Raster:
    if max(_tags(image, _BITS) or {1}) > 8:
        raise too_deep()
    # As they are stored: without the tag Pillow leaves them so.
    image.tag_v2.pop(_ORIENTATION, None)
    image.getexif().pop(_ORIENTATION, None)
    size = image.tag_v2[_WIDTH], image.tag_v2[_HEIGHT]
    image._size = size  # pyright: ignore[reportPrivateUsage]
    return raster_of(image)


def _words(image: TiffImageFile, stream: IO[bytes]) -> Raster:
    # Imported here because few pictures need it.
    import imagecodecs

    stream.seek(0)
    words = np.asarray(imagecodecs.tiff_decode(stream.read()))
    size = image.tag_v2[_WIDTH], image.tag_v2[_HEIGHT]
    return raster_of_words(_plain(words, image), size, 16)


def _plain(words: NDArray[Any], image: TiffImageFile) -> NDArray[np.uint16]:
    """Words with black at zero and colours that are not multiplied by alpha."""
    words = words.reshape(*words.shape[:2], -1)
    photometric = _tags(image, _PHOTOMETRIC)
    if photometric not in ({0}, {1}, {2}) or (photometric == {2}) != (words.shape[2] > 2):
        raise too_deep()
    if photometric == {0}:  # white is zero
        inverted = np.subtract(65535, words[..., :1], dtype=np.uint16)
        words = np.concatenate([inverted, words[..., 1:]], axis=2)
    if _tags(image, _EXTRA) == {1} and words.shape[2] in (2, 4):  # multiplied by alpha
        alpha = np.maximum(words[..., -1:], 1).astype(np.float64)
        colours = np.clip(np.rint(words[..., :-1] / alpha * 65535), 0, 65535)
        words = np.concatenate([colours.astype(np.uint16), words[..., -1:]], axis=2)
    return words


def _write(picture: Picture, way: Way) -> bytes:
    # Ours stands in XMP alone: few programs look for it in the EXIF of a TIFF.
    place = placement(picture, way.said)
    place = place if place.apart else replace(place, comment=None)
    exif = loaded(
        stamped(
            picture.exif,
            picture.width,
            picture.height,
            place.comment,
            growth=picture.growth,
            texts=place.tags,
        )
    )
    if picture.iptc is not None:
        exif[_IPTC] = picture.iptc
    said = way.said
    texts = None if said is None else {"parameters": said.parameters, "settings": said.settings}
    packet = merged(picture, texts)
    if packet is not None:
        exif[_XMP] = packet.encode()
    size = picture.pixels.size * 4 // 3 * (2 if picture.deep else 1)

    def save(image: Image.Image, stream: BytesIO) -> None:
        image.save(
            stream,
            "TIFF",
            # Compressed ones are written by libtiff, which refuses EXIF.
            compression="raw",
            big_tiff=size > _CLASSIC,
            exif=exif,
            **given(icc_profile=picture.icc, dpi=picture.dpi),
        )

    if picture.deep:
        return _of_words(to_words(picture), save)
    stream = BytesIO()
    save(to_image(picture), stream)
    return stream.getvalue()


def _of_words(words: NDArray[np.uint16], save: Callable[[Image.Image, BytesIO], None]) -> bytes:
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


FORMAT = Format(
    "tif",
    ("TIFF",),
    ((0, b"II*\0"), (0, b"MM\0*"), (0, b"II+\0"), (0, b"MM\0+")),
    _open,
    _write,
    bits=16,
    holds=frozenset({"alpha", "icc", "exif", "xmp", "iptc"}),
)
