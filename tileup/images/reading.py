"""Opening pictures: what they are, whether tileup can take them, and their upright pixels."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tileup.errors import InputError
from tileup.images import xmp
from tileup.images.colour import is_neutral
from tileup.images.exif import BROKEN
from tileup.images.first_bytes import recognised
from tileup.images.formats.format import Head, OpenedPicture, Raster, Reopen, UnreadableError
from tileup.images.formats.known import FORMATS, format_of
from tileup.images.formats.pillow import head_of, raster_of, raster_of_words
from tileup.images.from_top import FromTop
from tileup.images.generators import OWN
from tileup.images.picture import Picture
from tileup.images.pixels import Colours, IntegerPixels, Pixels, bands, unit
from tileup.storage.remote import Remote, place
from tileup.wording import listed

log = logging.getLogger(__name__)

Source = Path | str | BinaryIO | bytes | Image.Image | NDArray[Any]
"""Anything that `open_picture` takes."""

MAX_PIXELS = 200_000_000
"""Larger pictures are refused unless the caller says otherwise."""
BANDED = 2**23
"""Pixels from which a picture is decoded band by band, where it can be."""
_MORE = 10
"""So many times as many pixels may a picture have that is decoded band by band, where nobody says
how many: that takes time, and no memory."""

_ROUNDING = 1e-3
"""How far float arrays may leave [0, 1]: what resampling and half precision add."""

_pillow_lock = threading.RLock()


def open_picture(source: Source, max_pixels: int = MAX_PIXELS) -> Picture:
    """A picture, upright, as float32 RGB in [0, 1].

    Args:
        source: file, also by URL, encoded bytes or a stream of them (of several frames or pages the
            first), a Pillow image, or an array: uint8 or float in [0, 1], of shape
            (H, W), (H, W, 3) or (H, W, 4).
        max_pixels: larger pictures are refused before they are decoded; with the default those
            that are decoded band by band where they are more than ten times as large.

    Raises:
        InputError: it is missing, no picture, broken, too large, or of a kind not supported;
            the message says which and what to try.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source, max_pixels)
    if isinstance(source, Image.Image):
        with _pillow(max_pixels):
            return _picture(_of_image(source), "the image", max_pixels)
    with opened(source, max_pixels) as (found, where):
        return _picture(found, where, max_pixels)


@contextmanager
def opened(
    source: Path | str | BinaryIO | bytes, max_pixels: int = MAX_PIXELS
) -> Generator[tuple[OpenedPicture, str], None, None]:
    """A picture whose header is read and whose pixels are not, and what to call it.

    Raises:
        InputError: see `open_picture`.
    """
    with _stream(source) as (stream, where), _pillow(max_pixels):
        format = format_of(recognised(stream, where))
        with _explained(where):
            found = format.open(stream)
        yield replace(found, reopen=_reopening(stream, source)), where


def _reopening(stream: IO[bytes], source: object) -> Reopen | None:
    """Opens a file of this machine once more, or what was read of a stream."""
    path = place(source) if isinstance(source, str | Path) else None
    if path is not None:
        return None if isinstance(path, Remote) else partial(path.open, "rb")
    return partial(BytesIO, stream.getvalue()) if isinstance(stream, BytesIO) else None


def _of_image(image: Image.Image) -> OpenedPicture:
    """An image that Pillow holds: by its file where nothing of it is decoded yet."""
    name = next((each.name for each in FORMATS if image.format in each.pillow), "")
    stream: IO[bytes] | None = getattr(image, "fp", None)
    waiting = stream is not None and not stream.closed and getattr(image, "tile", None)
    if name and stream is not None and waiting and image.tell() == 0:
        stream.seek(0)
        return format_of(name).open(BytesIO(stream.read()))
    decode = partial(_grey_words if image.mode.startswith("I;16") else raster_of, image)
    texts = {key: each for key, each in image.info.items() if isinstance(each, str)}
    texts.pop("xmp", None)
    texts.pop("XML:com.adobe.xmp", None)
    more = {"text": texts} if image.format == "PNG" else {}
    return OpenedPicture(name, head_of(image, **more), decode)


def _grey_words(image: Image.Image) -> Raster:
    return raster_of_words(np.asarray(image).astype(np.uint16), image.size, 16)


@contextmanager
def _stream(source: Path | str | BinaryIO | bytes) -> Generator[tuple[IO[bytes], str], None, None]:
    if isinstance(source, bytes):
        yield BytesIO(source), "the given data"
    elif source == "":
        raise InputError("the name of the picture is empty; is a variable not set?")
    elif isinstance(source, str | Path):
        path = place(source)
        _check_file(path)
        with _open_file(path) as stream:
            yield stream, str(path)
    elif not hasattr(source, "read"):
        kind = type(source).__name__
        raise InputError(f"a picture is a file, bytes, a Pillow image or an array, and no {kind}")
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
            next(path.iterdir(), None)
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
    except UnreadableError as error:
        raise InputError(f"{where} {error}") from error
    except BROKEN as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(
            f"{where} is broken or cut short ({reason}); copy or export it again"
        ) from error


@dataclass(frozen=True, slots=True, eq=False)
class _Shown:
    """The upright pixels of a file, and what depends on how they were had."""

    pixels: Pixels
    alpha: NDArray[np.float32] | None
    grey: bool
    deep: bool
    icc: bytes | None
    told: tuple[str, ...] = ()
    """Sentences without their subject."""


