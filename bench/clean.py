"""Photographs that are enlarged well by doing nothing: their own pixels are soft."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from bench.tables import pictures

NAMES = ("friends", "greentock")
SIDE = 768
"""Of the middles that are taken at full size, pixels."""


def photographs(data: Path) -> dict[str, Image.Image]:
    """Truths for scale 2: each photograph's middle at full size, and the whole at half its size."""
    found = {}
    for name in NAMES:
        (path,) = pictures(data, "large", f"{name}_*.jpg")
        with Image.open(path) as image:
            whole = image.convert("RGB")
        left, top = (whole.width - SIDE) // 2, (whole.height - SIDE) // 2
        found[f"{name}, middle"] = whole.crop((left, top, left + SIDE, top + SIDE))
        size = (whole.width // 4 * 2, whole.height // 4 * 2)
        found[f"{name}, at half size"] = whole.resize(size, Image.Resampling.BICUBIC)
    return found
