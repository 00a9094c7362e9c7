"""Crops side by side: `make bench-crops DATA=data`. Writes pictures of the documents.

`quality.jpg` compares with other enlargers; `strength.jpg` shows one place at growing strength, and
`quadtree.jpg` busy and flat places of one picture by the quadtree and by one strength everywhere;
`failures.jpg` what it is not good at. `--before FILE` puts the weights of a file beside those of
today in the last one.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont

import tileup
from bench.methods import QUADTREE, STRENGTHS, Methods, drawn, kernels, methods, ours, uniform
from bench.peers import x4plus
from bench.scenes import Scene, busy_and_flat, by_strength, compared, hard
from bench.tables import ROOT
from tileup.contracts import Model

SIDE, WIDE = 96, 128
"""Of the crops, pixels."""
ZOOM, GAP, HEAD = 2, 4, 26


def row(scene: Scene, named: Methods, side: int) -> list[Image.Image]:
    """The place in the truth, and what each method makes of it."""
    truth, scale = scene.truth, scene.scale
    small = truth.resize((truth.width // scale, truth.height // scale), Image.Resampling.BICUBIC)
    found = [truth, *(method(small, truth.size) for method in named.values())]
    box = (scene.left, scene.top, scene.left + side, scene.top + side)
    shown = (side * ZOOM, side * ZOOM)
    return [each.crop(box).resize(shown, Image.Resampling.NEAREST) for each in found]


def sheet(scenes: Mapping[str, Scene], named: Methods, path: Path, side: int = SIDE) -> None:
    """Rows of crops under the names of the methods."""
    font = ImageFont.load_default(14)
    step = side * ZOOM + GAP
    heads = ["truth", *named]
    page = Image.new("RGB", (len(heads) * step, HEAD + len(scenes) * step), "white")
    draw = ImageDraw.Draw(page)
    for column, head in enumerate(heads):
        draw.text((column * step + 4, 5), head.removeprefix("tileup, "), fill="black", font=font)
    for line, scene in enumerate(scenes.values()):
        for column, crop in enumerate(row(scene, named, side)):
            page.paste(crop, (column * step, HEAD + line * step))
    page.save(path, quality=86)
    print(path, flush=True)


def quality(model: Model, data: Path) -> None:
    named = dict(methods(model, 2, peers=True))
    for name in ("Lanczos", uniform(0.4), uniform(0.6)):
        del named[name]
    named["realesrgan-x4plus"] = x4plus(torch.get_num_threads())
    sheet(compared(SIDE), named, ROOT / "docs" / "quality.jpg")


def strength(model: Model, data: Path) -> None:
    named = {
        f"strength {each}": partial(drawn, model=model, low=each, high=each)
        for each in (0.0, *STRENGTHS)
    }
    sheet(by_strength(data), named, ROOT / "docs" / "strength.jpg", WIDE)


def quadtree(model: Model, data: Path) -> None:
    named = {name: ours(model)[name] for name in (uniform(0.2), QUADTREE, uniform(0.8))}
    sheet(busy_and_flat(data), named, ROOT / "docs" / "quadtree.jpg")


def failures(model: Model, data: Path, before: Model | None) -> None:
    named = {"Lanczos": kernels()["Lanczos"]}
    if before is not None:
        named["before: uniform 0.8"] = ours(before)[uniform(0.8)]
    named |= {name: ours(model)[name] for name in (uniform(0.2), uniform(0.8), QUADTREE)}
    sheet(hard(data, SIDE), named, ROOT / "models" / "failures.jpg")


SHEETS: dict[str, Callable[[Model, Path], None]] = {
    "quality": quality,
    "strength": strength,
    "quadtree": quadtree,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"))
    names = (*SHEETS, "failures")
    parser.add_argument("--only", nargs="*", choices=names, default=list(names))
    parser.add_argument("-m", "--model", help="a checkpoint of the bundled family")
    parser.add_argument("--before", help="a checkpoint of the bundled family")
    arguments = parser.parse_args()
    model = tileup.load_model(arguments.model, device="cpu", dtype="float32")
    before = (
        tileup.load_model(arguments.before, device="cpu", dtype="float32")
        if arguments.before
        else None
    )
    for name in arguments.only:
        if name == "failures":
            failures(model, arguments.data, before)
        else:
            SHEETS[name](model, arguments.data)


if __name__ == "__main__":
    main()
