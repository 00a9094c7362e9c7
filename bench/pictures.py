"""The pictures of the README: `make pictures`. From the demo photograph and the bundled model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import tileup
from bench.tables import ROOT
from tileup.images.reading import open_picture
from tileup.plan.heatmap import heatmap

DEMO = ROOT / "docs" / "demo"
CROP = (360, 180, 640, 400)
"""Of the enlarged picture, pixels."""
ZOOM = 2


def main() -> None:
    path = DEMO / "seeding.jpg"
    result = tileup.upscale(path, min_denoise=0.2, max_denoise=0.8)
    with Image.open(path) as image:
        plain = image.convert("RGB").resize(result.image.size, Image.Resampling.LANCZOS)
    strengths = heatmap(open_picture(path).pixels, result.plan, min_denoise=0.2, max_denoise=0.8)
    strengths.save(DEMO / "heatmap.jpg", quality=88)
    page(plain, result.image, strengths, DEMO / "before-after.jpg")


def page(before: Image.Image, after: Image.Image, strengths: Image.Image, path: Path) -> None:
    """Two crops and the heatmap side by side."""
    width, height = ((CROP[2] - CROP[0]) * ZOOM, (CROP[3] - CROP[1]) * ZOOM)
    right = strengths.resize(
        (round(strengths.width * height / strengths.height), height), Image.Resampling.LANCZOS
    )
    sheet = Image.new("RGB", (2 * width + right.width + 16, height), "white")
    for place, image in enumerate((before, after)):
        crop = image.convert("RGB").crop(CROP).resize((width, height), Image.Resampling.NEAREST)
        sheet.paste(crop, (place * (width + 8), 0))
    sheet.paste(right, (2 * (width + 8), 0))
    draw = ImageDraw.Draw(sheet)
    for place, name in enumerate(("Lanczos", "tileup 0.2 to 0.8")):
        draw.text(
            (place * (width + 8) + 10, height - 34),
            name,
            fill="white",
            stroke_width=2,
            stroke_fill="black",
            font=ImageFont.load_default(22),
        )
    sheet.save(path, quality=90)


if __name__ == "__main__":
    np.seterr(all="raise")
    main()
