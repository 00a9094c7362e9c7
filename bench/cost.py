"""What per-tile strength saves at the default settings: `make bench DATA=data`.

Plans only, so it takes seconds. Cost is counted in megapixel-steps of the network, and a test
proves that what runs equals what is counted. Photographs of `large/` are shrunk fourfold before,
so that they are as sharp as a photograph is at full size; scale 2. Writes bench/cost.md.
"""

import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

import tileup
from tileup.images.reading import open_picture
from tileup.images.sizes import output_size
from tileup.plan.planning import plan_picture
from tileup.plan.tiles import TilePlan
from tileup.resolving import resolve_with_model

TABLE = Path(__file__).with_suffix(".md")
SETS = (("large", "large", 4), ("eval", "eval/truth", 1))
"""Name, folder below the data folder, and how many times its pictures are shrunk before."""


class Row(NamedTuple):
    """One picture."""

    set: str
    name: str
    size: str
    share: float
    """Cost / cost of a uniform 0.8."""
    detailed: float
    """Mean strength of the quarter of the area with most detail."""


def rows(data: Path) -> Iterator[Row]:
    found = resolve_with_model()
    for name, folder, shrink in SETS:
        for path in sorted((data / folder).glob("*.[jp][pn]g")):
            with Image.open(path) as image:
                small = image.convert("RGB").reduce(shrink)
            picture = open_picture(small)
            width, height = output_size(picture.width, picture.height, found.settings)
            planned = plan_picture(picture.pixels, width, height, found.spec, found.settings)
            share = 1 - planned.cost.saving
            yield Row(name, path.stem, f"{width}x{height}", share, top_quarter(planned.plan))


def top_quarter(plan: TilePlan) -> float:
    """Mean strength of the quarter of the area with most detail."""
    tiles = sorted(plan.tiles, key=lambda tile: tile.detail, reverse=True)
    area = np.array([plan.pixel_box(tile).area for tile in tiles], dtype=float)
    quarter = plan.width * plan.height / 4
    used = np.diff(np.minimum(np.cumsum(area), quarter), prepend=0)
    return float((used * [tile.denoise for tile in tiles]).sum() / quarter)


def table(found: list[Row]) -> str:
    lines = [
        f"# Cost of 0.2/0.8 against a uniform 0.8 (tileup {tileup.__version__}, defaults)\n",
        "Made by `make bench`. Cost in megapixel-steps; strength of the quarter with most detail.\n",
        "| set | picture | output | cost / uniform | strength where it is detailed |",
        "|---|---|---|---:|---:|",
        *(f"| {r.set} | {r.name} | {r.size} | {r.share:.0%} | {r.detailed:.2f} |" for r in found),
        "",
    ]
    for name, _, _ in SETS:
        mine = [row for row in found if row.set == name]
        if mine:
            median = statistics.median(row.share for row in mine)
            least = min(row.detailed for row in mine)
            lines.append(f"**{name}**: median cost {median:.0%}, least strength {least:.2f}.  ")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "data")
    found = list(rows(folder))
    if not found:
        sys.exit(f"no pictures in {folder}/large and {folder}/eval/truth; give make bench DATA=...")
    TABLE.write_text(table(found))
    print(table(found))
