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
from functools import lru_cache

import torch
from torch import Tensor

from tileup.contracts import Box, Denoiser
from tileup.denoise.gate_rows import GateRows
from tileup.denoise.schedule import gated
from tileup.denoise.strength import all_work, working_weight
from tileup.plan.itinerary import Itinerary, Phase
from tileup.plan.samplers import Sampler
from tileup.sampling.noise import NoiseRows
from tileup.sampling.steps import SamplerOptions, one_step
from tileup.tiling.alike import alike
from tileup.tiling.batches import NetworkBatch, evaluated
from tileup.tiling.overlaps import Covered, moved, rows_of
from tileup.tiling.profiles import NormalisedShares, Shares, WindowWeights
from tileup.tiling.rows import RowBuffer, RowRing, put, stacked

BAND = 64
"""Rows of cells that enter at once."""
_PIECE = 2**19
"""Numbers of a canvas that take a step at once: more calls take longer than a cache saves."""
_GAP = 32
"""Columns between windows that take a step with these: it is less work than going over twice."""


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
    source: Callable[[int, int, Tensor], None]
    """Writes clean latents of rows [top, bottom) of the enlarged picture, shape (rows, columns, C);
    asked for from top to bottom."""
    denoiser: Callable[[Tensor, Tensor], Denoiser]
    """Predicts x0 of windows of some rows of the canvas, told their source, shape (1, C, rows,
    columns), and their strength, shape (1, 1, rows, columns), on the CPU; windows are given as they
    lie in these rows."""
    on_windows: Callable[[int, int, bool], None]
    """Told in which phase, from 0, how many windows were just evaluated, and whether that was in an
    earlier run."""

    @property
    def usual(self) -> int:
        """Rows at work at once in a run of few steps, and in each step of a longer one."""
        layout = self.itinerary.layout
        return min(layout.rows, layout.window + 2 * BAND)

    def latents(self, first: int = 0) -> Iterator[tuple[int, Tensor]]:
        """Clean latents of the canvas from top to bottom; the source where the strength is 0.

        Args:
            first: row with which to begin: those above it are known already. What it takes to
                go on from there is worked out once more, from the same batches of windows.

        Yields:
            The first row, and latents of some rows from it on, shape (1, C, rows, columns); they
            may be overwritten when more are asked for.
        """
        rows, known = self.itinerary.layout.rows, _Known(self)
        stages = self._stages(known)
        begin = first
        for stage in reversed(stages):
            begin = stage.begin(begin)
        known.begin(begin)
        for top in range(begin, rows, BAND):
            come = min(top + BAND, rows)
            known.add(top, come)
            denoiser = self.denoiser(known.source.canvas, known.strength.canvas)
            for stage in stages[:-1]:
                for _ in stage.leave(denoiser, come):
                    pass  # the next one finds them
                come = stage.done
            for box in stages[-1].leave(denoiser, come):
                for row, x in stages[-1].finished(box):
                    yield row, x.movedim(-1, 0)[None]
            lowest = rows
            for stage in reversed(stages):
                lowest = min(lowest, stage.needed)
                stage.x0.drop(lowest)
            known.drop(lowest)

    def _stages(self, known: _Known) -> list[_Stage]:
        """All steps, each beginning with what the one before it leaves."""
        (run,) = self.itinerary.runs
        stages: list[_Stage] = []
        for number, phase in enumerate(run.phases):
            laid = {id(windows): windows for windows in phase.by_step}  # mostly the same in all
            shares = {which: NormalisedShares(each, self.weights) for which, each in laid.items()}
            covered = Covered(phase.windows, _GAP)
            for step, windows in enumerate(phase.by_step, phase.start):
                before = stages[-1] if stages else None
                share = shares[id(windows)]
                stages.append(_Stage(self, number, step, known, before, covered, share))
        return stages


class _Known:
    """What all steps look at, of the rows at work."""

    def __init__(self, stream: Stream) -> None:
        (run,) = stream.itinerary.runs
        layout, like = stream.itinerary.layout, stream.weights.like
        self.stream, self.phases = stream, run.phases
        self.source = RowBuffer(layout.columns, stream.channels, like)
        """Clean latents of the enlarged picture."""
        self.strength = RowBuffer(layout.columns, 1, torch.empty(0))
        self.noise = RowRing(layout.columns, stream.channels, like, stream.usual)
        self.gates = [GateRows(layout.rows, layout.columns, like) for _ in run.phases]
        """Of each phase."""
        self._drawn = NoiseRows(stream.channels, layout.rows, layout.columns, stream.seed)

    def begin(self, row: int) -> None:
        """Pass over the rows above this one."""
        self._drawn.skip(row)
        self.drop(row)

    def add(self, top: int, bottom: int) -> None:
        """The next rows: [top, bottom)."""
        layout, strengths = self.stream.itinerary.layout, self.stream.itinerary.strengths
        self.stream.source(top, bottom, self.source.add(bottom - top))
        self.strength.add(bottom - top)[..., 0] = torch.from_numpy(strengths.between(top, bottom))
        self.noise.reach(bottom)
        for _, part in self.noise.parts(Box(top, 0, bottom, layout.columns)):
            self._drawn.take(part)
        for phase, gate in zip(self.phases, self.gates, strict=True):
            weakest, span = phase.strengths[-1], (top, bottom)
            alike = all_work(strengths, weakest, span)
            weight = None if alike else working_weight(strengths, weakest, layout.margin, span)
            gate.add(top, bottom, weight)

    def drop(self, first: int) -> None:
        """Hold no rows above this one any more."""
        for rows in (self.source, self.strength, self.noise, *self.gates):
            rows.drop(first)


