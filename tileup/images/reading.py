"""Opening pictures: what they are, whether tileup can take them, and their upright pixels."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from tileup.errors import InputError
from tileup.images import xmp
from tileup.images.exif import BROKEN, read_exif
from tileup.images.picture import Picture

Source = Path | str | BinaryIO | bytes | Image.Image | NDArray[Any]
"""Anything that `open_picture` takes."""

MAX_PIXELS = 200_000_000
"""Larger pictures are refused unless the caller says otherwise."""

_READERS: dict[str, type[PngImageFile | JpegImageFile | WebPImageFile | TiffImageFile]] = {
    "png": PngImageFile,
    "jpg": JpegImageFile,
    "webp": WebPImageFile,
    "tif": TiffImageFile,
}
_FORMATS = {"PNG": "png", "JPEG": "jpg", "MPO": "jpg", "WEBP": "webp", "TIFF": "tif"}
_SIGNATURES = (
    (0, b"\x89PNG\r\n\x1a\n", "png"),
    (0, b"\xff\xd8\xff", "jpg"),
    (8, b"WEBP", "webp"),
    (0, b"II*\0", "tif"),
    (0, b"MM\0*", "tif"),
    (0, b"II+\0", "tif"),
    (0, b"MM\0+", "tif"),
    (0, b"GIF8", "GIF"),
    (0, b"BM", "BMP"),
    (4, b"ftypavi", "AVIF"),
    (4, b"ftyphei", "HEIC"),
    (4, b"ftyphev", "HEIC"),
    (4, b"ftypmif1", "HEIF"),
    (4, b"jP  ", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"\xff\x0a", "JPEG XL"),
    (4, b"JXL ", "JPEG XL"),
    (0, b"8BPS", "Photoshop (PSD)"),
    (0, b"\x76\x2f\x31\x01", "OpenEXR"),
    (0, b"#?RADIANCE", "Radiance HDR"),
    (0, b"DDS ", "DDS"),
    (0, b"qoif", "QOI"),
    (0, b"\0\0\1\0", "icon (ICO)"),
    (0, b"P5", "PGM"),
    (0, b"P6", "PPM"),
    (0, b"%PDF", "PDF"),
    (0, b"<svg", "SVG"),
)
"""Where a format's signature stands, the signature, and the format; upper case: not supported."""

_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX"})
_DEEP_MODES = frozenset({"I", "F", "I;16", "I;16B", "I;16L", "I;16N"})
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BITS_PER_SAMPLE = 258
_KEPT_TEXT = ("parameters", "prompt", "workflow")
_ROUNDING = 1e-3
"""How far float arrays may leave [0, 1]: what resampling and half precision add."""

_pillow_lock = threading.RLock()


