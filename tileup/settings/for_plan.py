"""How the picture is divided into tiles."""

from __future__ import annotations

from dataclasses import dataclass

from tileup.settings import checks
from tileup.settings.checks import at_least, one_of, require
from tileup.settings.setting import Panel, setting
from tileup.wording import listed

DETAIL_METRICS = ("gradient", "variance")


@dataclass(frozen=True, init=False, repr=False, eq=False)
class PlanSettings:
    """How the picture is divided into tiles."""

    __slots__ = ()

    tile: int = setting(
        128, Panel.PLAN, "PX", "Side of the largest tiles, output pixels.", names="--tile -t"
    )
    min_tile: int = setting(
        32, Panel.PLAN, "PX", "Side of the smallest tiles, output pixels.", at_least(1)
    )
    detail_threshold: float | str = setting(
        "auto",
        Panel.PLAN,
        "NUMBER|auto",
        "A tile with more detail splits; auto chooses per picture (default: {default}).",
        checks.threshold,
    )
    detail_metric: str = setting(
        "gradient",
        Panel.PLAN,
        "METRIC",
        f"{listed(DETAIL_METRICS, 'or')} (default: {{default}}).",
        one_of(DETAIL_METRICS),
    )
    budget: float | None = setting(
        None,
        Panel.PLAN,
        "0..1",
        "Choose the threshold by cost: this share of the cost of the strongest everywhere.",
        checks.share,
    )


def _one_threshold(s: PlanSettings) -> None:
    require(
        s.budget is None or s.detail_threshold == "auto",
        "budget chooses the detail threshold itself: give one of the two",
    )


def _tiles_in_order(s: PlanSettings) -> None:
    require(s.tile >= s.min_tile, f"tile ({s.tile}) is below min-tile ({s.min_tile})")


RULES = (_one_threshold, _tiles_in_order)
"""What these settings must be together."""
