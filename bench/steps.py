"""Quality against work: steps, windows and their overlap: `make bench-steps DATA=data`.

The quadtree from 0.2 to 0.8 at scale 2 on some of the held-out pictures. Operations are those of
the network, multiplications and additions counted by torch, in all windows that the plan evaluates.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

import tileup
from bench.compare import truths
from bench.measures.fidelity import psnr, ssim, ssimulacra2
from bench.measures.natural import naturalness, niqe
from bench.measures.pixels import trimmed
from bench.measures.texture import sharpness
from bench.tables import table, write
from tileup.contracts import Box, Scene
from tileup.settings.layers import resolve

STEPS = (2, 3, 4, 5, 6, 8, 12)
WINDOWS = ((144, 32), (160, 32), (272, 16), (288, 32))
EVERY = 4
"""Each how many-th of the held-out pictures is drawn."""


def operations(name: str | None) -> float:
    """Of one call of a checkpoint's network, for each output pixel."""
    # What ncnn does cannot be counted.
    model = tileup.load_model(name, device="cpu", runtime="torch")
    cells = 80
    x = torch.zeros(1, model.spec.channels, cells, cells)
    side = cells * model.spec.stride
    denoiser = model.denoiser(Scene(source=x, pixels=None, size=(side, side)))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        denoiser(x, torch.tensor([0.1]), [Box(0, 0, cells, cells)])
    return counter.get_total_flops() / (cells * model.spec.stride) ** 2


def choices(window: int, overlap: int, steps: int) -> Iterator[dict[str, int]]:
    for each in STEPS:
        yield {"steps": each, "window": window, "overlap": overlap}
    for side, shared in WINDOWS:
        yield {"steps": steps, "window": side, "overlap": shared}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--model")
    parser.add_argument("--every", type=int, default=EVERY)
    parser.add_argument("--dry", action="store_true", help="print, do not write the document")
    arguments = parser.parse_args()
    model = tileup.load_model(arguments.model, device="cpu", dtype="float32")
    each = operations(arguments.model)
    exact = truths(arguments.data, 2)[:: arguments.every]
    smalls = [t.resize((t.width // 2, t.height // 2), 3) for t in exact]
    area = sum(t.width * t.height for t in exact)
    cubic = [s.resize(t.size, 3) for s, t in zip(smalls, exact, strict=True)]
    base = np.mean([psnr(trimmed(t), trimmed(c)) for t, c in zip(exact, cubic, strict=True)])
    rows = []
    usual = resolve(model.spec.family)
    for flags in choices(model.spec.window, usual.overlap, usual.steps):
        figures, patches, evaluated = [], [], 0.0
        for truth, small in zip(exact, smalls, strict=True):
            drawn = tileup.upscale(small, model, min_denoise=0.2, max_denoise=0.8, **flags)
            evaluated += drawn.cost.megapixel_steps * 1e6
            pair = trimmed(truth), trimmed(drawn.image)
            figures.append([f(*pair) for f in (psnr, ssim, ssimulacra2, sharpness)])
            patches.append(naturalness(pair[1]))
        gain, similar, visible, sharp = np.mean(figures, axis=0) - np.array([base, 0, 0, 0])
        rows.append(
            [
                flags["steps"],
                flags["window"],
                flags["overlap"],
                f"{evaluated * each / area / 1e3:.0f}",
                f"{gain:+.2f}",
                f"{similar:.4f}",
                f"{visible:.1f}",
                f"{niqe(np.concatenate(patches)):.2f}",
                f"{sharp:.0%}",
            ]
        )
        print(*rows[-1], flush=True)
    text = table(
        [
            "steps",
            "window, px",
            "overlap, px",
            "GFLOP per output megapixel",
            "PSNR over bicubic",
            "SSIM",
            "SSIMULACRA2",
            "NIQE",
            "gradient energy",
        ],
        rows,
    )
    if not arguments.dry:
        write("docs/quality.md", "steps", text)


if __name__ == "__main__":
    main()
