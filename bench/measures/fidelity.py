"""How near a picture is to the truth."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from bench.measures.pixels import Pixels, luma


def psnr(truth: Pixels, result: Pixels) -> float:
    """In dB, over RGB."""
    return float(peak_signal_noise_ratio(truth, result))


def ssim(truth: Pixels, result: Pixels) -> float:
    """Mean over RGB, uniform windows of 7 pixels."""
    return float(structural_similarity(truth, result, channel_axis=2))


MS_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def ms_ssim(truth: Pixels, result: Pixels) -> float:
    """Multi-scale SSIM of luma (Wang, Simoncelli and Bovik 2003): Gaussian windows of 11 pixels.

    Raises:
        ValueError: a side is below 176 pixels, too small for the coarsest of the five scales.
    """
    first, second = luma(truth), luma(result)
    if min(first.shape) < 11 * 2 ** (len(MS_WEIGHTS) - 1):
        raise ValueError(f"{first.shape[1]}x{first.shape[0]} is too small for MS-SSIM")
    product = 1.0
    for level, weight in enumerate(MS_WEIGHTS):
        brightness, structure = _similarity(first, second)
        last = level == len(MS_WEIGHTS) - 1
        value = (brightness * structure if last else structure).mean()
        product *= max(float(value), 0.0) ** weight
        first, second = _halved(first), _halved(second)
    return product


def _similarity(
    a: NDArray[np.float64], b: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The brightness and the contrast-structure term of SSIM at each place."""

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return gaussian_filter(values, 1.5, radius=5)[5:-5, 5:-5]

    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mean_a, mean_b = mean(a), mean(b)
    var_a, var_b = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2
    both = mean(a * b) - mean_a * mean_b
    brightness = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return brightness, (2 * both + c2) / (var_a + var_b + c2)


def _halved(values: NDArray[np.float64]) -> NDArray[np.float64]:
    height, width = (side // 2 * 2 for side in values.shape)
    return values[:height, :width].reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3))


def ssimulacra2(truth: Pixels, result: Pixels) -> float:
    """By the package `ssimulacra2`; 100 is the truth, 90 can hardly be told from it."""
    from ssimulacra2 import compute_ssimulacra2

    files = [io.BytesIO(), io.BytesIO()]
    for pixels, file in zip((truth, result), files, strict=True):
        Image.fromarray(np.ascontiguousarray(pixels)).save(file, "png", compress_level=1)
        file.seek(0)
    return float(compute_ssimulacra2(*files))
