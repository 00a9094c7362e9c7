"""Saving pictures: with what the input carried, and whole or not at all."""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tileup.errors import OutputError, UsageError
from tileup.images import xmp
from tileup.images.colour import in_srgb
from tileup.images.deep import png_of_words, tiff_of_words
from tileup.images.exif import loaded, stamped
from tileup.images.formats import avif
from tileup.images.formats import jpeg2000 as jp2
from tileup.images.metadata import Metadata, parameters_text, settings_json
from tileup.images.picture import Picture
from tileup.images.sizes import check_format_limit
from tileup.images.whole import OnWritten, checked_target, write_whole
from tileup.settings.values import FORMATS

log = logging.getLogger(__name__)

_DEEP = {"png": 16, "tif": 16, "jp2": 16, "avif": avif.BITS}
"""Formats that hold more than 8 bits per channel, and how many are written."""
_JPEG_SEGMENT = 65_000
"""Bytes that a JPEG marker holds, less what Pillow puts in front of EXIF and XMP."""
_CLASSIC_TIFF = 2**32 - 2**24
"""Bytes of pixels up to which a TIFF is written with 32-bit offsets."""
_XMP_TAG = 700
_FULL_CHROMA_QUALITY = 90
"""JPEG quality from which colour is stored at full resolution."""


KNOWN = "png, jpg, webp, tif, avif, bmp and jp2"
"""What is written, in words."""


def resolve_format(path: Path | None, wanted: str | None, input_format: str | None) -> str:
    """File format of an output: one of `KNOWN`.

    Args:
        path: where it goes; None for a stream.
        wanted: format that the user asked for.
        input_format: that of the input, taken where neither of the others says; None is PNG.

    Raises:
        UsageError: the extension or the wanted format is unknown, or they contradict each other.
    """
    extension = path.suffix[1:].lower() if path is not None else ""
    if extension and extension not in FORMATS:
        raise UsageError(f"{path}: {_unknown(extension)}")
    if wanted is not None and wanted.lower() not in FORMATS:
        raise UsageError(_unknown(wanted))
    by_extension = FORMATS.get(extension)
    by_wish = FORMATS[wanted.lower()] if wanted is not None else None
    if by_wish and by_extension and by_wish != by_extension:
        raise UsageError(f"{path}: its extension contradicts format {by_wish!r}; leave one away")
    return by_wish or by_extension or FORMATS.get(input_format or "", "png")


def _unknown(format: str) -> str:
    return f"format {format!r} cannot be written; tileup writes {KNOWN}"


def save_picture(
    picture: Picture,
    target: Path | BinaryIO,
    format: str,
    *,
    quality: int = 92,
    metadata: Metadata | None = None,
    overwrite: bool = False,
    on_written: OnWritten | None = None,
) -> None:
    """Writes a picture, so that the file appears whole or not at all.

    Args:
        picture: what to write. JPEG and BMP have no alpha: it is laid over white, with a warning.
        target: file, whose folder is made where it is missing; or a stream.
        format: one of `KNOWN`.
        quality: 1 to 100, of JPEG, WebP and AVIF.
        metadata: how it was made; None writes nothing about that, not even what the input said.
        overwrite: whether a file that is there already is replaced.
        on_written: see `write_whole`.

    Raises:
        OutputExistsError: the file is there, and `overwrite` is false.
        OutputError: the picture has values that are no numbers, is too large for the format, or
            cannot be written. The target is then as it was, and nothing lies beside it.
    """
    if not isinstance(target, Path):
        target.write(_encoded(picture, format, quality, metadata))
        return
    # Before the work of encoding, and once more when it is written.
    checked_target(target, overwrite)
    data = _encoded(picture, format, quality, metadata)
    write_whole(target, data, overwrite=overwrite, on_written=on_written)


def to_image(picture: Picture) -> Image.Image:
    """8-bit Pillow image of mode L, LA, RGB or RGBA, each value rounded to the nearest.

    Raises:
        OutputError: a value is no number, or infinite.
    """
    data = _whole(_planes(picture), 255).astype(np.uint8)
    return Image.fromarray(data[..., 0] if data.shape[2] == 1 else data)


def to_words(picture: Picture, bits: int = 16) -> NDArray[np.uint16]:
    """Whole numbers of so many bits, shape (H, W) or (H, W, 2 to 4), rounded to the nearest.

    Raises:
        OutputError: a value is no number, or infinite.
    """
    data = _whole(_planes(picture), 2**bits - 1).astype(np.uint16)
    return data[..., 0] if data.shape[2] == 1 else data


