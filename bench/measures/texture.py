"""How much texture a picture has, where, and how much of it is chance.

The busy part of a picture is the quarter of its area around which the truth changes most from pixel
to pixel, the flat part the half around which it changes least.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, uniform_filter

from bench.measures.pixels import Pixels, luma

AROUND = 33  # pixels that say how busy it is around a pixel
OCTAVES = 4  # of the spectrum, from the finest
SMOOTHER = 2.0  # standard deviation of the mean that grain is told from, pixels

Mask = NDArray[np.bool_]


def sharpness(truth: Pixels, result: Pixels) -> float:
    """Gradient energy against the truth's: mean squared difference of neighbours."""

    def energy(grey: NDArray[np.float64]) -> float:
        return float(sum(np.square(np.diff(grey, axis=axis)).mean() for axis in (0, 1)))

    return energy(luma(result)) / energy(luma(truth))


def changes(pixels: Pixels) -> NDArray[np.float64]:
    """Squared differences of each pixel to the one on its right and the one below, (H-1, W-1)."""
    grey = luma(pixels)
    return np.square(grey[:-1, 1:] - grey[:-1, :-1]) + np.square(grey[1:, :-1] - grey[:-1, :-1])


def busy(truth: Pixels) -> Mask:
    """Where the busiest quarter is, shape (H-1, W-1)."""
    around = uniform_filter(changes(truth), AROUND)
    return around >= np.quantile(around, 0.75)


def flat(truth: Pixels) -> Mask:
    """Where the flattest half is, shape (H-1, W-1)."""
    around = uniform_filter(changes(truth), AROUND)
    return around <= np.quantile(around, 0.5)


def busy_sharpness(truth: Pixels, result: Pixels) -> float:
    """Gradient energy of the busy part against the truth's there."""
    where = busy(truth)
    return float(changes(result)[where].mean() / changes(truth)[where].mean())


def flat_grain(truth: Pixels, result: Pixels) -> float:
    """Standard deviation in the flat part of what is left without its local mean, of 255.

    It is high where noise was drawn into flats; the truth says only where they are.
    """
    grey = luma(result)
    grain = (grey - gaussian_filter(grey, SMOOTHER))[:-1, :-1]
    return float(grain[flat(truth)].std())


def octaves(pixels: Pixels) -> NDArray[np.float64]:
    """Mean power of the spectrum in each octave in dB, coarse to fine, shape (OCTAVES,).

    The finest reaches from a quarter to half a cycle per pixel in any direction.
    """
    grey = luma(pixels)
    window = np.hanning(grey.shape[0])[:, None] * np.hanning(grey.shape[1])
    power = np.square(np.abs(np.fft.rfft2((grey - grey.mean()) * window)))
    rows, columns = np.fft.fftfreq(grey.shape[0]), np.fft.rfftfreq(grey.shape[1])
    frequency = np.hypot(rows[:, None], columns)
    ends = 0.5 / 2.0 ** np.arange(OCTAVES, -1, -1)
    means = [
        power[(frequency > low) & (frequency <= high)].mean()
        for low, high in itertools.pairwise(ends)
    ]
    return 10 * np.log10(means)


def slope(truth: Pixels, result: Pixels) -> float:
    """By how many dB more the spectrum falls from octave to octave than the truth's does.

    0 is the truth's; below 0 a picture is too smooth, above 0 too rough.
    """
    apart = octaves(result) - octaves(truth)
    return float(np.polyfit(np.arange(OCTAVES), apart, 1)[0])


def diversity(results: Sequence[Pixels], where: Mask) -> float:
    """Standard deviation of brightness from seed to seed, of 255, over a part of a picture.

    Args:
        results: the same picture drawn with several seeds.
        where: the part, shape (H-1, W-1).
    """
    variance = np.var([luma(each) for each in results], axis=0, ddof=1)[:-1, :-1]
    return float(np.sqrt(variance[where].mean()))
