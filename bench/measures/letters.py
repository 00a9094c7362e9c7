"""How many letters can be read: text is drawn, shrunk and enlarged, and `rapidocr` reads it.

One line at a time and without looking for lines, so that only reading counts. Spaces do not.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from bench.extras import from_extra

TEXTS = (
    "The quick brown fox jumps over",
    "a lazy dog, 1234567890 times.",
    "Sphinx of black quartz, judge",
    "my vow: 48% of $6.70 is $3.22",
    "Room 307B, 2nd floor; open from",
    "Mon-Fri 8:30 to 17:45, not May",
    "How vexingly quick daft zebras",
    "jump! Invoice No. 90-1856/27",
)
FONTS = ("DejaVuSans", "DejaVuSerif", "DejaVuSansMono", "DejaVuSans-Bold", "STIXGeneral")
"""Free fonts that matplotlib carries."""
SIZES = (11, 12, 14, 16)
"""Of the truths' fonts, pixels; capital letters are 0.7 of that."""
COLOURS = (("white", "black"), ((40, 60, 90), (235, 225, 200)))
"""Paper and ink."""
MARGIN = 12  # pixels around a line


@dataclass(frozen=True, slots=True)
class Line:
    """A line of text and its picture, whose sides are multiples of 4."""

    text: str
    size: int
    """One of `SIZES`."""
    image: Image.Image


def font_file(name: str) -> Path:
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf"


def lines() -> list[Line]:
    """Every font in every size and colour, each with the next one of the texts."""
    kinds = itertools.product(FONTS, SIZES, COLOURS)
    return [
        Line(text, size, drawn_line(text, font_file(font), size, *colours))
        for text, (font, size, colours) in zip(itertools.cycle(TEXTS), kinds, strict=False)
    ]


def drawn_line(
    text: str,
    font: Path,
    size: int,
    paper: str | tuple[int, int, int],
    ink: str | tuple[int, int, int],
) -> Image.Image:
    """A line of text with a margin."""
    face = ImageFont.truetype(str(font), size)
    left, top, right, bottom = face.getbbox(text)
    sides = [int(-(-(length + 2 * MARGIN) // 4) * 4) for length in (right - left, bottom - top)]
    page = Image.new("RGB", (sides[0], sides[1]), paper)
    ImageDraw.Draw(page).text((MARGIN - left, MARGIN - top), text, fill=ink, font=face)
    return page


@cache
def reader() -> Any:  # noqa: ANN401
    """`rapidocr` with the networks that its wheel carries.

    Raises:
        SystemExit: the packages are not there; says what to do.
    """
    with from_extra("bench"):
        from rapidocr import RapidOCR
    return RapidOCR(params={"Global.log_level": "critical"})


def read(image: Image.Image) -> str:
    """What a picture of one line says."""
    cropped = image.crop((4, 4, image.width - 4, image.height - 4))
    pixels = np.ascontiguousarray(np.asarray(cropped.convert("RGB"))[..., ::-1])
    found = reader()(pixels, use_det=False, use_cls=False, use_rec=True)
    return " ".join(found.txts or ())


def edits(one: str, two: str) -> int:
    """The fewest letters to add, drop or change that make one text the other (Levenshtein)."""
    row = list(range(len(two) + 1))
    for number, letter in enumerate(one, 1):
        before, row[0] = row[0], number
        for place, other in enumerate(two, 1):
            changed = before + (letter != other)
            before, row[place] = row[place], min(changed, row[place] + 1, row[place - 1] + 1)
    return row[-1]


def error_rate(expected: Sequence[str], found: Sequence[str]) -> float:
    """Edits for each letter of the expected texts; spaces do not count."""
    pairs = [(a.replace(" ", ""), b.replace(" ", "")) for a, b in zip(expected, found, strict=True)]
    return sum(edits(a, b) for a, b in pairs) / sum(len(a) for a, _ in pairs)
