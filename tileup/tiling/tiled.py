"""A denoiser of windows becomes a denoiser of the canvas."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from tileup.contracts import Box, Denoiser
from tileup.tiling.weights import normalised


class TiledDenoiser:
    """Evaluates windows in batches and blends their x0; cells in no window come out as 0.

    Args:
        denoiser: predicts x0 of windows.
        windows: boxes of one shape on the canvas.
        raw: weight of a window before normalisation, shape (h, w).
        height, width: cells of the canvas.
        batch: windows evaluated at once; the result does not depend on it beyond rounding.
        on_windows: told how many windows were just evaluated.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        windows: Sequence[Box],
        raw: Tensor,
        *,
        height: int,
        width: int,
        batch: int = 1,
        on_windows: Callable[[int], None] | None = None,
    ) -> None:
        self.denoiser = denoiser
        self.windows = windows
        self.weights = normalised(windows, raw, height, width)
        self.batch = batch
        self.on_windows = on_windows

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """x0 of a canvas, shape (1, C, H, W), at one noise level, shape (1,)."""
        blended = torch.zeros_like(x)
        for chosen, weights in self._batches():
            crops = torch.cat([x[..., *box.index] for box in chosen])
            denoised = self.denoiser(crops, sigma.expand(len(chosen)), chosen)
            for row, (box, weight) in enumerate(zip(chosen, weights, strict=True)):
                blended[..., *box.index] += denoised[row] * weight.to(x)
            if self.on_windows is not None:
                self.on_windows(len(chosen))
        return blended

    def _batches(self) -> Iterator[tuple[Sequence[Box], Sequence[Tensor]]]:
        for start in range(0, len(self.windows), self.batch):
            part = slice(start, start + self.batch)
            yield self.windows[part], self.weights[part]
