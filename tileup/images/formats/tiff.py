"""TIFF, of eight and of sixteen bits."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
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
from tileup.images.exif import is_layout, loaded, stamped
from tileup.images.extras import given, merged, placement
from tileup.images.formats.format import (
    CREDENTIALS,
    ByBands,
    Format,
    OpenedPicture,
    Raster,
    UnreadableError,
    Way,
)
from tileup.images.formats.pillow import head_of, raster_of, too_deep
from tileup.images.picture import Picture
from tileup.images.pixels import Numbers, unit
from tileup.images.planes import number_bands, to_image, to_words
from tileup.images.tiff_layout import ReducedTiff, number_of, plain_numbers, tag_values
from tileup.images.tiff_rows import tiff_rows
from tileup.images.tiff_tags import put_value, tag_places, value_at

_WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _FORMAT, _EXTRA = 256, 257, 258, 262, 339, 338
_SAMPLES, _PLANAR, _OFFSETS, _ROWS, _COUNTS = 277, 284, 273, 278, 279
_XMP, _ORIENTATION, _IPTC, _PHOTOSHOP, _PROFILE = 700, 274, 33723, 34377, 34675
_COMPRESSION, _JPEG = 259, 7
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


def _open(stream: IO[bytes]) -> OpenedPicture:
    image = _shown(stream)
    _refuse_raw(image)
    head = head_of(
        image,
        # Pillow gives the size as it is seen, and would turn the pixels itself.
        width=image.tag_v2[_WIDTH],
        height=image.tag_v2[_HEIGHT],
        mode=_mode(image),
        calibration=None if _PROFILE in image.tag_v2 else _calibration(image),
        iptc=_iptc(image),
        left=tuple(dict.fromkeys(_left(image))),
    )
    layout = image.layout
    whole = layout.plain and (
        layout.bits != 8 or layout.extra or layout.planes or layout.by_tifffile
    )
    if layout.extra and image.tag_v2.get(_COMPRESSION) == _JPEG:
        whole = False  # libtiff, by imagecodecs, gives such colours multiplied by alpha
    decode = partial(_numbers, image, stream) if whole else partial(_bytes, stream)
    return OpenedPicture("tif", head, decode, _by_bands(image))


_PACKED = {1, 5, 8, 32946, 32773, 50000}
"""Compressions that keep every pixel: none, LZW, two names of Deflate, PackBits and Zstandard."""


def _by_bands(image: ReducedTiff) -> ByBands | None:
    """Of grey or RGB of 8 or 16 bits, stored pixel by pixel as it is."""
    layout = image.layout
    kept = layout.plain and layout.photometric in (1, 2) and not layout.planes
    whole = layout.packing in _PACKED and not layout.is_odd
    if not kept or not whole or layout.extra not in ((), (2,)):
        return None
    channels = layout.colours + len(layout.extra)
    size = image.tag_v2[_WIDTH], image.tag_v2[_HEIGHT]
    return ByBands(channels, layout.bits, partial(tiff_rows, *size, channels))


def _shown(stream: IO[bytes]) -> ReducedTiff:
    try:
        return ReducedTiff(stream)
    except SyntaxError as error:
        if "unknown pixel mode" in str(error):
            raise UnreadableError(
                "has channels of a kind that is not read (such as floats, 32 bits, Lab or CMYK of "
                "16 bits); convert it to grey or RGB of 8 or 16 bits first"
            ) from error
        raise


def _mode(image: ReducedTiff) -> str:
    """How the pixels are stored, as `tileup info` names it."""
    layout = image.layout
    if not layout.plain:
        return image.mode
    alpha = "A" if layout.extra[:1] in ((1,), (2,)) else ""
    bits = "" if layout.bits == 8 else f";{layout.bits}"
    return ("L" if layout.colours == 1 else "RGB") + alpha + bits


def _refuse_raw(image: TiffImageFile) -> None:
    """Refuse what is no more than the preview of a picture that is not read.

    Camera raw files are TIFFs whose first directory holds a thumbnail, a reduced picture whose
    whole stands in directories below it, or the values of the sensor.
    """
    tags = image.tag_v2
    reduced = bool(number_of(tags.get(_KIND)) & 1)
    sensor = number_of(tags.get(_PHOTOMETRIC)) in _OF_SENSORS
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


def _left(image: TiffImageFile) -> Iterator[str]:
    """What tags are about that measure or sign the file as it was, or hold other pictures."""
    if is_layout(image.tag_v2.get(_DESCRIPTION)):
        yield "its description of how pixels are stored"
    yield from (words for tag, words in _OF_OTHERS.items() if tag in image.tag_v2)


_DESCRIPTION = 270
_MAP, _LAYERS = "its place on a map", "its layers"
_OF_OTHERS = {
    **dict.fromkeys((33550, 33922, 34264, 34735), _MAP),
    37724: _LAYERS,
    52545: CREDENTIALS,
}
"""GeoTIFF's scale, points, transformation and keys; Photoshop's layers; C2PA."""


def _calibration(image: TiffImageFile) -> Calibration | None:
    """Tones by a table, and primaries."""
    tags = image.tag_v2
    table, white, points = (tags.get(each) for each in (_TRANSFER, _WHITE, _PRIMARIES))
    curve = found = None
    if isinstance(table, tuple) and max(table) > 0:
        count = 2 ** max(tag_values(image, _BITS) or {1})
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


def _bytes(stream: IO[bytes]) -> Raster:
    """What Pillow decodes."""
    stream.seek(0)
    image = TiffImageFile(stream)
    if max(tag_values(image, _BITS) or {1}) > 8:
        raise too_deep()
    # As they are stored: without the tag Pillow leaves them so.
    image.tag_v2.pop(_ORIENTATION, None)
    image.getexif().pop(_ORIENTATION, None)
    size = image.tag_v2[_WIDTH], image.tag_v2[_HEIGHT]
    image._size = size  # pyright: ignore[reportPrivateUsage]
    return raster_of(image)


def _numbers(image: ReducedTiff, stream: IO[bytes]) -> Raster:
    """What libtiff decodes, or tifffile: grey or RGB, however many channels there are."""
    stream.seek(0)
    found = _by_tifffile(stream) if image.layout.by_tifffile else _by_libtiff(stream)
    layout, (width, height) = image.layout, (image.tag_v2[_WIDTH], image.tag_v2[_HEIGHT])
    if layout.planes and found.ndim == 3:
        found = np.moveaxis(found, 0, -1)
    numbers = found.reshape(*found.shape[:2], -1)
    channels = layout.colours + len(layout.extra)
    bits = 16 if layout.bits > 8 else 8
    if numbers.shape != (height, width, channels) or numbers.dtype.itemsize * 8 != bits:
        raise too_deep()
    return Raster(unit(plain_numbers(numbers, layout), 2**layout.bits - 1), deep=layout.bits > 8)


def _by_libtiff(stream: IO[bytes]) -> NDArray[Any]:
    # Imported here because few pictures need it.
    import imagecodecs

    return np.asarray(imagecodecs.tiff_decode(stream.read(), index=0))


def _by_tifffile(stream: IO[bytes]) -> NDArray[Any]:
    # Imported here because few pictures need it.
    import tifffile

    with tifffile.TiffFile(stream) as file:
        return np.asarray(file.pages[0].asarray(maxworkers=1))


def _write(picture: Picture, way: Way) -> bytes:
    return _saved(picture, _saving(picture, way))


def _write_bands(picture: Picture, way: Way, stream: IO[bytes]) -> None:
    """The same bytes: Pillow is given the first row, and its height is corrected."""
    first = replace(
        picture,
        pixels=picture.pixels[:1],
        alpha=None if picture.alpha is None else picture.alpha[:1],
    )
    data = bytearray(_saved(first, _saving(picture, way)))
    places = dict(tag_places(data))
    start, length = (value_at(data, places[tag]) for tag in (_OFFSETS, _COUNTS))
    height = picture.height
    for tag, value in ((_HEIGHT, height), (_ROWS, height), (_COUNTS, height * length)):
        put_value(data, places[tag], value)
    stream.write(data[:start])
    for band in number_bands(picture, 16 if picture.deep else 8):
        stream.write(_stored(band).tobytes())


def _saved(picture: Picture, save: Callable[[Image.Image, BytesIO], None]) -> bytes:
    """The file of a picture; `save` as `_saving` gives it."""
    if picture.deep:
        return _of_words(to_words(picture), save)
    stream = BytesIO()
    save(to_image(picture), stream)
    return stream.getvalue()


def _saving(picture: Picture, way: Way) -> Callable[[Image.Image, BytesIO], None]:
    """What writes a Pillow image as uncompressed TIFF, with all tags that the picture's has."""
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
    size = 4 * picture.width * picture.height * (2 if picture.deep else 1)

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

    return save


