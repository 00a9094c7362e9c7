"""What per-tile strength saves, and whether detail pays for it: `make bench-cost DATA=data`.

For every photograph, at the default settings and scale 2: megapixel-steps against the same with
every tile at the strongest; the mean strength of the quarter of the area with most detail; and,
with `--draw N`, the gradient energy of that quarter against uniform 0.8's for the first N pictures
of each set. Without it no model runs, and the bench takes a few seconds.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import tileup
from bench.tables import pictures, table, write
from tileup.checkpoints.find import find_model, identify
from tileup.contracts import Model
from tileup.plan.planning import Planned, plan_pixels
from tileup.plan.tiles import TilePlan
from tileup.settings.layers import resolve

SETS = (("large", "*.jpg", 4), ("eval/truth", "*.png", 2))
"""Folder, pattern, and how much a picture is shrunk to make the input."""
RUNS: tuple[tuple[str, dict[str, object]], ...] = (("", {}), (", budget 0.5", {"budget": 0.5}))


@dataclass(frozen=True)
class Figures:
    """Of one picture."""

    share: float
    """Cost against uniform."""
    steps: float
    """Megapixel-steps per output megapixel."""
    cover: float
    """Area of the windows over that of the tiles at work, both over all steps."""
    strength: float
    """Mean strength of the busiest quarter."""
    energy: float | None
    """Gradient energy of that quarter against uniform 0.8's; None if nothing was drawn."""


def planned(small: Image.Image, flags: dict[str, object]) -> Planned:
    """The plan of a picture at scale 2."""
    spec = identify(find_model(None))
    settings = resolve(family=spec.family, flags=flags)
    pixels = np.asarray(small, dtype=np.float32) / 255
    return plan_pixels(pixels, 2 * small.width, 2 * small.height, spec, settings)


def cover(made: Planned) -> float:
    """How much larger what is computed is than what works."""
    itinerary, computed, working = made.itinerary, 0, 0
    for phase in itinerary.phases:
        cells = itinerary.strengths.cells()[: made.plan.rows, : made.plan.columns]
        working += phase.steps * int((cells >= phase.strengths[-1]).sum())
        computed += sum(box.area for windows in phase.by_step for box in windows)
    return computed / working


def busiest(plan: TilePlan) -> tuple[float, NDArray[np.bool_]]:
    """Mean strength of the tiles with most detail, a quarter of the area of them, and where."""
    tiles = sorted(plan.tiles, key=lambda tile: -tile.detail)
    left = quarter = sum(tile.box.area for tile in tiles) / 4
    total, where = 0.0, np.zeros((plan.height, plan.width), dtype=np.bool_)
    for tile in tiles:
        if left <= 0:
            break
        taken = min(tile.box.area, left)
        total, left = total + taken * tile.denoise, left - taken
        where[plan.pixel_box(tile).index] = True
    return total / quarter, where


def energy(image: Image.Image, where: NDArray[np.bool_]) -> float:
    """Mean squared gradient of grey over some pixels."""
    grey = np.asarray(image.convert("RGB"), dtype=np.float64).mean(axis=2)
    down, right = np.gradient(grey) if min(grey.shape) > 1 else (grey * 0, grey * 0)
    return float((down**2 + right**2)[where].mean())


def measure(
    small: Image.Image, flags: dict[str, object], model: Model | None, uniform: Image.Image | None
) -> Figures:
    made = planned(small, flags)
    strength, where = busiest(made.plan)
    ratio = None
    if model is not None and uniform is not None:
        drawn = tileup.upscale(small, model, **flags).image
        ratio = energy(drawn, where) / energy(uniform, where)
    return Figures(
        share=1 - made.cost.saving,
        steps=made.cost.megapixel_steps / (made.plan.width * made.plan.height / 1e6),
        cover=cover(made),
        strength=strength,
        energy=ratio,
    )


def row(name: str, figures: list[Figures]) -> list[str]:
    shares = [each.share for each in figures]
    drawn = [each.energy for each in figures if each.energy is not None]
    return [
        name,
        f"{np.median(shares):.0%}",
        f"{min(shares):.0%} to {max(shares):.0%}",
        f"{np.median([each.steps for each in figures]):.1f}",
        f"{np.median([each.cover for each in figures]):.2f}",
        f"{np.median([each.strength for each in figures]):.2f}"
        f" ({min(each.strength for each in figures):.2f})",
        f"{np.median(drawn):.1%} ({min(drawn):.1%} to {max(drawn):.1%}, {len(drawn)} drawn)"
        if drawn
        else "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--draw", type=int, default=0, help="pictures to draw too: minutes each")
    parser.add_argument("--dry", action="store_true", help="print, do not write the documents")
    arguments = parser.parse_args()
    model = tileup.load_model() if arguments.draw else None
    rows: list[list[str]] = []
    for folder, pattern, shrink in SETS:
        figures: dict[str, list[Figures]] = {label: [] for label, _ in RUNS}
        for number, path in enumerate(pictures(arguments.data, folder, pattern)):
            with Image.open(path) as image:
                size = (image.width // shrink, image.height // shrink)
                small = image.convert("RGB").resize(size, Image.Resampling.BICUBIC)
            uniform = None
            if model is not None and number < arguments.draw:
                uniform = tileup.upscale(small, model, denoise=0.8).image
            for label, flags in RUNS:
                figures[label].append(measure(small, flags, model, uniform))
                print(path.name, label, figures[label][-1], flush=True)
        for label, found in figures.items():
            rows.append(row(f"{folder}, {len(found)} shrunk {shrink}x{label}", found))
    text = table(
        [
            "photographs",
            "cost of 0.2 to 0.8 against uniform 0.8, median",
            "range",
            "megapixel-steps per output megapixel",
            "computed area over working area, median",
            "mean strength of the busiest quarter, median (lowest)",
            "its gradient energy against uniform 0.8's, median (range)",
        ],
        rows,
    )
    print(text)
    if not arguments.dry:
        write("docs/per-tile-denoise.md", "cost", text)
        write("README.md", "cost", text)


if __name__ == "__main__":
    main()
