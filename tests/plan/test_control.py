"""How long a control network acts, against diffusers' rule for its steps."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tileup.plan.control import control_until


def acting_steps(steps: int, end: float) -> int:
    """diffusers: step i acts unless (i + 1) / steps > control_guidance_end."""
    return sum(not (step + 1) / steps > end for step in range(steps))


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 7, 8, 20])
@pytest.mark.parametrize("end", [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0])
def test_as_many_steps_act_as_in_diffusers(steps: int, end: float) -> None:
    sigmas = [*np.geomspace(14.6, 0.03, steps), 0.0]
    level = control_until(sigmas, end)
    acts = [sigma >= level for sigma in sigmas[:-1]]
    assert acts == sorted(acts, reverse=True)
    assert sum(acts) == acting_steps(steps, end)


def test_the_ends_are_always_and_never() -> None:
    sigmas = [2.0, 1.0, 0.5, 0.0]
    assert control_until(sigmas, 1.0) == 0.0
    assert control_until(sigmas, 0.0) == math.inf
    assert control_until(sigmas, 0.32) == math.inf, "less than one step is none"
    assert control_until([2.0, 0.0], 1.0) == 0.0
    assert control_until([2.0, 0.0], 0.99) == math.inf
    assert control_until([0.0], 0.5) == math.inf, "nothing to do"


@pytest.mark.parametrize("end", [0.25, 0.5, 0.75])
def test_half_steps_belong_to_their_step_and_rounding_moves_none(end: float) -> None:
    sigmas = [8.0, 4.0, 2.0, 1.0, 0.0]
    level = control_until(sigmas, end)
    last = round(end * 4) - 1
    assert sigmas[last] * (1 - 1e-6) > level
    assert math.sqrt(sigmas[last] * sigmas[last + 1]) * (1 - 1e-6) > level
    assert sigmas[last + 1] * (1 + 1e-6) < level


def test_the_share_counts_as_a_decimal() -> None:
    """0.7 * 10 is below 7 in binary."""
    sigmas = [*np.geomspace(14.6, 0.03, 10), 0.0]
    level = control_until(sigmas, 0.7)
    assert sum(sigma >= level for sigma in sigmas[:-1]) == 7
