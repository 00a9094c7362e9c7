"""Until which noise level a control network acts."""

from __future__ import annotations

import math
from collections.abc import Sequence


def control_until(sigmas: Sequence[float], end: float) -> float:
    """The noise level down to which a control network acts.

    It acts in the first floor(end * steps) steps, as in diffusers' `control_guidance_end`. The
    level lies between two steps, nearer to the lower one, so that rounding cannot move it across
    a step, and the evaluations that second-order samplers make halfway (in log sigma) belong to
    the step that makes them.

    Args:
        sigmas: the schedule of the strongest tile, descending, the last one 0.
        end: share of the steps, 0 to 1.

    Returns:
        0 where it acts in all steps, infinity where it acts in none.
    """
    steps = len(sigmas) - 1
    acting = math.floor(end * steps + 1e-9)
    if acting < 1:
        return math.inf
    if acting >= steps:
        return 0.0
    return sigmas[acting - 1] ** 0.25 * sigmas[acting] ** 0.75
