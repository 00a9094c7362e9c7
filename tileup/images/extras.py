"""What stands beside the pixels of an output: EXIF, XMP and their like, in more and less."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from tileup.images import xmp
from tileup.images.exif import stamped
from tileup.images.formats.format import Said
from tileup.images.picture import Picture

log = logging.getLogger(__name__)


def given(**options: object) -> dict[str, Any]:
    """Options that are there: not every encoder takes None for absent."""
    return {name: value for name, value in options.items() if value is not None}


def exif_choices(picture: Picture, said: Said | None) -> Iterator[bytes | None]:
    """EXIF with the parameters as user comment, the fullest first."""
    text = None if said is None else said.parameters
    for block, comment in ((picture.exif, text), (None, text), (picture.exif, None), (None, None)):
        yield stamped(block, picture.width, picture.height, comment)


def xmp_choices(picture: Picture, said: Said | None) -> Iterator[bytes | None]:
    """XMP of the input with our settings, then with less and less."""
    settings = None if said is None else {"settings": said.settings}
    bare = replace(picture, xmp=None)
    choices = [merged(picture, settings)]
    if said is not None:
        choices += [merged(picture, {}), merged(bare, settings), merged(bare, {})]
    yield from (packet.encode() for packet in choices if packet is not None)
    yield None


def merged(picture: Picture, ours: Mapping[str, str] | None) -> str | None:
    """XMP of the input with properties of ours; None to say nothing of our own."""
    packet = None if ours is None else xmp.packet(ours)
    return xmp.merged(picture.xmp, picture.width, picture.height, packet)


def whole_dpi(picture: Picture) -> tuple[int, int] | None:
    """Pixels per inch for formats that hold whole numbers."""
    return None if picture.dpi is None else (round(picture.dpi[0]), round(picture.dpi[1]))


def over_white(picture: Picture, title: str) -> Picture:
    """The picture without alpha, for formats that have none."""
    if picture.alpha is None:
        return picture
    log.warning("%s has no transparency: the picture is laid over white", title)
    alpha = picture.alpha[..., None]
    return replace(picture, pixels=picture.pixels * alpha + (1 - alpha), alpha=None)
