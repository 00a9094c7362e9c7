"""Saving pictures: with what the input carried, and whole or not at all."""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, BinaryIO

from tileup.errors import OutputError, UsageError
from tileup.images.conversion import APART, fitted, idle, is_apart
from tileup.images.formats.format import Format, Provenance, Way
from tileup.images.formats.known import BY_NAME, WRITTEN, WRITTEN_IN_WORDS, format_of
from tileup.images.metadata import Metadata, parameters_text, settings_json
from tileup.images.picture import Picture
from tileup.images.sizes import check_format_limit
from tileup.images.whole import Content, OnWritten, checked_target, put, write_whole
from tileup.wording import listed

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
    compression: int = 4,
    lossless: bool | None = None,
    metadata: Metadata | None = None,
    overwrite: bool = False,
    on_written: OnWritten | None = None,
) -> tuple[str, ...]:
    """Writes a picture, so that the file appears whole or not at all.

    Args:
        picture: what to write.
        target: file, whose folder is made where it is missing; or a stream.
        format: the name of one of `FORMATS` that is written.
        quality: 1 to 100, of JPEG, WebP, AVIF and JPEG XL.
        compression: 0 to 9, of PNG: from fast to small.
        lossless: whether every pixel is kept where the format can; None: where it is that of the
            input, as the input did.
        metadata: how it was made; None writes nothing about that, not even what the input said.
        overwrite: whether a file that is there already is replaced.
        on_written: see `write_whole`.

    Returns:
        Sentences about what the format cannot hold and what else the user should know.

    Raises:
        OutputExistsError: the file is there, and `overwrite` is false.
        OutputError: the picture has values that are no numbers, is too large for the format, or
            cannot be written. The target is then as it was, and nothing lies beside it.
    """
    lossless = _keeps(picture, format) if lossless is None else lossless
    way = Way(quality, compression, lossless, _said(metadata))
    if not isinstance(target, Path):
        content, told = _encoded(picture, format, way)
        put(content, target)
        return _sentences("the output", format, way, told())
    # Before the work of encoding, and once more when it is written.
    checked_target(target, overwrite)
    content, told = _encoded(picture, format, way)
    write_whole(target, content, overwrite=overwrite, on_written=on_written)
    return _sentences(str(target), format, way, told())


def _keeps(picture: Picture, format: str) -> bool:
    return picture.lossless and picture.format == format


@dataclass(frozen=True, slots=True)
class _WriteNotes:
    lost: tuple[str, ...]
    """What the format cannot hold."""
    apart: bool
    """Whether what we say stands in XMP alone."""
    profile: int
    """Bytes of the colour profile."""


PROFILE_READ = 2**20
"""Bytes of a profile in a PNG from which on programs that use Pillow do not open the picture."""


def _sentences(where: str, format: str, way: Way, told: _WriteNotes) -> tuple[str, ...]:
    """What is lost, what others may not read, and what is the same for all pictures."""
    title, lost = format_of(format).title, [*dict.fromkeys(told.lost)]
    about = [f"{where}: {title} cannot hold {listed(lost)}"] if lost else []
    if format == "png" and told.profile > PROFILE_READ:
        about.append(
            f"{where}: its colour profile has {told.profile / 2**20:.1f} MB, and programs that use "
            f"Pillow open no PNG with more than 1; -f tif is opened"
        )
    return (*about, *idle(format_of(format), way), *([APART] if told.apart else []))


def _said(metadata: Metadata | None) -> Provenance | None:
    return metadata and Provenance(parameters_text(metadata), settings_json(metadata))


def _encoded(picture: Picture, name: str, way: Way) -> tuple[Content, Callable[[], _WriteNotes]]:
    """The file, as a whole or band by band, and what is to be told once it is written.

    The same arguments give the same bytes, wherever the pixels lie.
    """
    check_format_limit(picture.width, picture.height, name)
    format = format_of(name)
    late: list[str] = []
    way = replace(way, tell=late.append)
    fit, lost = fitted(picture, format, way)

    def write_bands(stream: IO[bytes]) -> None:
        assert format.write_bands is not None
        with _explained(picture, name):
            format.write_bands(fit, way, stream)

    def told() -> _WriteNotes:
        return _WriteNotes((*lost, *late), is_apart(fit, format, way), len(fit.icc or b""))

    if is_in_bands(picture.width, picture.height, format):
        log.info("the picture is encoded band by band")
        return write_bands, told
    assert format.write is not None
    with _explained(picture, name):
        return format.write(fit, way), told


BANDED = 2**24
"""Pixels from which a picture is encoded band by band, where its format can be."""


def is_in_bands(width: int, height: int, format: Format) -> bool:
    """Whether a picture is encoded while it is written, so that it need not be in memory."""
    return format.write_bands is not None and width * height >= BANDED


@contextmanager
def _explained(picture: Picture, name: str) -> Generator[None]:
    """Turns what an encoder raises into an `OutputError`."""
    try:
        yield
    except (OSError, ValueError, OverflowError, RuntimeError, struct.error) as error:
        if getattr(error, "errno", None) is not None:
            raise  # of the disk, and no encoder's
        raise OutputError(
            f"{picture.width}x{picture.height} pixels cannot be encoded as {name} ({error}); "
            f"try png"
        ) from error
