"""Pictures that anybody may have, for the pictures in documents; none was trained on.

The dandelion of docs/demo (CC0); from scikit-image the astronaut (NASA, public domain), the coffee
and the cat (CC0); from Debian's lomiri-wallpapers, shrunk, the stream ("life") and the dogs
("friends") by Aitzol Berasategi and the fig by Trevor "Freespace" (all CC BY 4.0).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from skimage import data as scikit

from bench.tables import ROOT, pictures

AROUND = 48
"""Pixels around a place that are enlarged with it, where not the whole picture is."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A place in a truth."""

    truth: Image.Image
    """Everything that is shrunk and enlarged."""
    left: int
    top: int
    scale: int = 2


def place(picture: Image.Image, left: int, top: int, side: int, scale: int = 2) -> Scene:
    """A square of a picture, enlarged with what lies around it and not with the whole."""
    right, bottom = left + side + 2 * AROUND, top + side + 2 * AROUND
    return Scene(picture.convert("RGB").crop((left, top, right, bottom)), AROUND, AROUND, scale)


def seeding() -> Image.Image:
    with Image.open(ROOT / "docs" / "demo" / "seeding.jpg") as photograph:
        return photograph.convert("RGB")


def wallpaper(data: Path, name: str, divisor: int) -> Image.Image:
    """A photograph of the bench data, shrunk until it is sharp; its sides are even."""
    (path,) = pictures(data, "large", f"{name}_*.jpg")
    with Image.open(path) as photograph:
        size = [length // divisor // 2 * 2 for length in photograph.size]
        return photograph.convert("RGB").resize((size[0], size[1]), Image.Resampling.BICUBIC)


def compared(side: int) -> Mapping[str, Scene]:
    """What everything enlarges."""
    return {
        "face": place(Image.fromarray(scikit.astronaut()), 130, 10, side),
        "fur": place(Image.fromarray(scikit.chelsea()), 120, 30, side),
        "cup": place(Image.fromarray(scikit.coffee()), 110, 60, side),
        "dandelion": place(seeding(), 180, 80, side),
    }


def by_strength(data: Path) -> Mapping[str, Scene]:
    """What gets texture as strength grows."""
    return {
        "rocks": Scene(wallpaper(data, "life", 4), 130, 120),
        "fur": Scene(wallpaper(data, "friends", 4), 150, 172),
    }


def busy_and_flat(data: Path) -> Mapping[str, Scene]:
    """A busy and a flat place of each of two pictures, each enlarged as a whole."""
    dandelion, dogs = seeding(), wallpaper(data, "friends", 4)
    return {
        "dandelion": Scene(dandelion, 200, 90),
        "meadow": Scene(dandelion, 560, 300),
        "dog": Scene(dogs, 165, 185),
        "boards": Scene(dogs, 330, 190),
    }


def hard(data: Path, side: int) -> Mapping[str, Scene]:
    """What it is not good at, or was not."""
    face = Image.fromarray(scikit.astronaut()).resize((352, 352), Image.Resampling.LANCZOS)
    stream, dogs = wallpaper(data, "life", 4), wallpaper(data, "friends", 4)
    return {
        "text": place(text(side + 2 * AROUND), 0, 0, side),
        "face": place(face, 60, 0, side, 4),
        "rings": place(rings(side + 2 * AROUND), 0, 0, side),
        "leaves": Scene(stream, 250, 8),
        "fur": Scene(dogs, 245, 345),
        "concrete": Scene(wallpaper(data, "Picture_0B", 3), 90, 440),
        "out of focus": Scene(dogs, 110, 575),
    }


def text(side: int) -> Image.Image:
    """Small print, black on white."""
    page = Image.new("RGB", (side, side), "white")
    words = "Small print: every letter here is thirteen pixels high, and half of that when shrunk."
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(13)
    for row in range(11):
        draw.text((4 - row * 23, 6 + row * 17), words * 2, fill="black", font=font)
    return page


def rings(side: int) -> Image.Image:
    """Rings whose lines get finer outwards, until shrinking folds them."""
    y, x = np.mgrid[:side, :side] - side / 2
    wave = np.cos((x**2 + y**2) * np.pi / 190)
    return Image.fromarray(np.rint(127.5 + 110 * wave).astype(np.uint8)).convert("RGB")
