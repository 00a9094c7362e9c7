"""Windows of one picture that are evaluated elsewhere: what has to travel, and what comes back.

All that a network is shown beside its windows is cropped with their boxes. So a batch travels
alone: its windows lie one below the other on a canvas of their own, with what belongs to them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tileup.contracts import AroundModel, Box, Denoiser, Model, Scene, Wish
from tileup.sampling.guided import GuidedDenoiser
from tileup.settings.values import Settings
from tileup.tiling.batches import NetworkBatch

WireArray = NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class WindowRequest:
    """A batch of windows and all that is needed to evaluate it; survives `pickle`."""

    settings: Settings
    """With which the model is loaded."""
    x: WireArray
    """Noisy latents, shape (B, C, h, w)."""
    sigma: WireArray
    """Noise level of each, shape (B,)."""
    source: WireArray
    """Latents of the enlarged picture, windows one below the other: shape (1, C, B * h, w)."""
    pixels: WireArray | None
    """The enlarged picture likewise, shape (1, 3, B * h * stride, w * stride)."""
    strength: WireArray | None
    """Denoising strength likewise, shape (1, 1, B * h, w)."""
    masked: WireArray | None
    """Latents of a grey picture likewise, the shape of `source`."""
    size: tuple[int, int]
    """Height and width of the whole picture, pixels."""
    wish: Wish
    control_until: float

    def evaluated(self, model: Model) -> WireArray:
        """x0 of its windows, shape and dtype of `x`."""
        # Copies, as an object store lends memory that is not to be written to.

        def there(numbers: WireArray | None) -> Tensor | None:
            return None if numbers is None else torch.tensor(numbers).to(model.device)

        count, _, height, width = self.x.shape
        windows = [Box(row * height, 0, (row + 1) * height, width) for row in range(count)]
        x, source = (torch.tensor(each).to(model.device) for each in (self.x, self.source))
        sigma = torch.tensor(self.sigma)
        strength = None if self.strength is None else torch.tensor(self.strength)
        scene = Scene(
            source,
            there(self.pixels),
            self.size,
            self.wish,
            self.control_until,
            strength,
            there(self.masked),
        )
        return _numbers(model.denoiser(scene)(x, sigma, windows))


def request_of(batch: NetworkBatch, scene: Scene, stride: int, settings: Settings) -> WindowRequest:
    """A batch, ready to travel.

    Args:
        batch: of windows of the canvas.
        scene: the picture.
        stride: pixels per latent cell.
        settings: with which the model is loaded.
    """

    def below(canvas: Tensor, boxes: Sequence[Box]) -> WireArray:
        return _numbers(torch.cat([canvas[..., *box.index] for box in boxes], dim=-2))

    pixels = scene.pixels if settings.control is not None else None  # else nobody looks at them
    return WindowRequest(
        settings,
        _numbers(batch.x),
        _numbers(batch.sigma),
        below(scene.source, batch.windows),
        None if pixels is None else below(pixels, [box.scaled(stride) for box in batch.windows]),
        None if scene.strength is None else below(scene.strength, batch.windows),
        None if scene.masked is None else below(scene.masked, batch.windows),
        scene.size,
        scene.wish,
        scene.control_until,
    )


def _numbers(tensor: Tensor) -> WireArray:
    return np.ascontiguousarray(tensor.cpu().numpy())


class Share(Protocol):
    """Has batches evaluated, by whoever can."""

    def __call__(
        self,
        batches: Iterable[NetworkBatch],
        mine: Callable[[NetworkBatch], Tensor],
        request: Callable[[NetworkBatch], WindowRequest],
    ) -> Iterator[Tensor]:
        """x0 of each batch, in order.

        Args:
            batches: taken in the caller's thread.
            mine: evaluates one here, in the caller's thread.
            request: makes one ready to travel; called by any thread.
        """
        ...


@dataclass(frozen=True, slots=True)
class SpreadDenoiser:
    """A denoiser that has batches evaluated elsewhere too; satisfies `BatchDenoiser`."""

    own: Denoiser
    scene: Scene
    stride: int
    settings: Settings
    share: Share

    def __call__(self, x: Tensor, sigma: Tensor, windows: Sequence[Box]) -> Tensor:
        return self.own(x, sigma, windows)

    def in_order(self, batches: Iterable[NetworkBatch]) -> Iterator[Tensor]:
        return self.share(batches, self._mine, self._request)

    def _mine(self, batch: NetworkBatch) -> Tensor:
        return self.own(batch.x, batch.sigma, batch.windows)

    def _request(self, batch: NetworkBatch) -> WindowRequest:
        return request_of(batch, self.scene, self.stride, self.settings)


@dataclass(frozen=True, slots=True)
class SpreadModel(AroundModel):
    """A model whose windows are evaluated elsewhere too; satisfies `Model`."""

    settings: Settings
    """With which it was loaded."""
    share: Share

    def denoiser(self, scene: Scene) -> SpreadDenoiser:
        """The network, conditioned on one picture."""
        own = self.model.denoiser(scene)
        if isinstance(own, GuidedDenoiser):
            scene = replace(scene, masked=own.scene.masked)
        return SpreadDenoiser(own, scene, self.spec.stride, self.settings, self.share)
