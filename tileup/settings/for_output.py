"""The file that is written, and its name."""

from __future__ import annotations

from dataclasses import dataclass

from tileup.settings.checks import at_least, one_of, require, within
from tileup.settings.format_names import EITHER, FORMATS, LOSSY
from tileup.settings.setting import Panel, setting
from tileup.wording import listed

NAME = "{stem}_{scale}x.{ext}"
"""Template of output names unless another is given."""


@dataclass(frozen=True, init=False, repr=False, eq=False)
class OutputSettings:
    """The file that is written, and its name."""

    __slots__ = ()

    format: str | None = setting(
        None,
        Panel.OUTPUT,
        "EXT",
        f"{', '.join(dict.fromkeys(FORMATS.values()))} "
        "(default: the output's extension, else the input's).",
        one_of([*FORMATS]),
        names="--format -f",
        behind="suffix",
    )
    quality: int = setting(
        92,
        Panel.OUTPUT,
        "1..100",
        f"Of {listed(LOSSY)} (default: {{default}}).",
        within(1, 100),
    )
    compression: int = setting(
        4,
        Panel.OUTPUT,
        "0..9",
        "Of png: 0 is fast, 9 small; the same pixels (default: {default}).",
        within(0, 9),
    )
    lossless: bool | None = setting(
        None,
        Panel.OUTPUT,
        "",
        f"Keep every pixel, in {listed(EITHER)} (default: where the input's file did).",
        names="--lossless/--lossy",
    )
    name: str = setting(
        NAME,
        Panel.OUTPUT,
        "TEMPLATE",
        "Names of outputs, from {stem} {scale} {ext} {seed} {width} {height} {parent} "
        "(default: {default}; with a size in pixels, that size, as in {stem}_3840px.{ext}).",
        behind="recursive",
    )
    suffix: str | None = setting(
        None,
        Panel.OUTPUT,
        "TEXT",
        "Names of outputs are the input's with this behind it; in place of --name.",
    )
    metadata: bool = setting(
        True,
        Panel.OUTPUT,
        "",
        "Whether the picture says how it was made (default: metadata).",
        names="--metadata/--no-metadata",
        behind="dry_run",
    )
    strip_exif: bool = setting(
        False,
        Panel.OUTPUT,
        "",
        "Leave away date, place, camera and author of the input (default: keep).",
        names="--strip-exif/--keep-exif",
    )
    max_input_pixels: int = setting(
        200_000_000,
        Panel.SETTINGS,
        "N",
        "Refuse larger inputs before they are decoded (default: {default}).",
        at_least(1),
    )


def _one_name(s: OutputSettings) -> None:
    require(s.suffix is None or s.name == NAME, "only one of name and suffix can be given")


RULES = (_one_name,)
"""What these settings must be together."""
