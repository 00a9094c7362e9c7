"""HEIC, of phones: read where pi-heif is installed, and not written."""

from __future__ import annotations

from functools import partial
from io import BytesIO
from typing import IO, Any

import numpy as np

from tileup.images.exif import read_block
from tileup.images.formats.format import Format, Head, OpenedPicture, Raster, UnreadableError
from tileup.images.formats.pillow import raster_of_words
from tileup.images.pixels import unit

_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


def _open(stream: IO[bytes]) -> OpenedPicture:
    try:
        import pi_heif
    except ModuleNotFoundError as error:
        raise UnreadableError(
            "is a HEIC file, which needs pi-heif: pip install 'tileup[heic]'"
        ) from error
    # At its own number of bits, and as it is: a file of one picture is decoded when asked for.
    file: Any = pi_heif.open_heif(
        BytesIO(stream.read()), convert_hdr_to_8bit=False, hdr_to_16bit=False
    )
    image = file[file.primary_index]
    info = image.info
    width, height = image.size
    xmp = info.get("xmp")
    exif = info.get("exif")
    head = Head(
        width,
        height,
        # libheif has turned the pixels.
        exif=read_block(exif or None).turned(1),
        frames=len(file),
        mode=image.mode,
        icc=info.get("icc_profile") or None,
        xmp=xmp.decode("utf-8", "replace") if xmp else None,
    )
    return OpenedPicture("heic", head, partial(_decode, image, int(info.get("bit_depth", 8))))


def _decode(image: Any, bits: int) -> Raster:  # noqa: ANN401
    values = np.asarray(image)
    if values.dtype == np.uint8:
        return Raster(unit(values.reshape(*values.shape[:2], -1), 255))
    return raster_of_words(values, image.size, bits)


FORMAT = Format(
    "heic",
    (),
    tuple((4, b"ftyp" + brand) for brand in _BRANDS),
    _open,
)
