"""Small pictures that the tests of this folder share."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from tileup.images.metadata import Metadata
from tileup.images.picture import Picture

FORMATS = ("png", "jpg", "webp", "tif")
RICH = (*FORMATS, "avif", "jp2")
"""Formats that hold a profile, EXIF and XMP."""
PILLOW = {
    **{"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "tif": "TIFF"},
    **{"avif": "AVIF", "jp2": "JPEG2000", "bmp": "BMP"},
}
SIZES = [(1, 1), (1, 9), (9, 1), (7, 501), (501, 7), (33, 21)]
"""Width and height: one pixel, one column, one row, thin, flat, odd."""


def noise(width: int, height: int, channels: int | None = 3, seed: int = 0) -> NDArray[np.uint8]:
    """Random bytes, shape (H, W, channels), or (H, W) where there are none."""
    shape = (height, width) if channels is None else (height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def random_picture(width: int = 33, height: int = 21, **fields: object) -> Picture:
    pixels = np.random.default_rng(1).random((height, width, 3), dtype=np.float32)
    return Picture(**({"pixels": pixels} | fields))


def smooth(width: int, height: int) -> NDArray[np.uint8]:
    """A picture that lossy formats keep well and that no turn or mirroring leaves as it is."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    return np.rint(255 * np.stack([x, y, x * y], axis=-1)).astype(np.uint8)


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    stream = BytesIO()
    image.save(stream, PILLOW[format], **options)
    return stream.getvalue()


def srgb_profile() -> bytes:
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    data[24:36] = bytes(12)  # when it was made: bytes shall be the same in each run
    return bytes(data)


def swapped_profile() -> bytes:
    """sRGB with red and blue exchanged, so that a conversion shows."""
    data = bytearray(srgb_profile())
    count = int.from_bytes(data[128:132], "big")
    entries = {bytes(data[at : at + 4]): at for at in range(132, 132 + 12 * count, 12)}
    red, blue = entries[b"rXYZ"], entries[b"bXYZ"]
    data[red : red + 4], data[blue : blue + 4] = b"bXYZ", b"rXYZ"
    return bytes(data)


def some_metadata(**fields: object) -> Metadata:
    return Metadata(
        **(
            {
                "prompt": "",
                "negative": "",
                "steps": 8,
                "sampler": "euler",
                "scheduler": "sgm_uniform",
                "cfg": 1.0,
                "seed": 5,
                "width": 33,
                "height": 21,
                "model": "tileup-small",
                "model_hash": "0123456789abcdef",
                "denoise": 0.8,
                "extra": {"tileup min denoise": 0.2, "tileup tiles": 37},
                "settings": {"scale": 2.0, "name": "{stem}", "size": None},
            }
            | fields
        )
    )


def png(width: int, height: int, depth: int, colour: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of these chunks behind its header; IEND is added."""
    header = struct.pack(">LLBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IEND", b"")]
    body = b"".join(
        struct.pack(">L", len(data)) + name + data + struct.pack(">L", zlib.crc32(name + data))
        for name, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + body
