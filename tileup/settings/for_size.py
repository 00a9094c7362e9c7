"""How large the output becomes."""

from __future__ import annotations

from dataclasses import dataclass

from tileup.settings import checks
from tileup.settings.checks import at_least, one_of, require, within
from tileup.settings.setting import Panel, dashed, setting

FITS = ("inside", "cover", "stretch")


@dataclass(frozen=True, init=False, repr=False, eq=False)
class SizeSettings:
    """How large the output becomes."""

    __slots__ = ()

    scale: float = setting(
        2.0,
        Panel.SIZE,
        "NUMBER",
        "Output side / input side, any number from 1 to 16 (default: {default}).",
        within(1, 16),
        names="--scale -s",
    )
    size: str | None = setting(
        None, Panel.SIZE, "WxH", "Exact output size, such as 1920x1080.", checks.size
    )
    fit: str | None = setting(
        None,
        Panel.SIZE,
        "HOW",
        "A picture of another shape than --size is made to lie inside it, to cover it (nothing is "
        "cut off), or stretched (default: stretch, with a warning).",
        one_of(FITS),
    )
    long_edge: int | None = setting(
        None, Panel.SIZE, "PX", "Longer side of the output.", at_least(1)
    )
    short_edge: int | None = setting(
        None, Panel.SIZE, "PX", "Shorter side of the output.", at_least(1)
    )
    max_pixels: int | None = setting(
        None,
        Panel.SIZE,
        "N",
        "Enlarge less where the output would have more pixels than this.",
        at_least(1),
    )


def _one_size(s: SizeSettings) -> None:
    names = ("size", "long_edge", "short_edge")
    given = [dashed(name) for name in names if getattr(s, name) is not None]
    require(len(given) < 2, f"only one of {' and '.join(given)} can be given")


RULES = (_one_size,)
"""What these settings must be together."""
