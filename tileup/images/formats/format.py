"""What a picture format is: how its files are told, read and written, and what they hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from tileup.images.calibration import Calibration
from tileup.images.exif import Exif
from tileup.images.picture import Picture
from tileup.settings.format_names import FORMAT_NAMES, FormatName

CREDENTIALS = "its content credentials"
"""What is told of a signature (C2PA), which is one of the file as it was."""


class UnreadableError(Exception):
    """A picture that is whole, but of a kind that is not read: a sentence without its subject."""


@dataclass(frozen=True, slots=True)
class Head:
    """What a file says of its picture before the pixels are decoded."""

    width: int
    """Of the picture as it is stored, pixels."""
    height: int
    exif: Exif = field(default_factory=Exif)
    """Its orientation is that of the pixels as `OpenedPicture.decode` gives them."""
    frames: int = 1
    """Pictures in the file."""
    mode: str = ""
    """How the pixels are stored, as `tileup info` names it."""
    lossless: bool = False
    """Whether the file keeps every pixel, of a format that need not."""
    icc: bytes | None = None
    calibration: Calibration | None = None
    """What its numbers mean, where no profile says more; None for those of sRGB."""
    cicp: tuple[int, int] | None = None
    """Primaries and transfer by number, where no profile says more; None for those of sRGB."""
    xmp: str | None = None
    """Packet, as it stands in the file."""
    dpi: tuple[float, float] | None = None
    """Pixels per inch, across and down."""
    iptc: bytes | None = None
    """IPTC-IIM records."""
    text: Mapping[str, str] = field(default_factory=dict[str, str])
    """Text by PNG's keywords; `Comment` is also that of JPEG and GIF."""
    left: tuple[str, ...] = ()
    """What else the file holds and no output can, in words."""

    @property
    def upright(self) -> tuple[int, int]:
        """Width and height as the picture is seen."""
        turned = self.exif.orientation >= 5
        return (self.height, self.width) if turned else (self.width, self.height)


@dataclass(frozen=True, slots=True)
class Raster:
    """Decoded pixels."""

    values: NDArray[np.float32]
    """Shape (H, W, 1 to 4), in [0, 1]: grey or RGB, and then alpha where there is one."""
    deep: bool = False
    """Whether the file has more than 8 bits per channel."""
    icc: bytes | None = None
    """Their profile, where only decoding tells it."""
    recoloured: tuple[bytes | None, str] | None = None
    """Where colours had to be converted: the profile they have now, and a sentence about it."""


Reopen = Callable[[], AbstractContextManager[IO[bytes]]]
"""Opens a file once more."""
Bands = Callable[[Reopen], Iterator[NDArray[Any]]]
"""Decodes a file from the top down: bands of whole numbers, shape (rows, W, channels). Raises
what is in `tileup.images.exif.BROKEN`."""


@dataclass(frozen=True, slots=True)
class ByBands:
    """How the rows of a file are decoded one after the other, none of them kept."""

    channels: int
    """Of a pixel: grey or RGB, and then alpha."""
    bits: int
    """Of a channel, 8 or 16."""
    bands: Bands


@dataclass(frozen=True, slots=True)
class OpenedPicture:
    """A picture file whose header is read and whose pixels are not."""

    format: str
    """Name of its format."""
    head: Head
    decode: Callable[[], Raster]
    """Reads the pixels, as they are stored; raises `UnreadableError`, or what is in
    `tileup.images.exif.BROKEN`."""
    by_bands: ByBands | None = None
    """The same for a picture that need not be in memory; None where it is decoded as a whole."""
    reopen: Reopen | None = None
    """Opens its file once more."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """What an output says about how it was made."""

    parameters: str
    """The text that A1111 calls so."""
    settings: str
    """All settings as JSON."""


@dataclass(frozen=True, slots=True)
class Way:
    """How a picture is written."""

    quality: int = 92
    """1 to 100, of formats that lose something."""
    compression: int = 4
    """0 to 9, of PNG: from fast to small."""
    lossless: bool = False
    """Whether every pixel is kept, of formats that need not."""
    said: Provenance | None = None
    """None: nothing is said of how it was made, not even what the input said."""
    tell: Callable[[str], None] = lambda lost: None
    """Told, in words, what the format turns out not to hold."""


@dataclass(frozen=True, slots=True)
class Format:
    """One kind of picture file."""

    name: str
    """Of its row in `FORMAT_NAMES`."""
    pillow: tuple[str, ...]
    """What Pillow calls it."""
    signatures: tuple[tuple[int, bytes], ...]
    """Where its first bytes stand, and which they are; one of them tells it."""
    open: Callable[[IO[bytes]], OpenedPicture]
    """Reads the header; raises `UnreadableError`, or what is in `tileup.images.exif.BROKEN`."""
    write: Callable[[Picture, Way], bytes] | None = None
    """Encodes a picture: the same one in the same way gives the same bytes. None: only read."""
    write_bands: Callable[[Picture, Way, IO[bytes]], None] | None = None
    """The same for a picture that need not be in memory: written as it is encoded, band by band.
    The bytes may be others. None: it is encoded as a whole."""
    bits: int = 8
    """Most bits per channel that are written."""
    longest: int | None = None
    """Longest side that is written, pixels."""
    most_pixels: int | None = None
    """Most pixels that are written."""
    holds: frozenset[str] = frozenset()
    """What it carries of a picture besides its colours: alpha, icc, cicp, exif, xmp, iptc, text."""

    @property
    def names(self) -> FormatName:
        """What it and its files are called."""
        return next(each for each in FORMAT_NAMES if each.name == self.name)

    @property
    def title(self) -> str:
        """In words: JPEG 2000."""
        return self.names.title