def _planes(picture: Picture) -> NDArray[np.floating[Any]]:
    """Grey or RGB, then alpha where there is one: shape (H, W, 1 to 4)."""
    colours: NDArray[np.floating[Any]] = picture.pixels
    if picture.grey:
        colours = colours.mean(axis=2, keepdims=True, dtype=np.float64)
    return colours if picture.alpha is None else np.dstack([colours, picture.alpha])


def _whole(values: NDArray[np.floating[Any]], most: int) -> NDArray[np.floating[Any]]:
    """Values in [0, 1] as whole numbers up to `most`."""
    if not np.isfinite(values).all():
        raise OutputError(
            "the result holds values that are no numbers; try another model or sampler"
        )
    return np.rint(np.clip(values, 0, 1) * most)


def _encoded(picture: Picture, format: str, quality: int, metadata: Metadata | None) -> bytes:
    """The whole file; the same picture and metadata give the same bytes."""
    check_format_limit(picture.width, picture.height, format)
    _tell_losses(picture, format)
    stream = BytesIO()
    try:
        _ENCODERS[format](picture, stream, quality, metadata)
    except (OSError, ValueError, OverflowError, RuntimeError, struct.error) as error:
        raise OutputError(
            f"{picture.width}x{picture.height} pixels cannot be encoded as {format} ({error}); "
            f"try png"
        ) from error
    return stream.getvalue()


def _tell_losses(picture: Picture, format: str) -> None:
    """Say what a format cannot hold of a picture."""
    bits = _DEEP.get(format, 8)
    if picture.deep and bits < 16 and format != picture.format:
        log.warning("%s has %d bits per channel: 16 are kept in png, tif and jp2", format, bits)
    if picture.cicp is not None and format not in ("png", "avif"):
        log.warning(
            "%s cannot say which colours the input has (CICP %d/%d, in place of a profile), so "
            "they will be taken for sRGB: png and avif can",
            format,
            *picture.cicp,
        )
    if format == "bmp" and (picture.exif or picture.xmp):
        log.warning("BMP holds no EXIF and no XMP: they are left out")


def _encode_png(picture: Picture, stream: BinaryIO, _: int, metadata: Metadata | None) -> None:
    chunks = PngInfo()
    if metadata is not None:
        for name in ("prompt", "workflow"):
            if name in picture.text:
                chunks.add_text(name, picture.text[name])
        chunks.add_text("parameters", parameters_text(metadata))
        chunks.add_text("tileup", settings_json(metadata))
    packet = _merged(picture, None if metadata is None else {})
    if packet is not None:
        chunks.add_itxt("XML:com.adobe.xmp", packet)
    if picture.cicp is not None:
        # RGB as it is (matrix 0), all of the range.
        chunks.add(b"cICP", bytes([*picture.cicp, 0, 1]))
    options = {
        "pnginfo": chunks,
        "icc_profile": picture.icc,
        "exif": stamped(picture.exif, picture.width, picture.height),
        **_given(dpi=picture.dpi),
    }
    if not picture.deep:
        to_image(picture).save(stream, "PNG", **options)
        return
    example = BytesIO()
    Image.new("L", (1, 1)).save(example, "PNG", **options)
    stream.write(png_of_words(to_words(picture), example.getvalue()))


def _encode_jpeg(
    picture: Picture, stream: BinaryIO, quality: int, metadata: Metadata | None
) -> None:
    to_image(_over_white(picture, "JPEG")).save(
        stream,
        "JPEG",
        quality=quality,
        subsampling=0 if quality >= _FULL_CHROMA_QUALITY else 2,
        icc_profile=picture.icc,
        exif=_first_that_fits(_exif_choices(picture, metadata)) or b"",
        **_given(xmp=_first_that_fits(_xmp_choices(picture, metadata)), dpi=_whole_dpi(picture)),
    )


def _encode_webp(
    picture: Picture, stream: BinaryIO, quality: int, metadata: Metadata | None
) -> None:
    to_image(picture).save(
        stream,
        "WEBP",
        quality=quality,
        **_given(
            icc_profile=picture.icc,
            exif=next(_exif_choices(picture, metadata)),
            xmp=next(_xmp_choices(picture, metadata)),
        ),
    )


