"""A picture of a plan: where the canvas is redrawn, and how strongly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from tileup.images.pixels import BAND, Pixels, spans
from tileup.plan.detail import LUMA
from tileup.plan.tiles import TilePlan

LONGEST = 2048
"""No side of a heatmap is longer, pixels."""
SHORTEST = 640
"""The picture's longer side is never shorter, pixels."""
NARROWEST = 440
"""The legend is never narrower, pixels."""

# Inferno by Nathaniel Smith and Stefan van der Walt, CC0, at every tenth of its length.
_INFERNO = """
    000004 160b39 420a68 6a176e 932667 bc3754 dd513a f37819 fca50a f6d746 fcffa4
"""
_ANCHORS = np.array([list(bytes.fromhex(anchor)) for anchor in _INFERNO.split()], np.float64)
_USED = 0.18, 0.89
"""Part of the map that is used: its ends are too near to black and white to be told apart."""

_BACKGROUND = 17, 16, 21
_TEXT = 236, 234, 240
_FAINT = 160, 157, 168
_SMALLEST_BORDERED = 5
"""Tiles with a shorter side than this, in pixels of the heatmap, get no border."""

Rgb = NDArray[np.float64]
"""RGB in 0-255, shape (H, W, 3)."""
Grey = NDArray[np.float64]
"""Brightness in [0, 1], shape (H, W)."""