def _picture(found: OpenedPicture, where: str, max_pixels: int) -> Picture:
    check_size(found, where, max_pixels)
    head, shown = found.head, _by_bands(found, where) or _whole(found, where)
    packet, told = _packet(head, (*_warnings(head), *shown.told))
    return Picture(
        pixels=shown.pixels,
        alpha=shown.alpha,
        grey=shown.grey,
        deep=shown.deep,
        neutral=shown.grey or is_neutral(shown.pixels, shown.alpha),
        lossless=head.lossless,
        origin=(shown.pixels.shape[1], shown.pixels.shape[0]),
        icc=shown.icc,
        cicp=head.cicp,
        exif=head.exif.block,
        xmp=packet,
        iptc=head.iptc,
        dpi=head.dpi,
        format=found.format or None,
        text=_kept_text(head),
        warnings=tuple(f"{where}{sentence}" for sentence in told),
    )


def _whole(found: OpenedPicture, where: str) -> _Shown:
    """Decoded at once."""
    head, told = found.head, ()
    with _explained(where):
        raster = found.decode()
    icc, values = head.icc or raster.icc, raster.values
    if raster.recoloured is not None:
        icc, sentence = raster.recoloured
        told = (f": {sentence}",)
    elif head.calibration is not None:
        values, icc = head.calibration.applied(values)
    grey = values.shape[2] < 3
    pixels, alpha = _split(_TURNS[head.exif.orientation](values), grey)
    return _Shown(pixels, alpha, grey, raster.deep, icc, told)


def _by_bands(found: OpenedPicture, where: str) -> _Shown | None:
    """Of a large picture without transparency, decoded when its rows are asked for; else None."""
    rows = _banded(found, where)
    if rows is None:
        return None
    deep = rows.dtype.itemsize == 2
    if rows.shape[2] in (2, 4):
        most, parts = 65535 if deep else 255, bands(*rows.shape[:2])
        if not all(bool((rows[part][..., -1] == most).all()) for part in parts):
            return None
        rows = Colours(rows)
    log.info("%s is decoded band by band", where)
    return _Shown(IntegerPixels(rows), None, rows.shape[2] == 1, deep, found.head.icc)


def check_whole(found: OpenedPicture, where: str) -> None:
    """Decodes a picture to its end, a large one without holding it.

    Raises:
        InputError, UnreadableError: it is broken, or cut short; or what is in
            `tileup.images.exif.BROKEN`.
    """
    rows = _banded(found, where)
    if rows is None:
        found.decode()
        return
    for part in bands(*rows.shape[:2]):
        rows[part]


def _banded(found: OpenedPicture, where: str) -> FromTop | None:
    """The same as `numbers_of`; None also where the picture is small."""
    rows = numbers_of(found, where)
    return None if rows is None or rows.shape[0] * rows.shape[1] < BANDED else rows


def numbers_of(found: OpenedPicture, where: str) -> FromTop | None:
    """All channels of a picture as they are seen, decoded when its rows are asked for; None where
    it is decoded as a whole."""
    way, reopen, head = found.by_bands, found.reopen, found.head
    if way is None or reopen is None or head.exif.orientation != 1 or head.calibration is not None:
        return None
    shape = head.height, head.width, way.channels
    dtype = np.dtype(np.uint8 if way.bits == 8 else np.uint16)
    return FromTop(shape, dtype, partial(way.bands, reopen), where)


def _packet(head: Head, told: tuple[str, ...]) -> tuple[str | None, tuple[str, ...]]:
    """XMP without what is no longer true, and warnings with that of what was left out."""
    packet, gone = None, ()
    if head.xmp is not None:
        packet, gone = xmp.cleaned(head.xmp, head.exif.orientation != 1)
    left = [*gone, *(each for each in head.left if f"XMP about {each}" not in gone)]
    return packet, (*told, f": left out is {listed(left)}") if left else told


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
"""What makes an array upright, by the orientation that EXIF gives it."""


def check_size(found: OpenedPicture, where: str, max_pixels: int) -> None:
    """Refuses a picture that its header tells to be too large; see `open_picture`.

    Raises:
        InputError: it has more pixels.
    """
    head = found.head
    asked = max_pixels != MAX_PIXELS or numbers_of(found, where) is None
    limit = max_pixels if asked else max_pixels * _MORE
    if head.width * head.height > limit:
        raise InputError(_too_large(where, f"{head.width}x{head.height} pixels"))


def _warnings(head: Head) -> tuple[str, ...]:
    """What the user should know of a picture, by its header: sentences without their subject."""
    if head.frames > 1:
        return (f" holds {head.frames} pictures; the first one is taken",)
    return ()


def _too_large(where: str, size: str) -> str:
    return (
        f"{where} has {size}, above the limit; "
        f"raise --max-input-pixels if it is meant to be this large"
    )


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
    return Picture(pixels=pixels, alpha=alpha, grey=grey, neutral=grey or is_neutral(pixels, alpha))


def _in_range(array: NDArray[Any]) -> NDArray[np.float32]:
    if array.dtype == np.uint8:
        return unit(array, 255)
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


def _kept_text(head: Head) -> dict[str, str]:
    """Texts; that of A1111 also from the user comment or from our own XMP."""
    kept = {name: each for name, each in head.text.items() if name != OWN}
    parameters = head.exif.parameters or xmp.found(head.xmp or "", "parameters")
    return {"parameters": parameters} | kept if parameters else kept
