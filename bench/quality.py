"""Fidelity on held-out pictures, beside other enlargers: `make bench-quality DATA=data`.

Each truth is shrunk by bicubic, enlarged again by every method in turn, and compared.
realesrgan-x4plus takes minutes for a megapixel, so it has a table of its own, in which every
method enlarges the middles of the pictures. Times are measured by `bench.speed`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

import tileup
from bench.measures import MEASURES, naturalness, niqe, trimmed
from bench.peers import anime_video, x4plus
from bench.tables import pictures, table, write
from tileup.contracts import Model

DOCUMENT = "docs/quality.md"
MIDDLE = 216
"""Side of the middles that x4plus is compared on, pixels."""

Method = Callable[[Image.Image, tuple[int, int]], Image.Image]
Methods = Mapping[str, Method]


def resized(image: Image.Image, size: tuple[int, int], kernel: Image.Resampling) -> Image.Image:
    return image.resize(size, kernel)


def drawn(
    image: Image.Image, size: tuple[int, int], model: Model, low: float, high: float
) -> Image.Image:
    """tileup at strengths from `low` to `high`, everything else at its default."""
    wanted = f"{size[0]}x{size[1]}"
    return tileup.upscale(image, model, size=wanted, min_denoise=low, max_denoise=high).image


def kernels() -> Methods:
    return {
        "bicubic": partial(resized, kernel=Image.Resampling.BICUBIC),
        "Lanczos": partial(resized, kernel=Image.Resampling.LANCZOS),
    }


QUADTREE = "tileup, quadtree 0.2 to 0.8"


def ours(model: Model) -> Methods:
    named: dict[str, Method] = {
        f"tileup, uniform {strength}": partial(drawn, model=model, low=strength, high=strength)
        for strength in (0.2, 0.5, 0.8)
    }
    return {**named, QUADTREE: partial(drawn, model=model, low=0.2, high=0.8)}


def methods(model: Model, scale: int, *, peers: bool, large: bool = False) -> Methods:
    """Everything that is compared at a scale."""
    named: dict[str, Method] = dict(kernels())
    if peers:
        threads = torch.get_num_threads()
        named[f"realesr-animevideov3-x{scale}"] = anime_video(scale, threads)
        if large:
            named["realesrgan-x4plus"] = x4plus(threads)
    return {**named, **ours(model)}


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


Row = dict[str, float]
"""Means over the pictures of each measure, and NIQE of all together."""


def compare(exact: Iterable[Image.Image], scale: int, named: Methods) -> dict[str, Row]:
    """Every method on every picture."""
    figures: dict[str, list[list[float]]] = {name: [] for name in named}
    patches: dict[str, list[NDArray[np.float64]]] = {name: [] for name in named}
    for truth in exact:
        small = truth.resize((truth.width // scale, truth.height // scale), 3)
        for name, method in named.items():
            pair = trimmed(truth), trimmed(method(small, truth.size))
            figures[name].append([measure(*pair) for measure, _ in MEASURES.values()])
            patches[name].append(naturalness(pair[1]))
            print(name, *(f"{each:.3f}" for each in figures[name][-1]), flush=True)
    return {
        name: {
            **dict(zip(MEASURES, np.mean(values, axis=0).tolist(), strict=True)),
            "NIQE": niqe(np.concatenate(patches[name])),
        }
        for name, values in figures.items()
    }


SHORT = ("PSNR", "SSIM", "SSIMULACRA2", "NIQE", "gradient energy")


def written(found: Mapping[str, Row], head: str, columns: Iterable[str] | None = None) -> str:
    """A table of the figures."""
    formats = {name: form for name, (_, form) in MEASURES.items()}
    formats["NIQE"] = "{:.2f}"
    chosen = list(columns or formats)
    base = found["bicubic"]["PSNR"]
    chosen_heads = [head, "PSNR", "over bicubic", *(name for name in chosen if name != "PSNR")]
    return table(
        chosen_heads,
        [
            [
                name,
                f"{row['PSNR']:.2f}",
                f"{row['PSNR'] - base:+.2f}",
                *(formats[each].format(row[each]) for each in chosen if each != "PSNR"),
            ]
            for name, row in found.items()
        ],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--scales", type=int, nargs="*", default=[2, 3, 4])
    parser.add_argument("--model", help="another checkpoint of the bundled family")
    parser.add_argument("--limit", type=int, help="only so many pictures")
    parser.add_argument("--no-peers", dest="peers", action="store_false")
    parser.add_argument(
        "--no-middles", dest="middles", action="store_false", help="leave x4plus out"
    )
    parser.add_argument("--dry", action="store_true", help="print, do not write the documents")
    arguments = parser.parse_args()
    model = tileup.load_model(arguments.model, device="cpu")

    def output(document: str, name: str, text: str) -> None:
        print(text, flush=True)
        if not arguments.dry:
            write(document, name, text)

    for scale in arguments.scales:
        exact = truths(arguments.data, scale)[: arguments.limit]
        found = compare(exact, scale, methods(model, scale, peers=arguments.peers))
        head = f"scale {scale}, {len(exact)} pictures"
        output(DOCUMENT, f"scale-{scale}", written(found, head))
        if scale == 2:
            output("README.md", "quality", written(found, head, SHORT))
    if arguments.middles and arguments.peers:
        exact = truths(arguments.data, 2, MIDDLE)[: arguments.limit]
        found = compare(exact, 2, methods(model, 2, peers=True, large=True))
        output(DOCUMENT, "middles", written(found, f"scale 2, middles of {MIDDLE} px"))


if __name__ == "__main__":
    main()