class _Stage:
    """One step, over the rows as they come.

    Args:
        stream: the canvas.
        number: of the phase, from 0.
        step: of the run.
        known: what all steps look at.
        before: the step before this one, whose finished rows are what this one begins with.
        covered: the columns that windows of the phase cover.
        shares: how much windows of the step count in their cells.
    """

    def __init__(
        self,
        stream: Stream,
        number: int,
        step: int,
        known: _Known,
        before: _Stage | None,
        covered: Covered,
        shares: NormalisedShares,
    ) -> None:
        (run,) = stream.itinerary.runs
        self.stream, self.number, self.known = stream, number, known
        self.phase: Phase = run.phases[number]
        self.before = before.x0 if before else None
        begins, last = step == self.phase.start, number == len(run.phases) - 1
        self.begins, self.takes_noise = begins and not last, begins and last
        """Whether x is that with which a phase begins: worked out where it is wanted; or, as nobody
        else wants the noise of the last phase, once and in its place."""
        self.windows = self.phase.by_step[step - self.phase.start]
        self.sigmas = stream.itinerary.sigmas[step : step + 2]
        columns, like = stream.itinerary.layout.columns, stream.weights.like
        self.x0 = RowRing(columns, stream.channels, like, stream.usual)
        """What the windows give, and in rows that took the step x at the next noise level."""
        self.batches = alike(self.windows, stream.cells)
        tops = [min(box.top for box in self._boxes(batch)) for batch in self.batches]
        self.waiting = [*itertools.accumulate(reversed(tops), min)][::-1]
        """The first row of what is left to evaluate, before each batch."""
        self.by_top = sorted(range(len(self.windows)), key=lambda at: self.windows[at].top)
        self._met: dict[int, Shares] = {}
        """Of windows that are cleared and not yet blended."""
        self.shares, self.covered = shares, covered
        self.gate = known.gates[number]
        self.evaluated = self.cleared = 0
        self.done = self.needed = self.begun = 0
        """The first row that has not taken the step, the first that is looked at for it, and the
        first that is noise still where that is taken."""

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
        self.done, self.needed = row, self._left(row)
        self.begun = self.needed
        self.x0.drop(self.needed)
        if self.evaluated:
            self.stream.on_windows(self.number, self.batches[self.evaluated - 1].stop, True)
        return self.needed

    def leave(self, denoiser: Denoiser, come: int) -> Iterator[Box]:
        """Evaluate what the rows above `come` allow, and take the step where all is known.

        Yields:
            Rows that just took it, from top to bottom, as wide as the canvas.
        """
        if self.takes_noise:
            self._begin(come)
        self._evaluate(denoiser, come)
        whole = self._left(come)
        self.x0.reach(whole)
        yield from self._step(whole)
        self.done, self.needed = max(self.done, whole), max(self.needed, whole)

    def finished(self, box: Box) -> Iterator[tuple[int, Tensor]]:
        """Rows that took the last step: the first of them, and they, shape (rows, columns, C)."""
        kept = None
        if not self.gate.is_open(box.top, box.bottom):
            kept = ~self.gate.seen.inside(box)
        for rows, x in self.x0.parts(box):
            if kept is not None:
                put(self.known.source.inside(box)[rows], x, kept[rows])
            yield box.top + rows.start, x

    def _begin(self, come: int) -> None:
        """Put that with which the phase begins where the noise is, in rows above `come`."""
        for _, boxes in self._pieces(self.begun, come):
            for box in boxes:
                for rows, noise in self.known.noise.parts(box):
                    self._begun(rows_of(box, rows), noise)
        self.begun = max(self.begun, come)

    def _step(self, whole: int) -> Iterator[Box]:
        """The same for all rows above a row; of cells that no window covers nobody asks."""
        for piece, boxes in self._pieces(self.done, whole):
            for box in boxes:
                for rows, x0 in self.x0.parts(box):
                    self._stepped(rows_of(box, rows), x0)
            yield piece

    def _pieces(self, first: int, last: int) -> Iterator[tuple[Box, Sequence[Box]]]:
        """Rows [first, last), a few at a time, and what of them windows of the phase cover."""
        if last <= first:
            return
        spans = self.covered.spans(first, last)
        numbers = self.x0.channels * sum(right - left for left, right in spans)
        piece = max(1, _PIECE // max(numbers, 1))
        for top in range(first, last, piece):
            bottom = min(top + piece, last)
            boxes = [Box(top, left, bottom, right) for left, right in spans]
            yield Box(top, 0, bottom, self.x0.columns), boxes

    def _stepped(self, box: Box, x0: Tensor) -> None:
        """Take the step in some cells, in place."""
        if not self.gate.is_open(box.top, box.bottom):
            gated(self.known.source.inside(box), x0, self.gate.weight.inside(box), out=x0)
        if self.phase.steps > 1 or self.sigmas[1] > 0:
            sampler, options = self.stream.sampler, self.stream.options
            x = self._begun(box) if self.begins else self._given.inside(box)
            made = one_step(sampler, x0[None], x[None], self.sigmas, options)[0]
            if made.data_ptr() != x0.data_ptr():
                x0.copy_(made)

    @property
    def _given(self) -> RowRing:
        """Where x is, unless it has to be worked out."""
        given = self.known.noise if self.takes_noise else self.before
        assert given is not None
        return given

    def _begun(self, box: Box, out: Tensor | None = None) -> Tensor:
        """Cells of x with which a phase begins: those that no phase has touched yet start here,
        whatever the sampler did to them.

        Args:
            box: which cells.
            out: where they go; it may be where their noise is.
        """
        shape = box.height, box.width, self.x0.channels
        made = self.stream.weights.like.new_empty(shape) if out is None else out
        for rows, noise in self.known.noise.parts(box):
            torch.mul(noise, self.sigmas[0], out=made[rows])
        made += self.known.source.inside(box)
        before = self.known.gates[self.number - 1]
        if self.number and not before.is_shut(box.top, box.bottom):
            assert self.before is not None
            put(self.before.inside(box), made, before.seen.inside(box))
        return made

    def _evaluate(self, denoiser: Denoiser, come: int) -> None:
        """All batches of windows whose rows have come."""
        batches = [*self._come(come)]
        chosen = [self._boxes(batch) for batch in batches]
        answers = evaluated(denoiser, (self._batch(each) for each in chosen))
        for batch, boxes, x0 in zip(batches, chosen, answers, strict=True):
            self._clear(max(box.bottom for box in boxes))
            for at, cells in zip(batch, x0.movedim(1, -1), strict=True):
                shares = self._met.pop(at, None) or self.shares.of(at)
                self._blend(self.windows[at], shares, cells)
            self.evaluated += 1
            self.stream.on_windows(self.number, len(boxes), False)

    def _come(self, come: int) -> Iterator[range]:
        for batch in self.batches[self.evaluated :]:
            if max(box.bottom for box in self._boxes(batch)) > come:
                return
            yield batch

    def _batch(self, chosen: Sequence[Box]) -> NetworkBatch:
        if self.begins:
            box, channels = chosen[0], self.x0.channels
            like = self.stream.weights.like
            crops = like.new_empty(len(chosen), box.height, box.width, channels)
            for each, crop in zip(chosen, crops, strict=True):
                self._begun(each, crop)
        else:
            crops = stacked([self._given.inside(box) for box in chosen])
        sigma = _levels(self.sigmas[0], len(chosen), crops.dtype)
        windows = [moved(box, -self.known.source.first) for box in chosen]
        return NetworkBatch(crops.movedim(-1, 1), sigma, windows)

    def _clear(self, bottom: int) -> None:
        """Set x0 to 0 where windows that reach rows above `bottom` share cells with others.

        None that shares a cell with one of these is evaluated yet.
        """
        while self.cleared < len(self.by_top):
            at = self.by_top[self.cleared]
            box = self.windows[at]
            if box.top >= bottom:
                return
            self.cleared += 1
            if box.bottom > self.x0.first:
                self.x0.reach(box.bottom)
                self._met[at] = self.shares.of(at)
                for part, _ in self._met[at].shared:
                    self._clear_cells(moved(part, box.top, box.left))

    def _clear_cells(self, box: Box) -> None:
        top = max(box.top, self.x0.first)  # of the first windows after `begin`
        if top < box.bottom:
            for _, cells in self.x0.parts(Box(top, box.left, box.bottom, box.right)):
                cells.zero_()

    def _blend(self, box: Box, shares: Shares, cells: Tensor) -> None:
        """Add what a window gives, shape (h, w, C), to the others."""
        for part, weight in shares.shared:
            given = cells[part.top : part.bottom, part.left : part.right] * weight
            parts = self.x0.parts(moved(part, box.top, box.left))
            for rows, x0 in parts:
                x0.add_(given if len(parts) == 1 else given[rows])
        if shares.alone is not None:
            part = shares.alone
            given = cells[part.top : part.bottom, part.left : part.right]
            parts = self.x0.parts(moved(part, box.top, box.left))
            for rows, x0 in parts:
                x0.copy_(given if len(parts) == 1 else given[rows])


@lru_cache(maxsize=64)
def _levels(sigma: float, count: int, dtype: torch.dtype) -> Tensor:
    """A noise level of so many windows, on the CPU."""
    return torch.full([count], sigma, dtype=dtype)
