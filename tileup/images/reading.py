"""Opening pictures: what they are, whether tileup can take them, and their upright pixels."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from tileup.errors import InputError
from tileup.images import xmp
from tileup.images.colour import cmyk_to_rgb
from tileup.images.deep import bits_of, file_of, is_deep, png_cicp, read_deep, turned
from tileup.images.exif import BROKEN, read_exif
from tileup.images.formats import avif
from tileup.images.formats import jpeg2000 as jp2
from tileup.images.picture import Picture
from tileup.images.signatures import recognised

Source = Path | str | BinaryIO | bytes | Image.Image | NDArray[Any]
"""Anything that `open_picture` takes."""

MAX_PIXELS = 200_000_000
"""Larger pictures are refused unless the caller says otherwise."""

_READERS: dict[str, Callable[[IO[bytes]], Image.Image]] = {
    "png": PngImageFile,
    "jpg": JpegImageFile,
    "webp": WebPImageFile,
    "tif": TiffImageFile,
    "avif": AvifImageFile,
    "bmp": BmpImageFile,
    "gif": GifImageFile,
    "jp2": Jpeg2KImageFile,
}
_FORMATS = {
    "PNG": "png",
    "JPEG": "jpg",
    "MPO": "jpg",
    "WEBP": "webp",
    "TIFF": "tif",
    "AVIF": "avif",
    "BMP": "bmp",
    "GIF": "gif",
    "JPEG2000": "jp2",
}
_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK"})
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_KEPT_TEXT = ("parameters", "prompt", "workflow")
_ROUNDING = 1e-3
"""How far float arrays may leave [0, 1]: what resampling and half precision add."""

_pillow_lock = threading.RLock()


def open_picture(source: Source, max_pixels: int = MAX_PIXELS) -> Picture:
    """A picture, upright, as float32 RGB in [0, 1].

    Args:
        source: file, encoded bytes or a stream of them (see `signatures.KNOWN`; of several frames
            or pages the first), a Pillow image, or an array: uint8 or float in [0, 1], of shape
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
        reader = _READERS[recognised(stream, where)]
        with _explained(where):
            image: Image.Image = reader(stream)
            _complete(image)
        with image:
            yield image, where


def _complete(image: Image.Image) -> None:
    """Add what Pillow passes over in JPEG 2000."""
    if isinstance(image, Jpeg2KImageFile):
        header = jp2.read_header(file_of(image))
        found = {"icc_profile": header.icc, "exif": header.exif, "xmp": header.xmp}
        image.info.update({name: value for name, value in found.items() if value})


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
        try:
            os.scandir(path).close()
        except OSError as error:
            raise InputError(
                f"{path} cannot be read ({error.strerror}); check its permissions"
            ) from error
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


def _picture(image: Image.Image, where: str, max_pixels: int) -> Picture:
    with _explained(where):
        check_size(image, where, max_pixels)
        warnings = _warnings(image, where)
        icc: bytes | None = image.info.get("icc_profile") or None
        cicp = _cicp(image)
        deep = read_deep(image) if is_deep(image) else None
        if deep is None:
            _check_depth(image, where)
        image.load()
        exif = read_exif(image)
        format = _FORMATS.get(str(image.format))
        shown = image
        if image.mode == "CMYK":
            shown, icc, told = cmyk_to_rgb(image)
            warnings = (*warnings, f"{where}: {told}")
        if deep is not None:
            grey = deep.shape[2] < 3
            pixels, alpha = _split(turned(deep, exif.orientation), grey)
        else:
            turn = _UPRIGHT.get(exif.orientation)
            pixels, alpha, grey = _channels(shown if turn is None else shown.transpose(turn))
    return Picture(
        pixels=pixels,
        alpha=alpha,
        grey=grey,
        deep=deep is not None,
        icc=icc,
        cicp=cicp,
        exif=exif.block,
        xmp=xmp.packet_of(image.info) or None,
        dpi=_dpi(image),
        format=format,
        text=_kept_text(image, exif.parameters),
        warnings=warnings,
    )


def _dpi(image: Image.Image) -> tuple[float, float] | None:
    """Pixels per inch, where a file gives numbers that make sense."""
    given = image.info.get("dpi")
    try:
        across, down = (float(value) for value in cast("tuple[float, float]", given))
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (across, down) if 1 <= across <= 30_000 and 1 <= down <= 30_000 else None


def check_size(image: Image.Image, where: str, max_pixels: int) -> None:
    """Refuses a picture that its header tells to be too large.

    To be called before anything is asked of an image that is not decoded: even for its EXIF Pillow
    may decode it.

    Raises:
        InputError: it has more pixels.
    """
    if image.width * image.height > max_pixels:
        raise InputError(_too_large(where, f"{image.width}x{image.height} pixels"))


def _warnings(image: Image.Image, where: str) -> tuple[str, ...]:
    """What the user should know of a picture, by its header."""
    frames = int(getattr(image, "n_frames", 1))
    if frames > 1 and image.format != "MPO":
        return (f"{where} holds {frames} pictures; the first one is taken",)
    return ()


def _check_depth(image: Image.Image, where: str) -> None:
    """Refuses pictures whose channels would be lost or misread."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16") or bits_of(image) > 8:
        raise InputError(
            f"{where} has channels of more than 8 bits that are not 16-bit grey or RGB; "
            f"convert it to one of these first"
        )
    if image.mode not in _MODES:
        raise InputError(f"{where} is a {image.mode} picture; convert it to RGB first")


def _cicp(image: Image.Image) -> tuple[int, int] | None:
    """Primaries and transfer by number, where there are some, and no profile says more."""
    if "icc_profile" in image.info:
        return None
    if isinstance(image, AvifImageFile):
        return avif.read_header(file_of(image)).cicp
    return png_cicp(file_of(image)) if isinstance(image, PngImageFile) else None


def _too_large(where: str, size: str) -> str:
    return (
        f"{where} has {size}, above the limit; "
        f"raise --max-input-pixels if it is meant to be this large"
    )


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
    if alpha is None or bool((alpha == 1).all()):
        return np.ascontiguousarray(pixels), None
    return np.ascontiguousarray(pixels), np.ascontiguousarray(alpha)


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
