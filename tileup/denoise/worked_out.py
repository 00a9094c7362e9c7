"""A model around which a log is kept: what an earlier run worked out is taken from there."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from numpy.typing import NDArray
from torch import Tensor

from tileup.contracts import AroundModel, Box, Codec, Denoiser, Scene
from tileup.tensors.transfers import Arrival, sent
from tileup.tiling.batches import NetworkBatch, evaluated


class WorkedOut(Protocol):
    """Arrays in the order in which one picture's work gives them."""

    def take(self) -> NDArray[Any] | None:
        """The next one that is there; None, now and from now on: there are no more."""
        ...

    def add(self, numbers: NDArray[Any]) -> None:
        """One more, once there are no more to take."""
        ...


@dataclass(frozen=True, slots=True)
class LoggedDenoiser:
    """A denoiser whose answers are kept; satisfies `BatchDenoiser`."""

    own: Denoiser
    work: WorkedOut

    def __call__(self, x: Tensor, sigma: Tensor, windows: Sequence[Box]) -> Tensor:
        (x0,) = self.in_order([NetworkBatch(x, sigma, windows)])
        return x0

    def in_order(self, batches: Iterable[NetworkBatch]) -> Iterator[Tensor]:
        """x0 of each batch: those that are known, then those that others or this one evaluate."""
        waiting = iter(batches)
        for batch in waiting:
            known = self.work.take()
            if known is None:
                yield from self._added(evaluated(self.own, itertools.chain([batch], waiting)))
                return
            yield torch.from_numpy(known).to(batch.x)

    def _added(self, answers: Iterable[Tensor]) -> Iterator[Tensor]:
        """The same; those of a GPU are added one batch behind, so that nobody waits for it."""
        behind: Arrival | None = None
        for x0 in answers:
            here = sent(x0)
            if behind is not None:
                self.work.add(behind().numpy())
                behind = None
            if isinstance(here, Tensor):
                self.work.add(here.numpy())
            else:
                behind = here
            yield x0
        if behind is not None:
            self.work.add(behind().numpy())


@dataclass(frozen=True, slots=True)
class LoggedCodec:
    """A codec whose latents of the picture are kept; satisfies `Codec`."""

    own: Codec
    work: WorkedOut
    device: str

    def encode(self, pixels: Tensor) -> Tensor:
        return self.encode_rows(lambda top, bottom: pixels[:, :, top:bottom], *pixels.shape[2:])

    def encode_rows(self, rows: Callable[[int, int], Tensor], height: int, width: int) -> Tensor:
        known = self.work.take()
        if known is not None:
            return torch.from_numpy(known).to(self.device)
        latents = self.own.encode_rows(rows, height, width)
        self.work.add(latents.cpu().numpy())
        return latents

    def decode(self, latents: Tensor) -> Tensor:
        return self.own.decode(latents)

    def decode_rows(self, latents: Tensor) -> Iterator[Tensor]:
        return self.own.decode_rows(latents)


@dataclass(frozen=True, slots=True)
class LoggedModel(AroundModel):
    """A model that draws one picture and whose work is kept; satisfies `Model`."""

    work: WorkedOut

    @property
    def codec(self) -> LoggedCodec:
        """Pixels to latents and back."""
        return LoggedCodec(self.model.codec, self.work, self.device)

    def denoiser(self, scene: Scene) -> LoggedDenoiser:
        """The network, conditioned on the picture."""
        return LoggedDenoiser(self.model.denoiser(scene), self.work)
