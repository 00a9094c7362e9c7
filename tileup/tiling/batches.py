"""Batches of windows, evaluated one after the other or by several at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from tileup.contracts import Box, Denoiser


@dataclass(frozen=True, slots=True, eq=False)
class NetworkBatch:
    """Windows that the network is shown at once."""

    x: Tensor
    """Noisy latents, shape (B, C, h, w)."""
    sigma: Tensor
    """Noise level of each, shape (B,), on the CPU: who needs the numbers waits for no GPU."""
    windows: Sequence[Box]
    """Where each lies on the padded canvas, in cells."""


@runtime_checkable
class BatchDenoiser(Protocol):
    """A denoiser that can have several batches evaluated at once."""

    def in_order(self, batches: Iterable[NetworkBatch]) -> Iterator[Tensor]:
        """x0 of each batch, in their order, whoever evaluated it.

        Args:
            batches: taken as there are hands for them, some ahead of what is yielded.
        """
        ...


def evaluated(denoiser: Denoiser, batches: Iterable[NetworkBatch]) -> Iterator[Tensor]:
    """x0 of each batch, in order, shape and dtype of its `x`.

    Which windows share a batch is the caller's choice, and so is the order in which their x0 are
    added up: a canvas does not depend on who evaluated what.
    """
    if isinstance(denoiser, BatchDenoiser):
        yield from denoiser.in_order(batches)
        return
    for batch in batches:
        yield denoiser(batch.x, batch.sigma, batch.windows)
