"""Fidelity on held-out pictures: `make bench-quality DATA=data`.

Each truth is shrunk by bicubic, enlarged again, and compared: PSNR in RGB and SSIM, means over the
pictures, and seconds per output megapixel on this machine in this run.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

import tileup
from bench.tables import pictures, table, write
from tileup.contracts import Model

Method = Callable[[Image.Image, tuple[int, int]], Image.Image]


def resized(image: Image.Image, size: tuple[int, int], kernel: Image.Resampling) -> Image.Image:
    return image.resize(size, kernel)


def drawn(
    image: Image.Image, size: tuple[int, int], model: Model, low: float, high: float
) -> Image.Image:
    """tileup at strengths from `low` to `high`."""
    wanted = f"{size[0]}x{size[1]}"
    return tileup.upscale(image, model, size=wanted, min_denoise=low, max_denoise=high).image


def methods(model: Model) -> dict[str, Method]:
    named: dict[str, Method] = {
        "bicubic": partial(resized, kernel=Image.Resampling.BICUBIC),
        "Lanczos": partial(resized, kernel=Image.Resampling.LANCZOS),
    }
    for strength in (0.2, 0.3, 0.5, 0.8):
        named[f"uniform {strength}"] = partial(drawn, model=model, low=strength, high=strength)
    named["quadtree 0.2 to 0.8"] = partial(drawn, model=model, low=0.2, high=0.8)
    return named


def gradient_energy(pixels: NDArray[np.uint8]) -> float:
    """Mean squared difference of neighbours: how sharp a picture is, or how noisy."""
    grey = pixels.astype(np.float64).mean(axis=2)
    return float(np.square(np.diff(grey, axis=0)).mean() + np.square(np.diff(grey, axis=1)).mean())


def measure(truth: Image.Image, small: Image.Image, method: Method) -> NDArray[np.float64]:
    """PSNR in dB, SSIM, gradient energy against the truth's, seconds per output megapixel."""
    start = time.perf_counter()
    result = np.asarray(method(small, truth.size))
    seconds = time.perf_counter() - start
    exact = np.asarray(truth)
    return np.array(
        [
            peak_signal_noise_ratio(exact, result),
            structural_similarity(exact, result, channel_axis=2),
            gradient_energy(result) / gradient_energy(exact),
            seconds / (truth.width * truth.height / 1e6),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--scale", type=int, default=2)
    parser.add_argument("--model")
    parser.add_argument("--dry", action="store_true", help="print, do not write the document")
    arguments = parser.parse_args()
    model = tileup.load_model(arguments.model)
    figures: dict[str, list[NDArray[np.float64]]] = defaultdict(list)
    for path in pictures(arguments.data, "eval/truth", "*.png"):
        with Image.open(path) as image:
            truth = image.convert("RGB")
        size = (truth.width // arguments.scale, truth.height // arguments.scale)
        small = truth.resize(size, Image.Resampling.BICUBIC)
        for name, method in methods(model).items():
            figures[name].append(measure(truth, small, method))
    mean = {name: np.mean(values, axis=0) for name, values in figures.items()}
    text = table(
        ["scale 2, 16 pictures", "PSNR", "over bicubic", "SSIM", "gradient energy", "s per MP"],
        [
            [
                name,
                f"{psnr:.2f} dB",
                f"{psnr - mean['bicubic'][0]:+.2f}",
                f"{ssim:.4f}",
                f"{energy:.0%}",
                f"{seconds:.1f}",
            ]
            for name, (psnr, ssim, energy, seconds) in mean.items()
        ],
    )
    print(text)
    if not arguments.dry:
        write("README.md", "quality", text)


if __name__ == "__main__":
    main()
