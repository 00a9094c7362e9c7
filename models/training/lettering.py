"""Pages of text as truths: letters are few in photographs, and nobody forgives a wrong one."""

from __future__ import annotations

import importlib.util
import string
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from bench.extras import how_to_install

PACKAGES = ("font_source_sans_pro", "font_source_serif_pro", "font_caladea", "font_manrope")
"""Whose wheels carry free fonts; none of those that the bench draws its letters with."""
SIZES = (9, 36)  # pixels
LETTERS = string.ascii_letters + string.digits
MARKS = ".,;:!?-()/%&$#'+"
PLAIN = 0.6
"""Share of the pages with dark ink on light paper or the other way round, without colour."""


@cache
def fonts() -> tuple[Path, ...]:
    """Files of all faces.

    Raises:
        SystemExit: a package is not there; says what to do.
    """
    found: list[Path] = []
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise SystemExit(f"train: no package {package}.\n  {how_to_install('train')}")
        files = sorted((Path(spec.origin).parent / "files").glob("*.ttf"))
        found += [each for each in files if "Variable" not in each.name]
    return tuple(found)


def page(side: int, rng: np.random.Generator) -> Image.Image:
    """A square of lines of random words, each line in a face and a size of its own."""
    paper, ink = _colours(rng)
    picture = Image.new("RGB", (side, side), paper)
    draw = ImageDraw.Draw(picture)
    top = int(rng.integers(-8, 8))
    while top < side:
        size = round(float(np.exp(rng.uniform(*np.log(SIZES)))))
        face = _face(str(fonts()[int(rng.integers(len(fonts())))]), size)
        draw.text((int(rng.integers(-size, size)), top), _line(side, size, rng), ink, face)
        top += round(size * float(rng.uniform(1.1, 1.6)))
    return picture


def _colours(rng: np.random.Generator) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Paper and ink that can be told apart."""
    if rng.random() < PLAIN:
        light, dark = int(rng.integers(200, 256)), int(rng.integers(0, 80))
        pair = ((light,) * 3, (dark,) * 3)
        return pair if rng.random() < 0.75 else pair[::-1]
    while True:
        paper, ink = rng.integers(0, 256, (2, 3))
        if abs(float((paper - ink) @ (0.299, 0.587, 0.114))) > 60:
            return tuple(paper.tolist()), tuple(ink.tolist())


def _line(side: int, size: int, rng: np.random.Generator) -> str:
    words: list[str] = []
    while sum(map(len, words)) * size * 0.4 < side + size:
        letters = rng.choice(list(LETTERS), int(rng.integers(1, 9))).tolist()
        word = "".join(letters) if rng.random() < 0.5 else "".join(letters).lower()
        words.append(word + (str(rng.choice(list(MARKS))) if rng.random() < 0.3 else ""))
    return " ".join(words)


@cache
def _face(file: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(file, size)
