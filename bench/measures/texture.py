"""How much texture a picture has."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bench.measures.pixels import Pixels, luma


def sharpness(truth: Pixels, result: Pixels) -> float:
    """Gradient energy against the truth's: mean squared difference of neighbours."""

    def energy(grey: NDArray[np.float64]) -> float:
        return float(sum(np.square(np.diff(grey, axis=axis)).mean() for axis in (0, 1)))

    return energy(luma(result)) / energy(luma(truth))