def open_picture(source: Source, max_pixels: int = MAX_PIXELS) -> Picture:
    """A picture, upright, as float32 RGB in [0, 1].

    Args:
        source: file, encoded bytes or a stream of them (PNG, JPEG, WebP, TIFF; 8 bits or less
            per channel), a Pillow image, or an array: uint8 or float in [0, 1], of shape
            (H, W), (H, W, 3) or (H, W, 4).
        max_pixels: larger pictures are refused before they are decoded.

    Raises:
        InputError: it is missing, no picture, broken, too large, or of a kind not supported;
            the message says which and what to try.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source, max_pixels)
    if isinstance(source, Image.Image):
        with _pillow(max_pixels):
            return _picture(source, "the image", max_pixels)
    with opened(source, max_pixels) as (image, where):
        return _picture(image, where, max_pixels)


@contextmanager
def opened(
    source: Path | str | BinaryIO | bytes, max_pixels: int = MAX_PIXELS
) -> Generator[tuple[Image.Image, str], None, None]:
    """A Pillow image whose header is read and whose pixels are not, and what to call it.

    Raises:
        InputError: see `open_picture`.
    """
    with _stream(source) as (stream, where), _pillow(max_pixels):
        reader = _READERS[_recognised(stream, where)]
        with _explained(where):
            image: Image.Image = reader(stream)
        with image:
            yield image, where


@contextmanager
def _stream(source: Path | str | BinaryIO | bytes) -> Generator[tuple[IO[bytes], str], None, None]:
    if isinstance(source, bytes):
        yield BytesIO(source), "the given data"
    elif isinstance(source, str | Path):
        path = Path(source)
        _check_file(path)
        with _open_file(path) as stream:
            yield stream, str(path)
    else:
        # Pillow wants to seek, which a pipe cannot.
        yield BytesIO(source.read()), str(getattr(source, "name", "the stream"))


def _check_file(path: Path) -> None:
    try:
        found, is_folder, is_file = path.exists(), path.is_dir(), path.is_file()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path} cannot be read ({reason}); check its name") from error
    if not found:
        raise InputError(f"{path} does not exist; check the name and the folder")
    if is_folder:
        raise InputError(f"{path} is a folder, not a picture; name a file in it")
    if not is_file:
        raise InputError(f"{path} is not a regular file; save the picture to one first")


def _open_file(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}); check its permissions"
        ) from error


@contextmanager
def _pillow(max_pixels: int) -> Generator[None, None, None]:
    """Pillow without its warnings and with our pixel limit in place of its own.

    Both are global to the process, so they are put back at the end, and only one thread at a
    time is inside.
    """
    with _pillow_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, max_pixels
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


@contextmanager
def _explained(where: str) -> Generator[None, None, None]:
    """Turns what Pillow raises on a broken file into an `InputError`."""
    try:
        yield
    except Image.DecompressionBombError as error:
        raise InputError(_too_large(where, "more pixels than it should")) from error
    except BROKEN as error:
        raise InputError(_broken(where, error)) from error


def _broken(where: str, error: Exception) -> str:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    if "MAX_TEXT" in reason:
        return (
            f"{where} holds text chunks that unpack to more than a picture needs; "
            f"save it again without metadata"
        )
    return f"{where} is broken or cut short ({reason}); copy or export it again"


def _recognised(stream: IO[bytes], where: str) -> str:
    """Format of a file by its first bytes: a key of `_READERS`."""
    head = stream.read(16)
    stream.seek(0)
    if not head:
        raise InputError(f"{where} is empty (0 bytes); copy or export it again")
    for start, signature, name in _SIGNATURES:
        if head[start:].startswith(signature):
            if name in _READERS:
                return name
            raise InputError(
                f"{where} is a {name} file, which is not supported yet; "
                f"convert it to PNG, JPEG, WebP or TIFF"
            )
    raise InputError(f"{where} is not a picture; tileup reads PNG, JPEG, WebP and TIFF")


def _picture(image: Image.Image, where: str, max_pixels: int) -> Picture:
    with _explained(where):
        _check_header(image, where, max_pixels)
        image.load()
        exif = read_exif(image)
        upright = image.transpose(_UPRIGHT[exif.orientation]) if exif.orientation > 1 else image
        pixels, alpha, grey = _channels(upright)
    return Picture(
        pixels=pixels,
        alpha=alpha,
        grey=grey,
        icc=image.info.get("icc_profile") or None,
        exif=exif.block,
        format=_FORMATS.get(str(image.format)),
        text=_kept_text(image, exif.parameters),
    )


def _check_header(image: Image.Image, where: str, max_pixels: int) -> None:
    """Refuses what the header already tells to be too much or too strange."""
    if image.width * image.height > max_pixels:
        raise InputError(_too_large(where, f"{image.width}x{image.height} pixels"))
    frames = int(getattr(image, "n_frames", 1))
    if frames > 1 and image.format != "MPO":
        raise InputError(
            f"{where} holds {frames} pictures (an animation or several pages), and tileup takes "
            f"one; save each as a file of its own"
        )
    if image.mode in _DEEP_MODES or _bits(image) > 8:
        raise InputError(
            f"{where} has more than 8 bits per channel, which tileup would lose; "
            f"convert it to 8 bits first"
        )
    if image.mode not in _MODES:
        raise InputError(f"{where} is a {image.mode} picture; convert it to RGB first")


def _too_large(where: str, size: str) -> str:
    return (
        f"{where} has {size}, above the limit; "
        f"raise --max-input-pixels if it is meant to be this large"
    )


def _bits(image: Image.Image) -> int:
    """Bits per channel in the file: Pillow reduces 16-bit RGB to 8 without a word."""
    if isinstance(image, TiffImageFile):
        bits = image.tag_v2.get(_BITS_PER_SAMPLE, (1,))
        return max(cast("tuple[int, ...]", bits)) if isinstance(bits, tuple) else int(bits)
    return max((16 for tile in getattr(image, "tile", ()) if ";16" in str(tile)), default=8)


def _channels(
    image: Image.Image,
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None, bool]:
    """RGB (H, W, 3) and alpha (H, W) in [0, 1] of a decoded image, and whether it is grey."""
    grey = image.mode in ("1", "L", "LA")
    colour, clear = ("L", "LA") if grey else ("RGB", "RGBA")
    # Palettes and colour keys turn transparent on the way to a mode with alpha.
    data = _unit(np.asarray(image.convert(clear if image.has_transparency_data else colour)))
    return *_split(data, grey), grey


def _split(
    data: NDArray[np.float32], grey: bool
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """RGB and alpha of an array of shape (H, W) or (H, W, 1 to 4); opaque alpha is None."""
    data = data[..., None] if data.ndim == 2 else data
    colours = 1 if grey else 3
    pixels = np.repeat(data[..., :1], 3, axis=2) if grey else data[..., :3]
    alpha = data[..., colours] if data.shape[2] > colours else None
    if alpha is not None and bool((alpha == 1).all()):
        alpha = None
    return np.ascontiguousarray(pixels), None if alpha is None else np.ascontiguousarray(alpha)


def _unit(data: NDArray[np.uint8]) -> NDArray[np.float32]:
    return data.astype(np.float32) / np.float32(255)


def _from_array(array: NDArray[Any], max_pixels: int) -> Picture:
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise InputError(
            f"an array must be of shape (H, W), (H, W, 3) or (H, W, 4), got {array.shape}; "
            f"move the channels to the end"
        )
    if array.size == 0:
        raise InputError(f"the array is empty: its shape is {array.shape}; give it pixels")
    if array.shape[0] * array.shape[1] > max_pixels:
        raise InputError(_too_large("the array", f"{array.shape[1]}x{array.shape[0]} pixels"))
    grey = array.ndim == 2
    pixels, alpha = _split(_in_range(array), grey)
    return Picture(pixels=pixels, alpha=alpha, grey=grey)


def _in_range(array: NDArray[Any]) -> NDArray[np.float32]:
    if array.dtype == np.uint8:
        return _unit(array)
    if not np.issubdtype(array.dtype, np.floating):
        raise InputError(
            f"an array must be uint8, or float in [0, 1], got {array.dtype}; convert it first"
        )
    low, high = float(array.min()), float(array.max())
    if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):
        raise InputError(
            f"a float array must lie in [0, 1], got {low:g} to {high:g}; "
            f"divide it by its largest possible value"
        )
    return np.clip(array, 0, 1).astype(np.float32)


def _kept_text(image: Image.Image, comment: str | None) -> dict[str, str]:
    """Text of generators: from PNG chunks, from the user comment or from our own XMP."""
    kept = {
        name: str(value)
        for name in _KEPT_TEXT
        if isinstance(value := image.info.get(name), str) and image.format == "PNG"
    }
    parameters = comment or xmp.found(xmp.packet_of(image.info), "parameters")
    return {"parameters": parameters} | kept if parameters else kept
