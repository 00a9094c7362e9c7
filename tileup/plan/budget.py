"""The plan with most detail that a budget allows."""

from __future__ import annotations

import math
from collections.abc import Callable

from tileup.plan.tiles import TilePlan

HALVINGS = 14
"""Of the range of thresholds, on a log scale: to a part in a thousand."""


def within(
    budget: float,
    tiles: Callable[[float], TilePlan],
    share: Callable[[TilePlan], float],
    floor: float,
    highest: float,
) -> TilePlan:
    """The plan with most detail whose cost is at most a share of the uniform one's.

    A search on the plan alone: the cost falls as the threshold rises. If even whole roots cost
    more, they are planned.

    Args:
        budget: the share.
        tiles: the plan at a threshold.
        share: what a plan costs against a uniform one.
        floor: the lowest threshold.
        highest: at this threshold and above all roots are whole.
    """
    top = max(2 * floor, highest) * 1.01
    best = tiles(top)
    if share(best) > budget:
        return best
    low, high = math.log(floor), math.log(top)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        plan = tiles(math.exp(middle))
        if share(plan) <= budget:
            best, high = plan, middle
        else:
            low = middle
    return best
