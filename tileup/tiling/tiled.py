"""A denoiser of windows becomes a denoiser of the canvas."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tileup.contracts import Box, Denoiser
from tileup.tiling.alike import alike
from tileup.tiling.batches import NetworkBatch, evaluated
from tileup.tiling.profiles import WindowWeights, normalised

WindowBoxes = Sequence[Box]


@dataclass(frozen=True, slots=True)
class BatchWindow:
    """A window of one canvas of the batch."""

    row: int
    """Which canvas."""
    box: Box
    weight: Tensor
    """How much it counts in each of its cells, shape (h, w)."""


class TiledDenoiser:
    """Evaluates windows in batches and blends their x0; cells in no window come out as 0.

    Args:
        denoiser: predicts x0 of windows.
        canvases: windows of each canvas of the batch.
        raw: weights of windows before normalisation.
        height, width: cells of the canvas.
        batch: windows of the shape of the first one evaluated at once, of smaller ones as many as
            have together as many cells; the result does not depend on it beyond rounding.
        usual: cells of a window that `batch` counts, where it is not the first one's.
        on_windows: told how many windows were just evaluated.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        canvases: Sequence[WindowBoxes],
        raw: WindowWeights,
        *,
        height: int,
        width: int,
        batch: int = 1,
        usual: int | None = None,
        on_windows: Callable[[int], None] | None = None,
    ) -> None:
        self.denoiser = denoiser
        self.placed = [
            BatchWindow(row, box, weight)
            for row, windows in enumerate(canvases)
            for box, weight in zip(windows, normalised(windows, raw, height, width), strict=True)
        ]
        boxes = [each.box for each in self.placed]
        usual = usual or (boxes[0].area if boxes else 1)
        self.batches = alike(boxes, batch * usual)
        self.on_windows = on_windows

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """x0 of the canvases, shape (N, C, H, W), each at its own noise level, shape (N,)."""
        blended, levels = torch.zeros_like(x), sigma.cpu()
        batches = (self._batch(x, levels, chosen) for chosen in self._chosen())
        answers = evaluated(self.denoiser, batches)
        for chosen, x0 in zip(self._chosen(), answers, strict=True):
            for each, denoised in zip(chosen, x0, strict=True):
                place = blended[each.row][..., *each.box.index]
                # In two operations, so that it does not matter how cells lie in memory.
                place.add_(denoised * each.weight.to(x))
            if self.on_windows is not None:
                self.on_windows(len(chosen))
        return blended

    def _batch(self, x: Tensor, sigma: Tensor, chosen: Sequence[BatchWindow]) -> NetworkBatch:
        crops = torch.stack([x[each.row][..., *each.box.index] for each in chosen])
        return NetworkBatch(
            crops, sigma[[each.row for each in chosen]], [each.box for each in chosen]
        )

    def _chosen(self) -> Iterator[Sequence[BatchWindow]]:
        for batch in self.batches:
            yield self.placed[batch.start : batch.stop]


class SteppedDenoiser:
    """A tiled denoiser whose windows may differ from step to step.

    Args:
        make: makes the tiled denoiser of given windows of each canvas.
        by_step: for each canvas, its windows in each step.
        order: evaluations in each step; the last step may take fewer.
    """

    def __init__(
        self,
        make: Callable[[Sequence[WindowBoxes]], TiledDenoiser],
        by_step: Sequence[Sequence[WindowBoxes]],
        order: int,
    ) -> None:
        self.make = make
        self.steps = list(zip(*by_step, strict=True))
        self.order = order
        self.evaluations = 0
        self.windows: tuple[WindowBoxes, ...] | None = None
        self.tiled: TiledDenoiser | None = None

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """As `TiledDenoiser`; samplers that choose their own steps go through the steps' windows
        again and again."""
        windows = self.steps[self.evaluations // self.order % len(self.steps)]
        self.evaluations += 1
        if self.tiled is None or windows != self.windows:
            self.windows, self.tiled = windows, self.make(windows)
        return self.tiled(x, sigma)
