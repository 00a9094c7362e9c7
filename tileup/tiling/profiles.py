"""How much each window counts in each of its cells, where windows overlap."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tileup.contracts import Box
from tileup.tiling.overlaps import Neighbours, around, moved

Profile = Callable[[int, int], Tensor]
"""(cells of the window, cells that neighbours share) -> weights along one axis, all above 0."""


def feather(length: int, overlap: int) -> Tensor:
    """Raised-cosine ramps over the overlap at both ends, 1 between; symmetric.

    Returns:
        float64, shape (length,), each weight in (0, 1].
    """
    cell = torch.arange(length, dtype=torch.float64) + 0.5
    rise = (cell / max(overlap, 1)).clamp(max=1)
    ramp = torch.sin(rise * math.pi / 2).square()
    return ramp * ramp.flip(0)


def gaussian(length: int, overlap: int) -> Tensor:
    """Bell curve of variance 0.01 in units of the window: Mixture of Diffusers.

    Jiménez (2023), arXiv 2302.02412; each axis with its own length, centred on (length - 1) / 2.
    The overlap does not matter.
    """
    cell = torch.arange(length, dtype=torch.float64) - (length - 1) / 2
    return torch.exp(-((cell / length) ** 2) / (2 * 0.01))


def uniform(length: int, overlap: int) -> Tensor:
    """The same everywhere: MultiDiffusion, Bar-Tal et al. (2023), arXiv 2302.08113."""
    return torch.ones(length, dtype=torch.float64)


PROFILES: Mapping[str, Profile] = {
    "feather": feather,
    "gaussian": gaussian,
    "uniform": uniform,
}
"""By the name of `--weights`."""


def window_weight(name: str, height: int, width: int, overlap: int) -> Tensor:
    """Weight of one window before normalisation.

    Args:
        name: a key of PROFILES.
        height, width: cells of the window.
        overlap: cells that neighbouring windows share.

    Returns:
        float64, shape (height, width), every weight above 0.
    """
    profile = PROFILES[name]
    return torch.outer(profile(height, overlap), profile(width, overlap))


class WindowWeights:
    """Weights of windows before normalisation, whatever their shape.

    Args:
        name: a key of PROFILES.
        overlap: cells that neighbouring windows share.
        like: gives dtype and device.
    """

    def __init__(self, name: str, overlap: int, like: Tensor) -> None:
        self.name, self.overlap, self.like = name, overlap, like
        self._known: dict[tuple[int, int], Tensor] = {}

    def of(self, box: Box) -> Tensor:
        """Of one window, shape (h, w); see `window_weight`."""
        shape = box.height, box.width
        if shape not in self._known:
            self._known[shape] = window_weight(self.name, *shape, self.overlap).to(self.like)
        return self._known[shape]


def from_the_top(windows: Sequence[Box]) -> list[Box]:
    """The order in which weights are summed up, whichever is that of evaluation."""
    return sorted(windows, key=lambda box: box.top)


def normalised(windows: Sequence[Box], raw: WindowWeights, height: int, width: int) -> list[Tensor]:
    """Weights that sum to one over every cell that lies in a window.

    Args:
        windows: boxes inside the canvas.
        raw: weights of windows before normalisation.
        height, width: cells of the canvas.

    Returns:
        One tensor per window, of its shape, in the given order.
    """
    total = raw.like.new_zeros(height, width)
    for box in from_the_top(windows):
        total[box.index] += raw.of(box)
    return [raw.of(box) / total[box.index] for box in windows]


@dataclass(frozen=True, slots=True)
class Shares:
    """How much a window counts in its cells, relative to its corner."""

    alone: Box | None
    """Where it counts fully, as no other window lies there."""
    shared: Sequence[tuple[Box, Tensor]]
    """The rest, and weights there, shape (h, w, 1)."""


class NormalisedShares:
    """What `normalised` gives, for one window at a time: windows that lie among others alike share
    their weights.

    Args:
        windows: boxes of the canvas.
        raw: weights of windows before normalisation.
    """

    def __init__(self, windows: Sequence[Box], raw: WindowWeights) -> None:
        self.windows, self.raw = windows, raw
        self.neighbours = Neighbours(windows)
        self._known: dict[bytes, Shares] = {}
        self._arrays: dict[tuple[int, int], NDArray[Any]] = {}

    def of(self, window: int) -> Shares:
        """Of the window with this number."""
        edges = self.neighbours.edges
        near = edges[:, self.neighbours.of(window)] - edges[[0, 1, 0, 1], window, None]
        key = near.tobytes()
        if key not in self._known:
            if len(self._known) == _SHARES:
                self._known.clear()
            self._known[key] = self._made(window, near)
        return self._known[key]

    def _made(self, window: int, near: NDArray[np.int64]) -> Shares:
        """Among windows, told from its corner, which lie in the order of `from_the_top`."""
        box = self.windows[window]
        height, width = box.height, box.width
        raw = self._raw(height, width)
        total = np.zeros_like(raw)
        for top, left, bottom, right in near.T.tolist():
            up, down = max(top, 0), min(bottom, height)
            before, after = max(left, 0), min(right, width)
            other = self._raw(bottom - top, right - left)
            total[up:down, before:after] += other[
                up - top : down - top, before - left : after - left
            ]
        weight = (raw / total)[..., None]
        alone = self.neighbours.alone(window)
        whole = Box(0, 0, height, width)
        if alone is None:
            return Shares(None, [(whole, self._tensor(weight))])
        inner = moved(alone, -box.top, -box.left)
        rest = [(part, self._tensor(weight[part.index])) for part in around(whole, inner)]
        return Shares(inner, rest)

    def _raw(self, height: int, width: int) -> NDArray[Any]:
        shape = height, width
        if shape not in self._arrays:
            self._arrays[shape] = self.raw.of(Box(0, 0, *shape)).cpu().numpy()
        return self._arrays[shape]

    def _tensor(self, weight: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(weight)).to(self.raw.like.device)


_SHARES = 256
"""Ways to lie among others whose weights are held."""
