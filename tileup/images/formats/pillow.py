"""Files that Pillow decodes: the header of an image, and its pixels."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tileup.images import xmp
from tileup.images.colour import cmyk_to_rgb
from tileup.images.exif import read_exif
from tileup.images.formats.format import Head, OpenedPicture, Raster, UnreadableError
from tileup.images.pixels import unit

_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK"})
_GREY = ("1", "L", "LA")


def opened_by_pillow(name: str, image: Image.Image, **more: Any) -> OpenedPicture:  # noqa: ANN401
    """A file whose pixels Pillow decodes.

    Args:
        name: of the format.
        image: with its header read.
        more: fields of `Head` that Pillow does not tell.
    """
    return OpenedPicture(name, head_of(image, **more), partial(raster_of, image))


def head_of(image: Image.Image, **more: Any) -> Head:  # noqa: ANN401
    """What Pillow found in a header; `more` comes on top of it."""
    found: dict[str, Any] = {
        "width": image.width,
        "height": image.height,
        "exif": read_exif(image),
        "frames": int(getattr(image, "n_frames", 1)),
        "mode": image.mode,
        "icc": image.info.get("icc_profile") or None,
        "xmp": xmp.packet_of(image.info) or None,
        "dpi": plausible_dpi(image.info),
        "text": comment_of(image.info.get("comment")),
    }
    return Head(**(found | more))


def comment_of(raw: object) -> dict[str, str]:
    """A comment among the texts; in UTF-8, or else in Latin-1."""
    if not isinstance(raw, bytes):
        return {}
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    text = text.strip("\0 ")
    return {"Comment": text} if text else {}


def plausible_dpi(info: Mapping[Any, Any]) -> tuple[float, float] | None:
    """Pixels per inch, where a file gives numbers that make sense."""
    try:
        across, down = (float(value) for value in cast("tuple[float, float]", info.get("dpi")))
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (across, down) if 1 <= across <= 30_000 and 1 <= down <= 30_000 else None


def raster_of(image: Image.Image) -> Raster:
    """The pixels of an image of 8 bits per channel.

    Raises:
        UnreadableError: its channels would be lost or misread.
    """
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        raise too_deep()
    if image.mode not in _MODES:
        raise UnreadableError(f"is a {image.mode} picture; convert it to RGB first")
    image.load()
    if image.mode != "CMYK":
        return Raster(_channels(image))
    shown, profile, told = cmyk_to_rgb(image)
    return Raster(_channels(shown), recoloured=(profile, told))


def too_deep() -> UnreadableError:
    """The refusal of channels that are neither of 8 nor of 16 bits."""
    return UnreadableError(
        "has channels of more than 8 bits that are not 16-bit grey or RGB; "
        "convert it to one of these first"
    )


def _channels(image: Image.Image) -> NDArray[np.float32]:
    colour, clear = ("L", "LA") if image.mode in _GREY else ("RGB", "RGBA")
    # Palettes and colour keys turn transparent on the way to a mode with alpha.
    data = np.asarray(image.convert(clear if image.has_transparency_data else colour))
    return unit(data.reshape(*data.shape[:2], -1), 255)


def raster_of_words(words: NDArray[Any], size: tuple[int, int], bits: int) -> Raster:
    """Deep pixels as they are stored.

    Args:
        words: shape (H, W) or (H, W, 1 to 4), uint16.
        size: width and height that the header gives.
        bits: per channel.

    Raises:
        UnreadableError: the channels are laid out in a way that is not known.
    """
    planes = words.reshape(*words.shape[:2], -1)
    if words.dtype != np.uint16 or planes.shape[1::-1] != size or planes.shape[2] > 4:
        raise too_deep()
    return Raster(unit(planes, 2**bits - 1), deep=True)