def _stored(numbers: Numbers) -> Numbers:
    """Numbers as a file holds them, shape (rows, W, 1, 3 or 4)."""
    if numbers.dtype.itemsize == 1:
        return numbers
    if numbers.shape[2] == 2:  # which few programs read, Pillow among those that do not
        numbers = numbers[..., [0, 0, 0, 1]]
    return np.ascontiguousarray(numbers, "<u2")


def _of_words(words: NDArray[np.uint16], save: Callable[[Image.Image, BytesIO], None]) -> bytes:
    """A TIFF of 16 bits, uncompressed.

    Args:
        words: shape (H, W) or (H, W, 2 to 4).
        save: writes a Pillow image as uncompressed TIFF, with all tags it shall have.

    Pillow writes the bytes of the words as a picture of bytes that is twice as wide. Then its
    width and its bits per channel are corrected in place: nothing else depends on them.
    """
    planes = _stored(words.reshape(*words.shape[:2], -1))
    height, width, channels = planes.shape
    split = planes.view(np.uint8).reshape(height, width * 2, channels)
    stream = BytesIO()
    save(Image.fromarray(split[..., 0] if channels == 1 else split, _MODES[channels]), stream)
    data = bytearray(stream.getvalue())
    places = dict(tag_places(data))
    put_value(data, places[_WIDTH], width)
    at = places[_BITS].value
    if 2 * channels > places[_BITS].room:
        at = value_at(data, places[_BITS])
    struct.pack_into(f"<{channels}H", data, at, *[16] * channels)
    return bytes(data)


FORMAT = Format(
    "tif",
    ("TIFF",),
    ((0, b"II*\0"), (0, b"MM\0*"), (0, b"II+\0"), (0, b"MM\0+")),
    _open,
    _write,
    _write_bands,
    bits=16,
    holds=frozenset({"alpha", "icc", "exif", "xmp", "iptc"}),
)