def heatmap(
    pixels: Pixels, plan: TilePlan, *, min_denoise: float, max_denoise: float
) -> Image.Image:
    """The picture, each tile in the colour of its strength, over a legend.

    Tiles of strength 0 are hatched instead. The picture is as large as the canvas where its
    longer side lies between 640 and 2048 pixels, legend included; else it is fitted to these.

    Args:
        pixels: RGB in [0, 1], shape (H, W, 3), of any size: input or output.
        plan: what is shown.
        min_denoise, max_denoise: the strengths at the two ends of the colour map.

    Returns:
        An RGB picture, at most 2048 pixels wide and high.
    """
    ends = _ends(plan, min_denoise, max_denoise)
    size = _fitted(plan)
    page_width = max(size[0], NARROWEST)
    legend = _legend(plan, ends, page_width)
    page = Image.new("RGB", (page_width, size[1] + legend.height), _BACKGROUND)
    page.paste(_coloured(_grey(pixels, size, plan), plan, ends), ((page_width - size[0]) // 2, 0))
    page.paste(legend, (0, size[1]))
    return page


def colours(position: NDArray[np.float64]) -> Rgb:
    """Colours of the map at positions in [0, 1], RGB in 0-255, on a new last axis."""
    start, end = _USED
    at = (start + (end - start) * position.clip(0.0, 1.0)) * (len(_ANCHORS) - 1)
    steps = np.arange(len(_ANCHORS))
    return np.stack([np.interp(at, steps, anchors) for anchors in _ANCHORS.T], axis=-1)


@dataclass(frozen=True, slots=True)
class _Ends:
    """The strengths at the ends of the colour map."""

    low: float
    high: float

    def position(self, strength: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where on the map strengths lie, in [0, 1]; the top where there is only one."""
        if self.high == self.low:
            return np.ones_like(strength)
        return (strength - self.low) / (self.high - self.low)


def _ends(plan: TilePlan, low: float, high: float) -> _Ends:
    """As given, widened to the strengths that a plan edited by hand may have."""
    return _Ends(min(low, *plan.strengths, high), max(low, *plan.strengths, high))


def _fitted(plan: TilePlan) -> tuple[int, int]:
    """Width and height of the picture on the page."""
    longest = max(plan.width, plan.height)
    if longest < SHORTEST:
        # A whole factor, so that all pixels of a small picture are equally large.
        factor = float(-(-SHORTEST // longest))
    else:
        room = LONGEST - _Type.of(LONGEST).height
        factor = min(1.0, LONGEST / plan.width, room / plan.height)
    return max(1, round(plan.width * factor)), max(1, round(plan.height * factor))


def _grey(pixels: Pixels, size: tuple[int, int], plan: TilePlan) -> Grey:
    """Luma of the picture at its size on the page, stretched to the whole range.

    Nearly all of the range: one bright or dark pixel does not decide over it.
    """
    tiny = size[0] > plan.width
    kind = Image.Resampling.NEAREST if tiny else Image.Resampling.LANCZOS
    height, width = pixels.shape[:2]
    factors = (1, 1) if tiny else (_reducing(width, size[0]), _reducing(height, size[1]))
    reduced = Image.fromarray(_reduced(pixels, factors))
    box = 0, 0, width / factors[0], height / factors[1]
    small = np.asarray(reduced.resize(size, kind, box), np.float64)
    grey = small @ np.array(LUMA) / 255.0
    dark, bright = np.quantile(grey, [0.005, 0.995])
    return ((grey - (dark + bright) / 2) / max(bright - dark, 0.1) + 0.5).clip(0.0, 1.0)


def _reducing(length: int, wanted: int) -> int:
    """By how much a side is reduced in the plainest way before it is resampled well."""
    return int(length / wanted / 3) or 1


def _reduced(pixels: Pixels, factors: tuple[int, int]) -> NDArray[np.uint8]:
    """Means of blocks so wide and so high, in bands: the largest inputs take gigabytes."""
    height, width = pixels.shape[:2]
    rows = factors[1] * max(1, BAND // (width * factors[1]))
    parts: list[NDArray[np.uint8]] = []
    for band in spans(height, rows):
        whole = (pixels[band].clip(0, 1) * 255 + 0.5).astype(np.uint8)
        parts.append(np.asarray(Image.fromarray(whole).reduce(factors)))
    return np.concatenate(parts)


def _coloured(grey: Grey, plan: TilePlan, ends: _Ends) -> Image.Image:
    """Each tile's colour, shaded by the picture; the mean is near the colour of the legend."""
    strength, border = _painted(plan, grey.shape[0], grey.shape[1])
    tint = colours(ends.position(strength))
    light = grey[..., None]
    shaded = tint * (0.56 + 0.44 * light) + (255.0 - tint) * 0.2 * light
    result = np.where((strength == 0)[..., None], _hatched(grey), shaded)
    result *= 1.0 - 0.5 * border[..., None]
    return Image.fromarray((result + 0.5).astype(np.uint8))


def _painted(
    plan: TilePlan, height: int, width: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Strength at every pixel of the page's picture, and where tiles begin there."""
    down, across = height / plan.height, width / plan.width
    grid, ends = plan.grid, (plan.height, plan.width)
    tall, wide = (
        np.diff(np.rint(np.minimum(edges * plan.stride, end) * by).astype(int))
        for edges, end, by in zip((grid.rows, grid.columns), ends, (down, across), strict=True)
    )
    strength = grid.values.repeat(tall, axis=0).repeat(wide, axis=1)
    boxes = np.rint(plan.pixel_boxes() * np.array((down, across) * 2)).astype(int)
    border = np.zeros((height, width), np.bool_)
    large = (boxes[:, 2:] - boxes[:, :2]).min(axis=1) >= _SMALLEST_BORDERED
    for top, left, bottom, right in boxes[large].tolist():
        border[top, left:right] |= top > 0
        border[top:bottom, left] |= left > 0
    return strength, border


def _hatched(grey: Grey) -> Rgb:
    """What is kept as it is: dark and grey under thin diagonals."""
    y, x = np.indices(grey.shape)
    value = 18.0 + 82.0 * grey + 34.0 * ((x + y) % 12 == 0)
    return np.repeat(value[..., None], 3, axis=2)


@dataclass(frozen=True, slots=True)
class _Type:
    """The sizes of a legend, all from the width of the page; pixels."""

    size: int
    """Of the letters."""

    @classmethod
    def of(cls, width: int) -> _Type:
        return cls(min(30, max(14, width // 56)))

    @property
    def margin(self) -> int:
        return round(self.size * 1.2)

    @property
    def bar(self) -> tuple[int, int]:
        """Top and bottom of the gradient."""
        top = self.margin + round(self.size * 1.7)
        return top, top + round(self.size * 1.1)

    @property
    def labels(self) -> tuple[int, int]:
        """Tops of the two lines of numbers under the gradient."""
        top = self.bar[1] + round(self.size * 0.75)
        return top, top + round(self.size * 1.35)

    @property
    def height(self) -> int:
        return self.labels[1] + self.size + self.margin

    @property
    def font(self) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
        return ImageFont.load_default(self.size)


@dataclass(frozen=True, slots=True)
class _Tick:
    """A strength on the legend's bar."""

    x: float
    strength: str
    share: str


def _legend(plan: TilePlan, ends: _Ends, width: int) -> Image.Image:
    """The strip under the picture, shape (legend height, `width`)."""
    kind = _Type.of(width)
    image = Image.new("RGB", (width, kind.height), _BACKGROUND)
    draw = ImageDraw.Draw(image)
    shares = _shares(plan)
    _write_head(draw, kind, width, plan, shares)
    left, right = kind.margin + kind.size, width - kind.margin - kind.size
    kept = shares.pop(0.0, None)
    if kept is not None:
        _draw_kept(image, draw, kind, kept)
        left += round(kind.size * 5.5)
    _draw_bar(image, kind, ends, left, right)
    for mark in _apart(_marks(shares, ends, left, right), kind):
        _draw_mark(draw, kind, mark)
    return image


def _shares(plan: TilePlan) -> dict[float, float]:
    """Part of the picture's area that each strength has, the weakest first; sums to 1."""
    found, which = np.unique(plan.held.denoise, return_inverse=True)
    areas = np.bincount(which, plan.pixel_areas()) / (plan.width * plan.height)
    return dict(zip(found.tolist(), areas.tolist(), strict=True))


def _write_head(
    draw: ImageDraw.ImageDraw, kind: _Type, width: int, plan: TilePlan, shares: dict[float, float]
) -> None:
    draw.text((kind.margin, kind.margin), "denoise strength", _TEXT, kind.font, anchor="lt")
    mean = sum(strength * share for strength, share in shares.items())
    tiles = f"{len(plan.tiles)} tile{'s' if len(plan.tiles) > 1 else ''}, mean {mean:.2f}"
    place = width - kind.margin, kind.margin
    draw.text(place, tiles, _FAINT, kind.font, anchor="rt")


def _draw_kept(image: Image.Image, draw: ImageDraw.ImageDraw, kind: _Type, share: float) -> None:
    """The swatch of tiles with strength 0, left of the bar."""
    top, bottom = kind.bar
    side = kind.margin, round(kind.size * 3.2)
    swatch = _hatched(np.full((bottom - top, side[1]), 0.5))
    image.paste(Image.fromarray(swatch.astype(np.uint8)), (side[0], top))
    _draw_mark(draw, kind, _Tick(side[0] + side[1] / 2, "kept", f"{share:.0%}"))


def _draw_bar(image: Image.Image, kind: _Type, ends: _Ends, left: int, right: int) -> None:
    top, bottom = kind.bar
    along = ends.position(np.linspace(ends.low, ends.high, right - left))
    bar = np.repeat(colours(along)[None], bottom - top, axis=0)
    image.paste(Image.fromarray((bar + 0.5).astype(np.uint8)), (left, top))


def _marks(shares: dict[float, float], ends: _Ends, left: int, right: int) -> list[_Tick]:
    positions = ends.position(np.array(list(shares)))
    return [
        _Tick(left + float(position) * (right - 1 - left), f"{strength:.2f}", f"{share:.0%}")
        for position, (strength, share) in zip(positions, shares.items(), strict=True)
    ]


def _apart(marks: list[_Tick], kind: _Type) -> list[_Tick]:
    """The marks whose numbers do not touch, first and last before those between."""
    result: list[_Tick] = []
    for mark in (*marks[:1], *marks[:0:-1]):
        if all(abs(mark.x - other.x) >= 2.6 * kind.size for other in result):
            result.append(mark)
    return result


def _draw_mark(draw: ImageDraw.ImageDraw, kind: _Type, mark: _Tick) -> None:
    bottom = kind.bar[1]
    tick = bottom + max(4, kind.size // 3)
    draw.line([(mark.x, bottom), (mark.x, tick)], _FAINT, max(1, kind.size // 14))
    for y, text, colour in zip(
        kind.labels, (mark.strength, mark.share), (_TEXT, _FAINT), strict=True
    ):
        draw.text((mark.x, y), text, colour, kind.font, anchor="mt")