def _encode_tiff(picture: Picture, stream: BinaryIO, _: int, metadata: Metadata | None) -> None:
    exif = loaded(stamped(picture.exif, picture.width, picture.height))
    texts = None
    if metadata is not None:
        texts = {"parameters": parameters_text(metadata), "settings": settings_json(metadata)}
    packet = _merged(picture, texts)
    if packet is not None:
        exif[_XMP_TAG] = packet.encode()
    size = picture.pixels.size * 4 // 3 * (2 if picture.deep else 1)

    def save(image: Image.Image, stream: BinaryIO) -> None:
        image.save(
            stream,
            "TIFF",
            # Compressed ones are written by libtiff, which refuses EXIF.
            compression="raw",
            big_tiff=size > _CLASSIC_TIFF,
            exif=exif,
            **_given(icc_profile=picture.icc, dpi=picture.dpi),
        )

    if picture.deep:
        stream.write(tiff_of_words(to_words(picture), save))
    else:
        save(to_image(picture), stream)


def _encode_avif(
    picture: Picture, stream: BinaryIO, quality: int, metadata: Metadata | None
) -> None:
    stream.write(
        avif.encode(
            to_words(picture, avif.BITS) if picture.deep else np.asarray(to_image(picture)),
            quality,
            icc=picture.icc,
            exif=next(_exif_choices(picture, metadata)),
            xmp=next(_xmp_choices(picture, metadata)),
            cicp=picture.cicp,
        )
    )


def _encode_jp2(picture: Picture, stream: BinaryIO, _: int, metadata: Metadata | None) -> None:
    stream.write(
        jp2.encode(
            to_words(picture) if picture.deep else np.asarray(to_image(picture)),
            icc=picture.icc,
            exif=next(_exif_choices(picture, metadata)),
            xmp=next(_xmp_choices(picture, metadata)),
            dpi=picture.dpi,
        )
    )


def _encode_bmp(picture: Picture, stream: BinaryIO, _: int, metadata: Metadata | None) -> None:
    image = to_image(_over_white(picture, "BMP"))
    if picture.icc is not None:
        converted = in_srgb(image, picture.icc)
        log.warning(
            "BMP holds no colour profile: %s",
            "the picture was converted to sRGB" if converted else "colours may be off",
        )
        image = converted or image
    image.save(stream, "BMP", **_given(dpi=_whole_dpi(picture)))


_ENCODERS: dict[str, Callable[[Picture, BinaryIO, int, Metadata | None], None]] = {
    "png": _encode_png,
    "jpg": _encode_jpeg,
    "webp": _encode_webp,
    "tif": _encode_tiff,
    "avif": _encode_avif,
    "jp2": _encode_jp2,
    "bmp": _encode_bmp,
}


def _given(**options: object) -> dict[str, Any]:
    """Options that are there: not every encoder takes None for absent."""
    return {name: value for name, value in options.items() if value is not None}


def _exif_choices(picture: Picture, metadata: Metadata | None) -> Iterator[bytes | None]:
    """EXIF with the parameters as user comment, the fullest first."""
    text = None if metadata is None else parameters_text(metadata)
    for block, comment in ((picture.exif, text), (None, text), (picture.exif, None), (None, None)):
        yield stamped(block, picture.width, picture.height, comment)


def _xmp_choices(picture: Picture, metadata: Metadata | None) -> Iterator[bytes | None]:
    """XMP of the input with our settings, then with less and less."""
    settings = None if metadata is None else {"settings": settings_json(metadata)}
    bare = replace(picture, xmp=None)
    choices = [_merged(picture, settings)]
    if metadata is not None:
        choices += [_merged(picture, {}), _merged(bare, settings), _merged(bare, {})]
    yield from (packet.encode() for packet in choices if packet is not None)
    yield None


def _merged(picture: Picture, ours: Mapping[str, str] | None) -> str | None:
    packet = None if ours is None else xmp.packet(ours)
    return xmp.merged(picture.xmp, picture.width, picture.height, packet)


def _whole_dpi(picture: Picture) -> tuple[int, int] | None:
    return None if picture.dpi is None else (round(picture.dpi[0]), round(picture.dpi[1]))


def _first_that_fits(choices: Iterable[bytes | None]) -> bytes | None:
    """The first that a JPEG marker can hold, with a warning where that is not the fullest."""
    for number, choice in enumerate(choices):
        if choice is None or len(choice) <= _JPEG_SEGMENT:
            if number:
                log.warning("JPEG holds 64 kB of EXIF and of XMP each: some was left out")
            return choice
    return None


def _over_white(picture: Picture, format: str) -> Picture:
    if picture.alpha is None:
        return picture
    log.warning("%s has no transparency: the picture is laid over white", format)
    alpha = picture.alpha[..., None]
    return replace(picture, pixels=picture.pixels * alpha + (1 - alpha), alpha=None)
