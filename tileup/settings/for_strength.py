"""How freely each region is redrawn."""

from __future__ import annotations

from dataclasses import dataclass

from tileup.settings.checks import one_of, parse_extent, require, within
from tileup.settings.setting import Alias, Flag, Panel, setting
from tileup.wording import listed

DENOISE_MODES = ("schedule", "sigma", "passes", "blend", "scale")
DEBLOCK = ("auto", "on", "off")
DENOISE_BY = ("depth", "detail", "area")


@dataclass(frozen=True, init=False, repr=False, eq=False)
class StrengthSettings:
    """How freely each region is redrawn."""

    __slots__ = ()

    min_denoise: float = setting(
        0.2,
        Panel.STRENGTH,
        "0..1",
        "For the largest, flattest tiles; 0 keeps them (default: {default}).",
        within(0, 1),
    )
    max_denoise: float = setting(
        0.8,
        Panel.STRENGTH,
        "0..1",
        "For the smallest, most detailed tiles; 1 redraws them freely (default: {default}).",
        within(0, 1),
    )
    denoise_mode: str = setting(
        "schedule",
        Panel.STRENGTH,
        "MODE",
        "How each tile gets its strength: schedule, sigma or passes. blend and scale are "
        "approximations: scale modulates how strong the model's prediction is and is not "
        "per-tile scheduling (default: {default}).",
        one_of(DENOISE_MODES),
    )
    denoise_by: str = setting(
        "depth",
        Panel.STRENGTH,
        "WHAT",
        f"What a tile's strength follows: {listed(DENOISE_BY, 'or')} (default: {{default}}).",
        one_of(DENOISE_BY),
    )
    texture: float = setting(
        1.0,
        Panel.STRENGTH,
        "0..1",
        "How much texture the bundled model draws strong tiles with; 0 is faithful everywhere "
        "(default: {default}).",
        within(0, 1),
    )
    deblock: str = setting(
        "auto",
        Panel.STRENGTH,
        "auto|on|off",
        "Whether the bundled model takes JPEG's blocks away and draws no texture on them; auto: "
        "where a picture's pixels tell of a quality of 70 or below (default: {default}).",
        one_of(DEBLOCK),
    )
    min_scale: float = setting(
        0.7,
        Panel.STRENGTH,
        "0.5..1",
        "Mode scale: factor at strength 0 (default: {default}).",
        within(0.5, 1),
        behind="skip_below",
    )
    scale_range: float = setting(
        0.25,
        Panel.STRENGTH,
        "0..1",
        "Mode scale: what strength 1 adds to it (default: {default}).",
        within(0, 1),
    )
    ramp: float = setting(
        1.0,
        Panel.STRENGTH,
        "0.5..2",
        "Mode scale: how it grows over the run (default: {default}).",
        within(0.5, 2),
    )
    skip_smaller: str | None = setting(
        None,
        Panel.STRENGTH,
        "PX|P%",
        "Keep tiles smaller than this: pixels, or a share of the largest tile.",
        parse_extent,
        behind="denoise_map",
    )
    skip_larger: str | None = setting(
        None, Panel.STRENGTH, "PX|P%", "Keep tiles larger than this.", parse_extent
    )
    skip_below: float | None = setting(
        None, Panel.STRENGTH, "0..1", "Keep tiles weaker than this.", within(0, 1)
    )
    mask: str | None = setting(
        None, Panel.STRENGTH, "FILE", "A picture whose white parts are kept.", behind="denoise_by"
    )
    denoise_map: str | None = setting(
        None,
        Panel.STRENGTH,
        "FILE",
        "A picture whose grey is the strength, instead of a plan: black 0, white 1.",
    )


def _strengths_in_order(s: StrengthSettings) -> None:
    low, high = s.min_denoise, s.max_denoise
    require(low <= high, f"min-denoise ({low:g}) is above max-denoise ({high:g})")


ALIASES = {
    "denoise": Alias(
        ("min_denoise", "max_denoise"),
        Flag(
            Panel.STRENGTH,
            "0..1",
            "Both at once: one strength everywhere. It says how freely the model redraws; "
            "it is not noise removal.",
            names="--denoise --strength",
            behind="max_denoise",
            check=within(0, 1),
        ),
    )
}
"""Names that set several settings at once."""
RULES = (_strengths_in_order,)
"""What these settings must be together."""
