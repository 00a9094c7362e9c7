"""A picture in memory: what reading makes, enlarging and sampling change, and writing takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from tileup.images.generators import keywords_of_generators
from tileup.images.pixels import Pixels


@dataclass(frozen=True, slots=True)
class Picture:
    """An upright picture and everything of its file that the result should carry on."""

    pixels: Pixels
    """Shape (H, W, 3), RGB in [0, 1], in the file's own colour space. Of a large picture rows may
    come from a file as they are asked for; `whole` has them all."""
    alpha: NDArray[np.float32] | None = None
    """Shape (H, W), 0 transparent to 1 opaque; None when all of it is opaque."""
    grey: bool = False
    """The file had one colour channel and is written back as one."""
    deep: bool = False
    """The file had more than 8 bits per channel and is written back so where the format can."""
    neutral: bool = False
    """Nothing that can be seen of it had a colour, though the file may have colour channels."""
    lossless: bool = False
    """The file kept every pixel, though its format need not."""
    origin: tuple[int, int] | None = None
    """Width and height of the upright picture in the file; None for arrays."""
    icc: bytes | None = None
    """Colour profile, as it was."""
    cicp: tuple[int, int] | None = None
    """Primaries and transfer by number (ITU-T H.273), where the file gives them in place of a
    profile and they are not those of sRGB."""
    exif: bytes | None = None
    """EXIF with orientation reset and without thumbnail; starts with `Exif` and two zeros."""
    xmp: str | None = None
    """XMP packet of other programs, as it was."""
    iptc: bytes | None = None
    """IPTC-IIM records: captions, keywords, names."""
    dpi: tuple[float, float] | None = None
    """Pixels per inch that the file claims, across and down."""
    format: str | None = None
    """The file it came from, such as png, jpg, webp, tif, gif; None for arrays."""
    text: Mapping[str, str] = field(default_factory=dict[str, str])
    """Texts of people and programs by PNG's keywords: `Comment`, also of JPEG and GIF, `Author`,
    `parameters` (A1111, also where other formats keep it), `prompt` and `workflow` (ComfyUI)."""
    warnings: tuple[str, ...] = ()
    """Whole sentences about what was lost in reading it."""

    def __post_init__(self) -> None:
        if len(self.pixels.shape) != 3 or self.pixels.shape[2] != 3 or 0 in self.pixels.shape:
            raise ValueError(f"pixels must be of shape (H, W, 3), got {self.pixels.shape}")
        if self.pixels.dtype != np.float32:
            raise ValueError(f"pixels must be float32, got {self.pixels.dtype}")
        if self.alpha is None:
            return
        if self.alpha.shape != self.pixels.shape[:2]:
            raise ValueError(f"alpha {self.alpha.shape} does not fit pixels {self.pixels.shape}")
        if self.alpha.dtype != np.float32:
            raise ValueError(f"alpha must be float32, got {self.alpha.dtype}")

    @property
    def whole(self) -> NDArray[np.float32]:
        """All pixels, in memory."""
        return np.asarray(self.pixels)

    @property
    def width(self) -> int:
        """Pixels per row."""
        return self.pixels.shape[1]

    @property
    def growth(self) -> tuple[float, float]:
        """By how much it is wider and higher than in its file."""
        width, height = self.origin or (self.width, self.height)
        return self.width / width, self.height / height

    @property
    def height(self) -> int:
        """Rows."""
        return self.pixels.shape[0]

    def impersonal(self) -> Picture:
        """Without what it says of people, places and cameras; generators' texts stay."""
        found = keywords_of_generators(self.text)
        text = {name: each for name, each in self.text.items() if name in found}
        return replace(self, exif=None, xmp=None, iptc=None, text=text)
