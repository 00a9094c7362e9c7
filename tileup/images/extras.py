"""What stands beside the pixels of an output: EXIF, XMP and texts, and which of them where.

A person's words and a foreign generator's text stay where readers look for them. Ours takes that
place only where it is free; else it stands in XMP alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tileup.images import generators, xmp
from tileup.images.exif import TEXTS, has_comment, stamped
from tileup.images.formats.format import Provenance
from tileup.images.picture import Picture

_COMFY = {0x0110: "prompt", 0x010F: "workflow"}
"""Where ComfyUI keeps its texts in the EXIF of a WebP."""


def given(**options: object) -> dict[str, Any]:
    """Options that are there: not every encoder takes None for absent."""
    return {name: value for name, value in options.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the texts of a picture go in a file that has EXIF, and no texts of its own."""

    comment: str | None = None
    """For the user comment; None leaves what is there."""
    tags: Mapping[int, str] = field(default_factory=dict[int, str])
    """For tags of the main directory that are free."""
    apart: bool = False
    """Whether what we say of how it was made is in XMP alone."""
    lost: tuple[str, ...] = ()
    """Keywords of texts that have no place."""


def placement(
    picture: Picture, said: Provenance | None, *, comments: bool = False, comfy: bool = False
) -> Placement:
    """Where texts go.

    Args:
        picture: whose texts they are.
        said: what we say.
        comments: whether the format has comments besides EXIF.
        comfy: whether ComfyUI looks for its texts in this format.
    """
    left = generators.personal(picture.text)
    foreign = generators.foreign(picture.text) if said is not None else {}
    tags = {tag: left.pop(word) for tag, word in _tags(left)}
    if comfy:
        found = {tag: f"{word}:{foreign.pop(word)}" for tag, word in _COMFY.items()
                 if word in foreign}  # fmt: skip
        tags |= found
    else:
        found = {}
    if comments:
        left.pop("Comment", None)
    taken = has_comment(picture.exif)
    comment = None if taken else left.pop("Comment", foreign.pop(generators.PARAMETERS, None))
    apart = bool(taken or comment is not None or foreign or found)
    if not apart and said is not None:
        comment = said.parameters
    left.pop("Software", None)
    return Placement(comment, tags, apart, tuple(sorted({*left, *foreign})))


def _tags(texts: Mapping[str, str]) -> Iterator[tuple[int, str]]:
    for tag, words in TEXTS.items():
        for word in words:
            if word in texts:
                yield tag, word
                break


def texts_to_write(picture: Picture, said: Provenance | None) -> dict[str, str]:
    """The texts of a format that holds texts by their keywords."""
    kept = generators.personal(picture.text)
    return kept if said is None else kept | generators.foreign(picture.text)


def stands_apart(picture: Picture) -> bool:
    """Whether another generator's text takes the place of ours, where texts have keywords."""
    return bool(generators.foreign(picture.text))


def exif_choices(
    picture: Picture, said: Provenance | None, *, comments: bool = False, comfy: bool = False
) -> Iterator[bytes | None]:
    """EXIF with everything that goes there, the fullest first."""
    place = placement(picture, said, comments=comments, comfy=comfy)
    no_tags: Mapping[int, str] = {}
    for block, comment, tags in (
        (picture.exif, place.comment, place.tags),
        (None, place.comment, no_tags),
        (picture.exif, None, place.tags),
        (None, None, no_tags),
    ):
        size = picture.width, picture.height
        yield stamped(block, *size, comment, growth=picture.growth, texts=tags)


def ours(said: Provenance, apart: bool, *, bare: bool = False) -> dict[str, str]:
    """Our properties of XMP; `bare` where the settings stand elsewhere."""
    found = {} if bare else {"settings": said.settings}
    return {"parameters": said.parameters} | found if apart else found


def xmp_choices(
    picture: Picture, said: Provenance | None, *, comments: bool = False, comfy: bool = False
) -> Iterator[bytes | None]:
    """XMP of the input with our settings, then with less and less."""
    if said is None:
        choices = [merged(picture, None)]
    else:
        apart = placement(picture, said, comments=comments, comfy=comfy).apart
        full, bare = ours(said, apart), replace(picture, xmp=None)
        choices = [merged(picture, full), merged(picture, {}), merged(bare, full), merged(bare, {})]
    yield from (packet.encode() for packet in choices if packet is not None)
    yield None


def merged(picture: Picture, properties: Mapping[str, str] | None) -> str | None:
    """XMP of the input with properties of ours; None to say nothing of our own."""
    size = picture.width, picture.height
    return xmp.merged(picture.xmp, *size, properties, growth=picture.growth)


def whole_dpi(picture: Picture) -> tuple[int, int] | None:
    """Pixels per inch for formats that hold whole numbers."""
    return None if picture.dpi is None else (round(picture.dpi[0]), round(picture.dpi[1]))
