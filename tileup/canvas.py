"""The enlarged picture as the canvas that a model is shown, and what was drawn as pixels again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tileup.codec.space_to_depth import PixelCodec
from tileup.codec.spilled import spilled
from tileup.contracts import Model, OnStep
from tileup.denoise.run import sample_canvas, scene_of, stream_canvas
from tileup.denoise.strength import finished_share
from tileup.errors import NotFiniteError
from tileup.images.color_fix import color_fix, color_fix_bands
from tileup.images.colour import without_colour
from tileup.images.picture import Picture
from tileup.images.pixels import Pixels, bands, within_unit
from tileup.plan.grid import reflected
from tileup.plan.planning import Planned
from tileup.plan.tiles import TilePlan
from tileup.ready import Ready, enlarge, enlarged_by_rows
from tileup.resources import room_for_canvas
from tileup.settings.values import Settings
from tileup.tensors.transfers import Arrival, sent, to_host
from tileup.tiling.rows import RowBuffer


class ByRows(Protocol):
    """An enlarged picture whose rows are asked for."""

    @property
    def picture(self) -> Picture:
        """One that is as neutral."""
        ...

    def rows(self, top: int, bottom: int) -> NDArray[np.float32]:
        """Rows [top, bottom), shape (bottom - top, width, 3)."""
        ...

    def carrying(self, pixels: Pixels) -> Picture:
        """The enlarged picture with other pixels, shape (height, width, 3)."""
        ...


@dataclass(frozen=True, slots=True)
class WholePicture:
    """A picture that is enlarged already; satisfies `ByRows`."""

    picture: Picture

    def rows(self, top: int, bottom: int) -> NDArray[np.float32]:
        return self.picture.pixels[top:bottom]

    def carrying(self, pixels: Pixels) -> Picture:
        return replace(self.picture, pixels=pixels)


def rows_of(
    picture: Picture, planned: Planned, model: Model, settings: Settings, ready: Ready
) -> ByRows:
    """The enlarged picture: as it is, or enlarged row by row where that is the same."""
    if ready.enlarged is None:
        gradual = enlarged_by_rows(picture, planned, model.spec, settings)
        if gradual is not None:
            return gradual
    return WholePicture(ready.enlarged or enlarge(picture, planned.plan, settings))


class FinishedRows(Protocol):
    """Rows of a picture that are drawn."""

    rows: int
    """How many there are, from the top."""

    def add(self, pixels: NDArray[np.float32]) -> None:
        """More of them, shape (rows, width, 3)."""
        ...

    @property
    def pixels(self) -> Pixels:
        """All of them, once they are there."""
        ...

    def close(self) -> None:
        """No more are added."""
        ...


class RowsInMemory:
    """Rows in memory; satisfies `FinishedRows`.

    Raises:
        CanvasMemoryError: there is no room for them.
    """

    def __init__(self, width: int, height: int) -> None:
        with room_for_canvas(width, height):
            self.pixels = np.empty((height, width, 3), np.float32)
        self.rows = 0

    def add(self, pixels: NDArray[np.float32]) -> None:
        self.pixels[self.rows : self.rows + len(pixels)] = pixels
        self.rows += len(pixels)

    def close(self) -> None:
        """Nothing is open."""


def draw_by_rows(
    enlarged: ByRows,
    planned: Planned,
    model: Model,
    settings: Settings,
    on_step: OnStep | None,
    finished: FinishedRows,
) -> None:
    """Draw a picture whose canvas is never held as a whole.

    Args:
        enlarged: the picture at its size.
        planned: what will be done to it.
        model: a loaded checkpoint.
        settings: everything else.
        on_step: told after each batch of windows.
        finished: rows that are drawn already, and where those go that are not.

    Raises:
        NotFiniteError: the model gave values that are no numbers.
    """
    plan, stride, neutral = planned.plan, planned.plan.stride, enlarged.picture.neutral
    held = RowBuffer(plan.width, 3, torch.empty(0))
    keeps = not plan.grid.values.all()  # only then something of the source is laid over
    down = reflected(plan.height, plan.rows * stride)
    across = reflected(plan.width, plan.columns * stride)
    codec = model.codec
    assert isinstance(codec, PixelCodec)  # else it is not drawn so: see `is_drawn_by_rows`

    def source(top: int, bottom: int, out: Tensor) -> None:
        if not held.last:
            held.drop(top * stride)
        fresh = enlarged.rows(top * stride, min(bottom * stride, plan.height))
        if keeps:
            held.add(len(fresh)).numpy()[...] = fresh
        below = down[top * stride + len(fresh) : bottom * stride]
        canvas = _with_border(enlarged, [fresh], below, across)
        codec.put_cells(canvas.to(model.device), out)

    if finished.rows == plan.height:
        return
    begin = finished.rows // stride
    for first, latents in stream_canvas(planned, source, model, settings, on_step, begin):
        top, bottom = first * stride, min((first + latents.shape[2]) * stride, plan.height)
        drawn = decoded(latents, bottom - top, plan.width, model)
        drawn = without_colour(drawn) if neutral else drawn
        if keeps:
            drawn = put_back(drawn, held.between(top, bottom).numpy(), planned, first)
            held.drop(bottom)
        finished.add(drawn if keeps else torch.from_numpy(drawn).clamp_(0, 1).numpy())


def _with_border(
    enlarged: ByRows,
    fresh: Sequence[NDArray[np.float32]],
    below: NDArray[np.intp],
    across: NDArray[np.intp],
) -> Tensor:
    """Rows as they stand on the padded canvas, shape (1, 3, rows, len(across)).

    Args:
        enlarged: the picture.
        fresh: rows of it, perhaps none.
        below: rows that follow beyond its edge, as it is reflected there.
        across: columns of the canvas, reflected likewise.
    """
    parts = [*fresh, *(enlarged.rows(row, row + 1) for row in below.tolist())]
    shown = np.concatenate(parts) if parts[1:] else parts[0]
    shown = shown if len(across) == shown.shape[1] else shown[:, across]
    return torch.from_numpy(shown).movedim(-1, 0)[None]


def draw_bands(
    enlarged: ByRows, planned: Planned, model: Model, settings: Settings, on_step: OnStep | None
) -> Iterator[NDArray[np.float32]]:
    """Draw a picture of which only the latents are held as a whole.

    Args:
        enlarged, planned, model, settings, on_step: as in `draw_by_rows`.

    Yields:
        Rows from the top down, shape (rows, width, 3), as the model gives them.

    Raises:
        NotFiniteError: the model gave values that are no numbers.
    """
    latents = _drawn_latents(enlarged, planned, model, settings, on_step)
    yield from _decoded_bands(latents, planned.plan, model)


def finish_bands(
    drawn: Iterable[NDArray[np.float32]],
    enlarged: ByRows,
    planned: Planned,
    settings: Settings,
    finished: FinishedRows,
) -> None:
    """Give what `draw_bands` drew the colours of the picture, and lay kept tiles over it.

    Args:
        drawn: all rows.
        enlarged, planned, settings: as in `draw_by_rows`.
        finished: rows that are finished already, and where the others go.
    """
    plan, neutral = planned.plan, enlarged.picture.neutral
    toned = color_fix_bands(drawn, enlarged.rows, settings.color_fix, plan.height, plan.stride)
    for top, band, given in toned:
        shown = without_colour(band) if neutral else band
        pixels = put_back(shown, given, planned, top // plan.stride)
        finished.add(pixels[max(0, finished.rows - top) :])


def _drawn_latents(
    enlarged: ByRows,
    planned: Planned,
    model: Model,
    settings: Settings,
    on_step: OnStep | None,
) -> Tensor:
    """Latents of the redrawn canvas."""
    layout, stride = planned.itinerary.layout, model.spec.stride
    size = layout.rows * stride, layout.columns * stride
    down, across = reflected(planned.plan.height, size[0]), reflected(planned.plan.width, size[1])

    def rows(top: int, bottom: int) -> Tensor:
        last = max(top, min(bottom, planned.plan.height))
        fresh = [enlarged.rows(top, last)] if top < last else []
        return _with_border(enlarged, fresh, down[last:bottom], across)

    # Of control networks only those of UNets look at pixels, the others at latents.
    looks = settings.control is not None and model.spec.prediction != "flow"
    canvas = _filled(rows, *size) if looks else None
    source = model.codec.encode_rows(rows, *size).contiguous()
    scene = scene_of(source, canvas, planned, settings)
    return sample_canvas(planned, scene, model, settings, on_step)


def _filled(rows: Callable[[int, int], Tensor], height: int, width: int) -> Tensor:
    """All rows of a canvas, shape (1, 3, height, width), in main memory or in a file."""
    canvas, _ = spilled((1, 3, height, width), torch.float32, "the enlarged picture")
    for band in bands(height, width):
        canvas[:, :, band] = rows(band.start, band.stop)
    return canvas


def _decoded_bands(latents: Tensor, plan: TilePlan, model: Model) -> Iterator[NDArray[np.float32]]:
    """Rows of the picture without the padding, shape (rows, width, 3), not clipped.

    Raises:
        NotFiniteError: some are no numbers.
    """
    left = plan.height
    for band in to_host(model.codec.decode_rows(latents)):
        canvas = band[0, :, :left, : plan.width]
        left -= canvas.shape[1]
        drawn = np.ascontiguousarray(canvas.movedim(0, -1).float().numpy())
        if not np.isfinite(drawn).all():
            raise NotFiniteError
        yield drawn
        if not left:
            return


def padded(pixels: NDArray[np.float32], planned: Planned, stride: int) -> Tensor:
    """The picture on the padded canvas, shape (1, 3, rows * stride, columns * stride)."""
    layout = planned.itinerary.layout
    down = reflected(pixels.shape[0], layout.rows * stride)
    across = reflected(pixels.shape[1], layout.columns * stride)
    same = (len(down), len(across)) == pixels.shape[:2]
    shown = pixels if same else pixels[np.ix_(down, across)]
    return torch.from_numpy(shown).movedim(-1, 0)[None]


def decoded(latents: Tensor, height: int, width: int, model: Model) -> NDArray[np.float32]:
    """Pixels of finished latents, shape (height, width, 3), without the padding, not clipped.

    Raises:
        NotFiniteError: some are no numbers; clipped, they would be black or white.
    """
    return arrived(decode(latents, height, width, model))


def decode(latents: Tensor, height: int, width: int, model: Model) -> Arrival | Tensor:
    """The same on its way to main memory: any thread may have `arrived` wait for it."""
    canvas = model.codec.decode(latents)[0, :, :height, :width]
    drawn = canvas.movedim(0, -1).float().contiguous()
    # A sum tells it in a tenth of the time; one that is too large is no proof.
    if not bool(drawn.sum().isfinite()) and not bool(drawn.isfinite().all()):
        raise NotFiniteError
    return sent(drawn)


def arrived(drawn: Arrival | Tensor) -> NDArray[np.float32]:
    """What `decode` gave, once it is there."""
    return (drawn if isinstance(drawn, Tensor) else drawn()).numpy()


def pasted(
    drawn: NDArray[np.float32], enlarged: Picture, planned: Planned, settings: Settings
) -> NDArray[np.float32]:
    """What was drawn, in the colours of the enlarged picture, under the tiles that are kept."""
    given = enlarged.whole
    toned = color_fix(drawn, given, settings.color_fix)
    toned = without_colour(toned) if enlarged.neutral else toned
    return put_back(toned, given, planned)


def put_back(
    drawn: NDArray[np.float32],
    enlarged: NDArray[np.float32],
    planned: Planned,
    first: int = 0,
) -> NDArray[np.float32]:
    """Lay kept tiles over the drawn picture, faded in inside the tiles around them.

    Pixels of kept tiles are those of the enlarged picture exactly.

    Args:
        drawn: shape (height, width, 3).
        enlarged: the same rows of the enlarged picture.
        planned: says which tiles are kept.
        first: row of cells with which both begin.
    """
    plan, width = planned.plan, 2 * planned.itinerary.layout.margin
    pixels, rows = np.empty_like(drawn), -(-len(drawn) // plan.stride)
    for top in range(0, rows, _BAND):
        bottom = min(top + _BAND, rows)
        share = finished_share(plan.grid, width, (first + top, first + bottom))
        place = slice(top * plan.stride, bottom * plan.stride)
        _lay_over(drawn[place], enlarged[place], share, plan.stride, out=pixels[place])
    return pixels


_BAND = 64
"""Rows of cells whose pixels are put back at once."""


def _lay_over(
    drawn: NDArray[np.float32],
    enlarged: NDArray[np.float32],
    cells: NDArray[np.float64],
    stride: int,
    out: NDArray[np.float32],
) -> None:
    """The same for some rows, where the share of the drawn picture in each cell is known."""
    within_unit(drawn, out=out)
    if cells.min() == 1:
        return
    height, width = drawn.shape[:2]
    share = cells.repeat(stride, axis=0).repeat(stride, axis=1)[:height, :width]
    np.copyto(out, enlarged, where=(share == 0)[..., None])
    fading = (share > 0) & (share < 1)
    part = share[fading, None]
    out[fading] = (part * out[fading] + (1 - part) * enlarged[fading]).astype(np.float32)
