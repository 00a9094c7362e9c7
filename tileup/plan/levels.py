"""Strength to noise level, for each kind of model family.

`denoise` is the fraction of a family's diffusion time, so it means the same amount of noise under
every scheduler.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


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
