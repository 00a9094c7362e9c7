"""Saving pictures: with what the input carried, and whole or not at all."""

from __future__ import annotations

import logging
import struct
from pathlib import Path
from typing import BinaryIO

from tileup.errors import OutputError, UsageError
from tileup.images.formats import BY_NAME, WRITTEN, WRITTEN_IN_WORDS, format_of
from tileup.images.formats.format import Format, Said, Way
from tileup.images.metadata import Metadata, parameters_text, settings_json
from tileup.images.picture import Picture
from tileup.images.sizes import check_format_limit
from tileup.images.whole import OnWritten, checked_target, write_whole

log = logging.getLogger(__name__)


def resolve_format(path: Path | None, wanted: str | None, input_format: str | None) -> str:
    """File format of an output: the name of one of `FORMATS` that is written.

    Args:
        path: where it goes; None for a stream.
        wanted: format that the user asked for.
        input_format: that of the input, taken where neither of the others says; None is PNG.

    Raises:
        UsageError: the extension or the wanted format is unknown, or they contradict each other.
    """
    extension = path.suffix[1:].lower() if path is not None else ""
    if extension and extension not in WRITTEN:
        raise UsageError(f"{path}: {_unknown(extension)}")
    if wanted is not None and wanted.lower() not in WRITTEN:
        raise UsageError(_unknown(wanted))
    by_extension = WRITTEN.get(extension)
    by_wish = None if wanted is None else WRITTEN[wanted.lower()]
    if by_wish and by_extension and by_wish != by_extension:
        raise UsageError(
            f"{path}: its extension contradicts format {by_wish.name!r}; leave one away"
        )
    given = BY_NAME.get(input_format or "")
    by_input = given if given is not None and given.write else BY_NAME["png"]
    return (by_wish or by_extension or by_input).name


def _unknown(format: str) -> str:
    return f"format {format!r} cannot be written; tileup writes {WRITTEN_IN_WORDS}"


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
        format: the name of one of `FORMATS` that is written.
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


def _encoded(picture: Picture, name: str, quality: int, metadata: Metadata | None) -> bytes:
    """The whole file; the same picture and metadata give the same bytes."""
    check_format_limit(picture.width, picture.height, name)
    format = format_of(name)
    _tell_losses(picture, format)
    said = None
    if metadata is not None:
        said = Said(parameters_text(metadata), settings_json(metadata))
    assert format.write is not None
    try:
        return format.write(picture, Way(quality, said))
    except (OSError, ValueError, OverflowError, RuntimeError, struct.error) as error:
        raise OutputError(
            f"{picture.width}x{picture.height} pixels cannot be encoded as {name} ({error}); "
            f"try png"
        ) from error


def _tell_losses(picture: Picture, format: Format) -> None:
    """Say what a format cannot hold of a picture."""
    name, bits = format.name, format.bits
    if picture.deep and bits < 16 and name != picture.format:
        log.warning("%s has %d bits per channel: 16 are kept in png, tif and jp2", name, bits)
    if picture.cicp is not None and "cicp" not in format.holds:
        log.warning(
            "%s cannot say which colours the input has (CICP %d/%d, in place of a profile), so "
            "they will be taken for sRGB: png and avif can",
            name,
            *picture.cicp,
        )
    if not format.holds & {"exif", "xmp"} and (picture.exif or picture.xmp):
        log.warning("%s holds no EXIF and no XMP: they are left out", format.title)
