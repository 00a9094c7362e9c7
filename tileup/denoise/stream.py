"""The mode `schedule` on a canvas that is never held as a whole.

A step of a sampler that looks at one cell at a time needs of x nothing but the rows that windows
at work touch. So the rows of the picture go through the steps one behind the other: when the
windows that reach a row are evaluated, the row takes the step and is handed on to the next one.
What is held grows with the width of the canvas and the number of steps, not with its height.

Windows come in the same order and in the same batches as over a whole canvas, and all that is
done cell by cell is done in single operations: the result is the same, byte for byte.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tileup.contracts import Box, Denoiser
from tileup.denoise.schedule import gated
from tileup.denoise.strength import working_weight
from tileup.plan.itinerary import Itinerary, Phase
from tileup.plan.samplers import Sampler
from tileup.sampling.noise import NoiseRows
from tileup.sampling.steps import SamplerOptions, one_step
from tileup.tiling.alike import alike
from tileup.tiling.batches import NetworkBatch, evaluated
from tileup.tiling.profiles import WindowWeights, from_the_top
from tileup.tiling.rows import RowBuffer, moved, stacked

BAND = 64
"""Rows of cells that enter at once."""
_PIECE = 2**17
"""Numbers of a canvas that take a step at once: with what lies between they stay in a cache."""


@dataclass(frozen=True, slots=True)
class Stream:
    """A canvas to be sampled row by row."""

    itinerary: Itinerary
    channels: int
    """Of a cell."""
    sampler: Sampler
    options: SamplerOptions
    seed: int
    weights: WindowWeights
    """Of windows before normalisation."""
    cells: int
    """Of windows evaluated at once, at most; a window may have more."""
    source: Callable[[int, int], Tensor]
    """Clean latents of rows [top, bottom) of the enlarged picture, shape (1, C, rows, columns);
    asked for from top to bottom."""
    denoiser: Callable[[Tensor, int], Denoiser]
    """Predicts x0 of windows of some rows of the canvas, told their source, shape (1, C, rows,
    columns), and which is the first; windows are given as they lie in these rows."""
    on_windows: Callable[[int, int], None]
    """Told in which phase, from 0, and how many windows were just evaluated."""

    def latents(self, first: int = 0) -> Iterator[tuple[int, Tensor]]:
        """Clean latents of the canvas from top to bottom; the source where the strength is 0.

        Args:
            first: row with which to begin: those above it are known already. What it takes to
                go on from there is worked out once more, from the same batches of windows.

        Yields:
            The first row, and latents of some rows from it on, shape (1, C, rows, columns); they
            may be overwritten when more are asked for.
        """
        (run,) = self.itinerary.runs
        layout, strengths = self.itinerary.layout, self.itinerary.strengths
        like = self.weights.like
        source, noise = (RowBuffer(layout.columns, self.channels, like) for _ in range(2))
        drawn = NoiseRows(self.channels, layout.rows, layout.columns, self.seed)
        weights = [RowBuffer(layout.columns, 1, like) for _ in run.phases]
        known = _Known(source, noise, weights)
        stages = [
            _Stage(self, number, step, known)
            for number, phase in enumerate(run.phases)
            for step in range(phase.start, phase.stop)
        ]
        begin = first
        for stage in reversed(stages):
            begin = stage.begin(begin)
        drawn.skip(begin)
        for rows in (source, noise, *weights):
            rows.drop(begin)
        for top in range(begin, layout.rows, BAND):
            bottom = min(top + BAND, layout.rows)
            source.add(bottom - top).copy_(self.source(top, bottom)[0].movedim(0, -1))
            drawn.take(noise.add(bottom - top))
            for phase, weight in zip(run.phases, weights, strict=True):
                cells = working_weight(strengths, phase.strengths[-1], layout.margin, (top, bottom))
                weight.add(bottom - top)[..., 0] = torch.from_numpy(cells)
            stages[0].enter(top, source.between(top, bottom))
            denoiser = self.denoiser(source.canvas, source.first)
            for stage, following in itertools.pairwise(stages):
                for row, x in stage.leave(denoiser):
                    following.enter(row, x)
            for row, x in stages[-1].leave(denoiser):
                seen = weights[-1].between(row, row + len(x)) > 0
                if not seen.all():
                    x = torch.lerp(source.between(row, row + len(x)), x, seen.to(x))
                yield row, x.movedim(-1, 0)[None]
            for rows in (source, noise, *weights):
                rows.drop(min(stage.x.first for stage in stages))


@dataclass(frozen=True, slots=True)
class _Known:
    """What all steps look at, of the rows at work."""

    source: RowBuffer
    """Clean latents of the enlarged picture."""
    noise: RowBuffer
    weights: list[RowBuffer]
    """How much each cell takes part in each phase, one channel."""


class _Stage:
    """One step, over the rows as they come."""

    def __init__(self, stream: Stream, number: int, step: int, known: _Known) -> None:
        (run,) = stream.itinerary.runs
        self.stream, self.number, self.known = stream, number, known
        self.phase: Phase = run.phases[number]
        self.begins = step == self.phase.start
        self.windows = self.phase.by_step[step - self.phase.start]
        self.sigmas = stream.itinerary.sigmas[step : step + 2]
        columns, like = stream.itinerary.layout.columns, stream.weights.like
        self.x, self.x0 = (RowBuffer(columns, stream.channels, like) for _ in range(2))
        self.total = RowBuffer(columns, 1, like)
        self.batches = alike(self.windows, stream.cells)
        tops = [min(box.top for box in self._boxes(batch)) for batch in self.batches]
        self.waiting = [*itertools.accumulate(reversed(tops), min)][::-1]
        """The first row of what is left to evaluate, before each batch."""
        self.by_top = from_the_top(self.windows)
        self.evaluated = self.weighed = self.done = 0

    def _boxes(self, batch: range) -> Sequence[Box]:
        return self.windows[batch.start : batch.stop]

    def _left(self, row: int) -> int:
        """The first row that a window needs which is not evaluated; at most the given one."""
        return min([row, *self.waiting[self.evaluated : self.evaluated + 1]])

    def begin(self, row: int) -> int:
        """Pass over what no row from this one on needs; the first row of x that is needed.

        Whole batches are passed over, so that the others are what they are without.
        """
        above = itertools.takewhile(lambda box: box.bottom <= row, self.windows)
        passed = sum(1 for _ in above)
        self.evaluated = sum(batch.stop <= passed for batch in self.batches)
        needed = self._left(row)
        self.done = row
        for rows in (self.x, self.x0, self.total):
            rows.drop(needed)
        if self.evaluated:
            self.stream.on_windows(self.number, self.batches[self.evaluated - 1].stop)
        return needed

    def enter(self, top: int, x: Tensor) -> None:
        """Rows at the noise level of this step, shape (rows, columns, C), from `top` on."""
        mine, piece = self.x.add(len(x)), self._piece
        for first in range(0, len(x), piece) if self.begins else ():
            last = min(first + piece, len(x))
            self._begin_in(top + first, x[first:last], mine[first:last])
        if not self.begins:
            mine.copy_(x)
        self.x0.add(len(x)).zero_()

    def _begin_in(self, top: int, x: Tensor, mine: Tensor) -> None:
        """Rows with which a phase begins: cells that no phase has touched yet start here, whatever
        the sampler did to them."""
        bottom, seen = top + len(x), None
        if self.number:
            seen = self.known.weights[self.number - 1].between(top, bottom) > 0
            if seen.all():
                mine.copy_(x)
                return
        torch.mul(self.known.noise.between(top, bottom), self.sigmas[0], out=mine)
        mine += self.known.source.between(top, bottom)
        if seen is not None:
            # Exactly one of them where the weight is 1 or 0, and faster than a choice.
            torch.lerp(mine, x, seen.to(x), out=mine)

    @property
    def _piece(self) -> int:
        """Rows that are worked on at once."""
        return max(1, _PIECE // self.x.width)

    def leave(self, denoiser: Denoiser) -> Iterator[tuple[int, Tensor]]:
        """The rows that take the step now: the first one, and all at the next noise level."""
        self._evaluate(denoiser)
        whole = self._left(self.x.last)
        for top in range(self.done, whole, self._piece):
            bottom = min(top + self._piece, whole)
            yield top, self._stepped(top, bottom)
        self.done = max(self.done, whole)
        for rows in (self.x, self.x0, self.total):
            rows.drop(whole)

    def _stepped(self, top: int, bottom: int) -> Tensor:
        x, x0 = (rows.between(top, bottom) for rows in (self.x, self.x0))
        weight = self.known.weights[self.number].between(top, bottom)
        if weight.min() < 1:
            x0 = gated(self.known.source.between(top, bottom), x0, weight)
        if self.phase.steps > 1 or self.sigmas[1] > 0:
            sampler, options = self.stream.sampler, self.stream.options
            x0 = one_step(sampler, x0[None], x[None], self.sigmas, options)[0]
        return x0

    def _evaluate(self, denoiser: Denoiser) -> None:
        """All batches of windows whose rows have come."""
        come = [*self._come()]
        answers = evaluated(denoiser, (self._batch(chosen) for chosen in come))
        for chosen, x0 in zip(come, answers, strict=True):
            self._weigh(max(box.bottom for box in chosen))
            for box, cells in zip(chosen, x0.movedim(1, -1), strict=True):
                weight = self.stream.weights.of(box)[..., None] / self.total.inside(box)
                self.x0.inside(box).add_(cells * weight)
            self.evaluated += 1
            self.stream.on_windows(self.number, len(chosen))

    def _come(self) -> Iterator[Sequence[Box]]:
        for batch in self.batches[self.evaluated :]:
            chosen = self._boxes(batch)
            if max(box.bottom for box in chosen) > self.x.last:
                return
            yield chosen

    def _batch(self, chosen: Sequence[Box]) -> NetworkBatch:
        crops = stacked([self.x.inside(box) for box in chosen]).movedim(-1, 1)
        sigma = torch.full([len(chosen)], self.sigmas[0], dtype=crops.dtype)
        return NetworkBatch(crops, sigma, [moved(box, -self.known.source.first) for box in chosen])

    def _weigh(self, bottom: int) -> None:
        """Sum up the weights of all windows that reach rows above `bottom`."""
        while self.weighed < len(self.by_top) and self.by_top[self.weighed].top < bottom:
            box = self.by_top[self.weighed]
            missing = box.bottom - self.total.last
            if missing > 0:
                self.total.add(missing).zero_()
            above = max(0, self.total.first - box.top)  # of the first windows after `begin`
            if above < box.height:
                held = Box(box.top + above, box.left, box.bottom, box.right)
                self.total.inside(held).add_(self.stream.weights.of(box)[above:, :, None])
            self.weighed += 1
