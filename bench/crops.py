"""Crops side by side: `make bench-crops`. Writes docs/quality.jpg and models/failures.jpg.

From pictures that anybody may have: the dandelion of docs/demo (CC0), and from scikit-image the
astronaut (NASA, public domain), the coffee and the cat (CC0). None was trained on.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from skimage import data

import tileup
from bench.methods import Methods, methods, ours, uniform
from bench.peers import x4plus
from bench.tables import ROOT
from tileup.contracts import Model

SIDE, ZOOM, GAP, HEAD = 96, 2, 4, 26
AROUND = 48
"""Pixels around a crop that are enlarged with it."""


def region(picture: Image.Image, left: int, top: int) -> Image.Image:
    """A crop of `SIDE` pixels with what lies around it."""
    side = SIDE + 2 * AROUND
    return picture.convert("RGB").crop((left, top, left + side, top + side))


def scenes() -> dict[str, Image.Image]:
    with Image.open(ROOT / "docs" / "demo" / "seeding.jpg") as photograph:
        seeding = photograph.convert("RGB")
    return {
        "face": region(Image.fromarray(data.astronaut()), 130, 10),
        "fur": region(Image.fromarray(data.chelsea()), 120, 30),
        "cup": region(Image.fromarray(data.coffee()), 110, 60),
        "dandelion": region(seeding, 180, 80),
    }


def text() -> Image.Image:
    """Small print, black on white."""
    side = SIDE + 2 * AROUND
    page = Image.new("RGB", (side, side), "white")
    words = "Small print: every letter here is thirteen pixels high, and half of that when shrunk."
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(13)
    for row in range(11):
        draw.text((4 - row * 23, 6 + row * 17), words * 2, fill="black", font=font)
    return page


def stripes() -> Image.Image:
    """Rings whose lines get finer outwards, until shrinking folds them."""
    side = SIDE + 2 * AROUND
    y, x = np.mgrid[:side, :side] - side / 2
    wave = np.cos((x**2 + y**2) * np.pi / 190)
    return Image.fromarray(np.rint(127.5 + 110 * wave).astype(np.uint8)).convert("RGB")


def row(truth: Image.Image, scale: int, named: Methods) -> list[Image.Image]:
    """The middle of the truth, and of what each method makes of it."""
    small = truth.resize((truth.width // scale, truth.height // scale), Image.Resampling.BICUBIC)
    pictures = [truth, *(method(small, truth.size) for method in named.values())]
    box = (AROUND, AROUND, AROUND + SIDE, AROUND + SIDE)
    shown = (SIDE * ZOOM, SIDE * ZOOM)
    return [each.crop(box).resize(shown, Image.Resampling.NEAREST) for each in pictures]


def sheet(
    rows: Mapping[str, tuple[Image.Image, int]], named: Mapping[int, Methods], path: Path
) -> None:
    """Rows of crops under the names of the methods."""
    font = ImageFont.load_default(14)
    step = SIDE * ZOOM + GAP
    heads = ["truth", *next(iter(named.values()))]
    page = Image.new("RGB", (len(heads) * step, HEAD + len(rows) * step), "white")
    draw = ImageDraw.Draw(page)
    for column, head in enumerate(heads):
        draw.text((column * step + 4, 5), head.removeprefix("tileup, "), fill="black", font=font)
    for line, (truth, scale) in enumerate(rows.values()):
        for column, crop in enumerate(row(truth, scale, named[scale])):
            page.paste(crop, (column * step, HEAD + line * step))
    page.save(path, quality=86)


def failures(model: Model) -> None:
    """Small print, a small face and fine rings."""
    face = Image.fromarray(data.astronaut()).convert("RGB")
    rows = {
        "text": (text(), 2),
        "face": (region(face.resize((352, 352), Image.Resampling.LANCZOS), 60, 0), 4),
        "rings": (stripes(), 2),
    }
    named = {
        scale: {
            "Lanczos": methods(model, scale, peers=False)["Lanczos"],
            **{
                name: each
                for name, each in ours(model).items()
                if "0.4" not in name and "0.6" not in name
            },
        }
        for scale in (2, 4)
    }
    sheet(rows, named, ROOT / "models" / "failures.jpg")


def main() -> None:
    model = tileup.load_model(device="cpu")
    failures(model)
    compared = dict(methods(model, 2, peers=True))
    for name in ("Lanczos", uniform(0.4), uniform(0.6)):
        del compared[name]
    compared["realesrgan-x4plus"] = x4plus(torch.get_num_threads())
    rows = {name: (truth, 2) for name, truth in scenes().items()}
    sheet(rows, {2: compared}, ROOT / "docs" / "quality.jpg")


if __name__ == "__main__":
    main()
