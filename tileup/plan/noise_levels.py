"""Strength to noise level, for each kind of model family.

`denoise` is the fraction of a family's diffusion time, so it means the same amount of noise under
every scheduler.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tileup.contracts import ModelSpec


@dataclass(frozen=True, slots=True)
class TableLevels:
    """Noise levels from a table, interpolated in log sigma between its rows.

    Serves the bundled model, whose header carries the table, and every eps and v model, whose
    table is that of its training: row t of T stands for strength t / (T - 1).
    """

    times: tuple[float, ...]
    """Strengths, strictly increasing from 0 to 1."""
    sigmas: tuple[float, ...]
    """Noise level of each strength, strictly increasing, above 0."""

    def __post_init__(self) -> None:
        if len(self.times) != len(self.sigmas) or len(self.times) < 2:
            raise ValueError("a noise table needs as many sigmas as times, and at least two")
        if self.times[0] != 0 or self.times[-1] != 1:
            raise ValueError("the times of a noise table go from 0 to 1")
        if self.sigmas[0] <= 0 or not np.isfinite(self.sigmas).all():
            raise ValueError("the sigmas of a noise table are finite and above 0")
        if np.any(np.diff(self.times) <= 0) or np.any(np.diff(self.sigmas) <= 0):
            raise ValueError("the times and sigmas of a noise table strictly increase")

    @property
    def sigma_min(self) -> float:
        return self.sigmas[0]

    @property
    def sigma_max(self) -> float:
        return self.sigmas[-1]

    def sigma(self, denoise: NDArray[np.float64]) -> NDArray[np.float64]:
        """Noise level of each strength in [0, 1]."""
        return np.exp(np.interp(denoise, self.times, np.log(self.sigmas)))

    def denoise(self, sigma: NDArray[np.float64]) -> NDArray[np.float64]:
        """Strength of each noise level, clamped to [0, 1]."""
        return np.interp(np.log(sigma), np.log(self.sigmas), self.times)


ZERO_SNR = 4.8973451890853435e-08
"""Share of the picture, in power, that stands for none at all: its root is 0.00022, sigma 4518.7.

At exactly 0 sigma would be infinite. Others who load such models use the same number.
"""


def training_levels(
    *,
    beta_start: float = 0.00085,
    beta_end: float = 0.012,
    rows: int = 1000,
    zero_snr: bool = False,
) -> TableLevels:
    """Noise levels of an eps or v model, from its training.

    The betas are linear in their square roots, and sigma^2 = (1 - a) / a with a the product of
    1 - beta: Rombach et al. (2022), arXiv 2112.10752. The defaults are those of SD 1, SD 2 and
    SDXL: 0.0292 to 14.61.

    With `zero_snr` sqrt(a) is shifted and stretched so that its first value stays and its last is
    0, as in models trained up to pure noise: Lin et al. (2023), arXiv 2305.08891, algorithm 1.
    """
    betas = np.linspace(beta_start**0.5, beta_end**0.5, rows) ** 2
    left = np.cumprod(1 - betas)
    if zero_snr:
        root = np.sqrt(left)
        left = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
        left[-1] = ZERO_SNR
    sigmas = np.sqrt((1 - left) / left)
    return TableLevels(tuple(np.linspace(0, 1, rows).tolist()), tuple(sigmas.tolist()))


@dataclass(frozen=True, slots=True)
class FlowLevels:
    """Noise levels of a rectified flow, in variance-exploding terms.

    With flow time s the picture is `(1 - s) * x0 + s * noise`; divided by 1 - s it is
    `x0 + sigma * noise` with `sigma = s / (1 - s)`. Denoise is the time before shifting.
    """

    shift: float
    """s = shift * d / (1 + (shift - 1) * d), at least 1: 3 for SD 3, e^mu for FLUX dev."""
    highest: float = 1 - 1e-4
    """The flow time that strength 1 stands for; at 1 itself sigma would be infinite."""
    lowest: float = 1e-3
    """The flow time that stands for strength 0: a thousandth, as in training."""

    @property
    def sigma_min(self) -> float:
        return float(self.sigma(np.zeros(1))[0])

    @property
    def sigma_max(self) -> float:
        return float(self.sigma(np.ones(1))[0])

    def sigma(self, denoise: NDArray[np.float64]) -> NDArray[np.float64]:
        """Noise level of each strength in [0, 1]."""
        low, high = self._unshifted(self.lowest), self._unshifted(self.highest)
        time = low + denoise * (high - low)
        flow = self.shift * time / (1 + (self.shift - 1) * time)
        return flow / (1 - flow)

    def denoise(self, sigma: NDArray[np.float64]) -> NDArray[np.float64]:
        """Strength of each noise level, clamped to [0, 1]."""
        low, high = self._unshifted(self.lowest), self._unshifted(self.highest)
        flow = sigma / (1 + sigma)
        time = flow / (self.shift - (self.shift - 1) * flow)
        return np.clip((time - low) / (high - low), 0.0, 1.0)

    def _unshifted(self, flow: float) -> float:
        return flow / (self.shift - (self.shift - 1) * flow)


@dataclass(frozen=True, slots=True)
class Growth:
    """How a family's shift grows with the tokens that it is shown at once: e^mu, mu linear in them.

    A token is 16 pixels wide and high.
    """

    slope: float
    """Of mu, for each token."""
    offset: float
    """mu of no tokens."""
    large: float = math.inf
    """From more tokens than this, the other two count."""
    large_slope: float = 0.0
    large_offset: float = 0.0

    @classmethod
    def through(cls, few: tuple[int, float], many: tuple[int, float]) -> Growth:
        """The line through two points, each tokens and mu."""
        slope = (many[1] - few[1]) / (many[0] - few[0])
        return cls(slope, few[1] - slope * few[0])

    def shift(self, window: int) -> float:
        """The shift for square windows of this side, pixels."""
        tokens = (window / 16) ** 2
        if tokens > self.large:
            return math.exp(self.large_slope * tokens + self.large_offset)
        return math.exp(self.slope * tokens + self.offset)


FLUX_GROWTH = Growth.through((256, 0.5), (4096, 1.15))
"""black-forest-labs/flux, sampling.py."""


@dataclass(frozen=True, slots=True)
class WindowFlowLevels(FlowLevels):
    """Noise levels of a flow whose shift grows with the tokens that it is shown at once."""

    growth: Growth = FLUX_GROWTH

    @classmethod
    def of(cls, window: int, growth: Growth = FLUX_GROWTH) -> WindowFlowLevels:
        """The levels for square windows of this side, pixels."""
        return cls(shift=growth.shift(window), growth=growth)


def fitted(spec: ModelSpec, window: int) -> ModelSpec:
    """A model's spec for windows of this side, pixels: some families' noise levels depend on it."""
    if not isinstance(spec.levels, WindowFlowLevels):
        return spec
    return replace(spec, levels=WindowFlowLevels.of(window, spec.levels.growth))
