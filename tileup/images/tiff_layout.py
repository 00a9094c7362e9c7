"""How the channels of a TIFF are stored, and what of that Pillow is shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.TiffImagePlugin import COMPRESSION_INFO, TiffImageFile

from tileup.images.formats.format import UnreadableError

_BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _PLANAR, _EXTRA, _FORMAT = (
    *(258, 259, 262, 277, 284, 338, 339),
)
_BY_TIFFFILE = frozenset({34712, 34887, 34933, 34934, 50001, 50002, 52546})
"""Compressions that tifffile unpacks, and libtiff as it comes with Pillow does not: JPEG 2000,
LERC, PNG, JPEG XR, WebP and two numbers of JPEG XL."""


@dataclass(frozen=True, slots=True)
class SampleLayout:
    """How the channels of a pixel are stored."""

    bits: int
    """Of each channel; 0 where they differ."""
    photometric: int
    """0: grey, white is zero; 1: grey; 2: RGB; others."""
    extra: tuple[int, ...]
    """Of the channels behind the colours: 1 alpha that colours are multiplied by, 2 alpha, or
    something else."""
    floats: bool
    planes: bool
    """Whether each channel is stored for itself."""
    packing: int
    """Compression by number."""

    @property
    def colours(self) -> int:
        """Channels of a colour; 0 for kinds that Pillow alone knows."""
        return {0: 1, 1: 1, 2: 3}.get(self.photometric, 0)

    @property
    def plain(self) -> bool:
        """Whether it is grey or RGB of 8 or 16 bits, or of others that Pillow has no mode for."""
        bits = self.bits in (8, 16) or self.is_odd
        return bits and self.colours > 0 and not self.floats

    @property
    def is_odd(self) -> bool:
        """Whether channels end within bytes, and are not what Pillow reads: 10, 12 and 14 bits."""
        return 8 < self.bits < 16 or (0 < self.bits < 8 and self.colours == 3)

    @property
    def by_tifffile(self) -> bool:
        return self.is_odd or self.packing in _BY_TIFFFILE


class ReducedTiff(TiffImageFile):
    """A TIFF of which Pillow is shown no more than it has a mode for; `layout` says what it is.

    Pillow has none for 16-bit grey with alpha, for white as zero beside other channels, for most
    channels that are neither colour nor alpha, and for channels that are stored apart.
    """

    layout: SampleLayout

    def _setup(self) -> None:
        tags = self.tag_v2
        self.layout = shown = SampleLayout(
            bits=bits.pop() if len(bits := tag_values(self, _BITS) or {1}) == 1 else 0,
            photometric=number_of(tags.get(_PHOTOMETRIC)),
            extra=tuple(_values(self, _EXTRA)),
            floats=not tag_values(self, _FORMAT) <= {1},
            planes=number_of(tags.get(_PLANAR)) == 2,
            packing=number_of(tags.get(_COMPRESSION)) or 1,
        )
        if shown.packing not in COMPRESSION_INFO.keys() | _BY_TIFFFILE or (
            shown.packing in _BY_TIFFFILE and not shown.plain
        ):
            raise UnreadableError(
                f"is packed in a way that is not read (compression {shown.packing}); save it with "
                f"LZW or Deflate first"
            )
        if shown.plain:
            tags[_COMPRESSION] = 1 if shown.by_tifffile else shown.packing
            tags[_SAMPLES] = shown.colours
            tags[_BITS] = (16 if shown.bits > 8 else 8,) * shown.colours
            tags[_PHOTOMETRIC] = max(1, shown.photometric)
            tags[_PLANAR] = 1
            tags.pop(_EXTRA, None)
        super()._setup()


def tag_values(image: TiffImageFile, tag: int) -> set[int]:
    """The whole numbers that a tag holds; none where it is absent."""
    return set(_values(image, tag))


def _values(image: TiffImageFile, tag: int) -> list[int]:
    value: Any = image.tag_v2.get(tag, ())
    return [*value] if isinstance(value, tuple) else [int(value)]


def number_of(value: Any) -> int:  # noqa: ANN401
    """The first whole number of a tag's value; 0 where it has none."""
    value = value[0] if isinstance(value, tuple) and value else value
    return value if isinstance(value, int) else 0


def plain_numbers(numbers: NDArray[Any], layout: SampleLayout) -> NDArray[Any]:
    """Colours with black at zero that are not multiplied by alpha, and alpha where there is one."""
    most, colours = 2**layout.bits - 1, numbers[..., : layout.colours]
    if layout.photometric == 0:  # white is zero
        colours = most - colours
    if layout.extra[:1] not in ((1,), (2,)):
        return colours
    alpha = numbers[..., layout.colours : layout.colours + 1]
    if layout.extra[0] == 1:  # multiplied by alpha
        whole = np.rint(colours.astype(np.float64) / np.maximum(alpha, 1) * most)
        colours = np.clip(whole, 0, most).astype(numbers.dtype)
    return np.concatenate([colours, alpha], axis=2)
