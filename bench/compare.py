"""Every method on every picture, by every measure."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bench.measures.features import feature_distance, texture_distance
from bench.measures.fidelity import ms_ssim, psnr, ssim, ssimulacra2
from bench.measures.natural import naturalness, niqe
from bench.measures.pixels import Pixels, trimmed
from bench.measures.texture import busy_sharpness, flat_grain, sharpness, slope
from bench.methods import Methods
from bench.tables import pictures, table

MEASURES: dict[str, tuple[Callable[[Pixels, Pixels], float], str]] = {
    "PSNR": (psnr, "{:.2f}"),
    "SSIM": (ssim, "{:.4f}"),
    "MS-SSIM": (ms_ssim, "{:.4f}"),
    "SSIMULACRA2": (ssimulacra2, "{:.1f}"),
    "feature distance": (feature_distance, "{:.3f}"),
    "texture distance": (texture_distance, "{:.3f}"),
    "gradient energy": (sharpness, "{:.0%}"),
    "energy, busy": (busy_sharpness, "{:.0%}"),
    "grain, flat": (flat_grain, "{:.2f}"),
    "slope": (slope, "{:+.2f}"),
}
"""Each measure against the truth, and how a mean of it is written."""
FORMATS = {**{name: form for name, (_, form) in MEASURES.items()}, "NIQE": "{:.2f}"}

Row = dict[str, float]
"""Means over the pictures of each measure, and NIQE of all together."""


def truths(data: Path, scale: int, side: int | None = None) -> list[Image.Image]:
    """The held-out pictures, cut to a multiple of the scale; their middles if `side` is given."""
    found = []
    for path in pictures(data, "eval/truth", "*.png"):
        with Image.open(path) as image:
            truth = image.convert("RGB")
        width, height = (length // scale * scale for length in truth.size)
        if side is not None:
            width, height = min(width, side), min(height, side)
        left, top = (truth.width - width) // 2, (truth.height - height) // 2
        found.append(truth.crop((left, top, left + width, top + height)))
    return found


def compressed(image: Image.Image, quality: int) -> Image.Image:
    """What JPEG of a quality, with half of the colour, leaves of a picture."""
    buffer = io.BytesIO()
    image.save(buffer, "jpeg", quality=quality, subsampling="4:2:0")
    return Image.open(buffer).convert("RGB")


def compare(
    exact: Iterable[Image.Image],
    scale: int,
    named: Methods,
    columns: Iterable[str] = FORMATS,
    jpeg: int | None = None,
) -> dict[str, Row]:
    """Shrink each truth by bicubic, compress it if asked to, and enlarge it by each method."""
    wanted = list(columns)
    chosen = [name for name in wanted if name in MEASURES]
    figures: dict[str, list[list[float]]] = {name: [] for name in named}
    patches: dict[str, list[NDArray[np.float64]]] = {name: [] for name in named}
    for truth in exact:
        small = truth.resize((truth.width // scale, truth.height // scale), 3)
        if jpeg is not None:
            small = compressed(small, jpeg)
        for name, method in named.items():
            pair = trimmed(truth), trimmed(method(small, truth.size))
            figures[name].append([MEASURES[each][0](*pair) for each in chosen])
            if "NIQE" in wanted:
                patches[name].append(naturalness(pair[1]))
            print(name, *(f"{each:.3f}" for each in figures[name][-1]), flush=True)
    found = {
        name: dict(zip(chosen, np.mean(values, axis=0).tolist(), strict=True))
        for name, values in figures.items()
    }
    for name in found if "NIQE" in wanted else ():
        found[name]["NIQE"] = niqe(np.concatenate(patches[name]))
    return found


def written(found: Mapping[str, Row], head: str, columns: Iterable[str], base: str) -> str:
    """A table of the figures, PSNR also as the gain over a method."""
    chosen = [name for name in columns if name != "PSNR"]
    return table(
        [head, "PSNR", f"over {base}", *chosen],
        [
            [
                name,
                f"{row['PSNR']:.2f}",
                f"{row['PSNR'] - found[base]['PSNR']:+.2f}",
                *(FORMATS[each].format(row[each]) for each in chosen),
            ]
            for name, row in found.items()
        ],
    )
