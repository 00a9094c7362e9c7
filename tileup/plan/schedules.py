"""Schedules: where the noise levels of the sampler's steps lie.

A scheduler is a continuous, strictly decreasing function sigma(u) on [0, 1], from the start level
of the strongest tile downwards. With N steps it is sampled at N points and 0 is appended, so
`steps` is what the strongest tile takes under every scheduler.

Every strength starts on a point of its own. The u of its start level is rounded to a distinct
index, and u is warped piecewise linearly through these knots: no level moves, points between do.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tileup.contracts import NoiseLevels
from tileup.errors import UsageError
from tileup.plan.noise_levels import FlowLevels
from tileup.settings.values import did_you_mean

RESOLUTION = 1e-4
"""Strengths that differ by less are one."""

Curve = Callable[[NoiseLevels, float, NDArray[np.float64]], NDArray[np.float64]]
"""(levels, strongest denoise, u in [0, 1]) -> noise levels."""


@dataclass(frozen=True, slots=True)
class Scheduler:
    """A named curve."""

    name: str
    curve: Curve
    reaches_source: bool
    """Whether u = 1 stands for the finished picture (the N points stop one short of it) or for
    the lowest noise level (which is then the last point)."""

    def sigma(self, levels: NoiseLevels, strongest: float, u: float) -> float:
        """The curve at one point."""
        return float(self.curve(levels, strongest, np.array([u]))[0])


@dataclass(frozen=True, slots=True)
class Schedule:
    """Noise levels of a run, and where on them each strength starts."""

    sigmas: tuple[float, ...]
    """N + 1 noise levels, strictly descending, the last one 0. Empty if nothing is sampled."""
    starts: Mapping[float, int]
    """Index of the start level of each positive strength, strongest first."""
    merged: Mapping[float, float]
    """Strengths that share another's start, because there were more strengths than steps."""

    @property
    def steps(self) -> int:
        return max(len(self.sigmas) - 1, 0)


def _uniform(levels: NoiseLevels, strongest: float, u: NDArray[np.float64]) -> NDArray[np.float64]:
    """Uniform in the family's time."""
    return levels.sigma(strongest * (1 - u))


def _karras(levels: NoiseLevels, strongest: float, u: NDArray[np.float64]) -> NDArray[np.float64]:
    """Uniform in sigma^(1/7): Karras et al. (2022), arXiv 2206.00364, equation 5."""
    top, bottom = _ends(levels, strongest)
    return (top ** (1 / 7) + u * (bottom ** (1 / 7) - top ** (1 / 7))) ** 7


def _exponential(
    levels: NoiseLevels, strongest: float, u: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Uniform in log sigma."""
    top, bottom = _ends(levels, strongest)
    return top * (bottom / top) ** u


def _vp(levels: NoiseLevels, strongest: float, u: NDArray[np.float64]) -> NDArray[np.float64]:
    """Uniform in the time of the continuous VP process, beta from 0.1 to 20.

    Song et al. (2021), arXiv 2011.13456: sigma(t)^2 + 1 = exp(9.95 t^2 + 0.1 t). k-diffusion's own
    function takes no range of sigma; here t runs between the times of the two ends.
    """
    ends = np.log1p(np.square(_ends(levels, strongest)))
    start, stop = (-0.1 + np.sqrt(0.01 + 2 * 19.9 * ends)) / 19.9
    t = start + u * (stop - start)
    return np.sqrt(np.expm1(19.9 * t**2 / 2 + 0.1 * t))


def _laplace(levels: NoiseLevels, strongest: float, u: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log sigma as the quantiles of a Laplace distribution, mean 0, scale 0.5, between the ends.

    Hang et al. (2024), arXiv 2407.03297: many steps in the middle. The installed k-diffusion has
    no such function.
    """
    law = LaplaceLaw(scale=0.5)
    top, bottom = (law.share(math.log(end)) for end in _ends(levels, strongest))
    return np.exp(law.quantile(top + u * (bottom - top)))


@dataclass(frozen=True, slots=True)
class LaplaceLaw:
    """A Laplace distribution around 0."""

    scale: float

    def share(self, value: float) -> float:
        """Distribution function less a half: -1/2 far below, 1/2 far above."""
        return math.copysign(0.5 * -math.expm1(-abs(value) / self.scale), value)

    def quantile(self, share: NDArray[np.float64]) -> NDArray[np.float64]:
        """The inverse of `share`."""
        return -self.scale * np.sign(share) * np.log1p(-2 * np.abs(share))


def _ddim_uniform(
    levels: NoiseLevels, strongest: float, u: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Uniform in time, ending one of a thousand training steps above the lowest noise level."""
    last = min(1 / 999, strongest / 2)
    return levels.sigma(strongest + u * (last - strongest))


def _beta(levels: NoiseLevels, strongest: float, u: NDArray[np.float64]) -> NDArray[np.float64]:
    """Times as quantiles of a Beta(0.6, 0.6) distribution: many steps at both ends.

    Lee et al. (2024), arXiv 2407.12173.
    """
    from scipy.special import betaincinv  # pyright: ignore[reportMissingTypeStubs]

    return levels.sigma(strongest * np.asarray(betaincinv(0.6, 0.6, 1 - u)))


def _linear_quadratic(
    levels: NoiseLevels, strongest: float, u: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Noise falls linearly by a fortieth in the first half, then by a parabola to 0.

    genmo's schedule for Mochi, which is one of flow time: so of flow models the time falls, of
    others, as is usual, sigma. Value and slope meet in the middle.
    """
    top, _ = _ends(levels, strongest)
    left = 1 - np.where(u < 0.5, 0.05 * u, 3.8 * u**2 - 3.75 * u + 0.95)
    if not isinstance(levels, FlowLevels):
        return top * left
    time = top / (1 + top) * left
    return time / (1 - time)


def _kl_optimal(
    levels: NoiseLevels, strongest: float, u: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Uniform in the arc tangent of sigma: Sabour et al. (2024), arXiv 2404.14507, theorem 3.1."""
    top, bottom = np.arctan(_ends(levels, strongest))
    return np.tan(top + u * (bottom - top))


def _ends(levels: NoiseLevels, strongest: float) -> tuple[float, float]:
    return float(levels.sigma(np.array([strongest]))[0]), levels.sigma_min


SCHEDULERS: Mapping[str, Scheduler] = {
    each.name: each
    for each in (
        Scheduler("sgm_uniform", _uniform, reaches_source=True),
        Scheduler("normal", _uniform, reaches_source=False),
        Scheduler("karras", _karras, reaches_source=False),
        Scheduler("exponential", _exponential, reaches_source=False),
        # k-diffusion's polyexponential with its default rho of 1 is the exponential one.
        Scheduler("polyexponential", _exponential, reaches_source=False),
        Scheduler("vp", _vp, reaches_source=False),
        Scheduler("laplace", _laplace, reaches_source=False),
        # Reads off every N-th row of a table of time: without the rounding, uniform in time.
        Scheduler("simple", _uniform, reaches_source=True),
        Scheduler("ddim_uniform", _ddim_uniform, reaches_source=False),
        Scheduler("beta", _beta, reaches_source=True),
        Scheduler("linear_quadratic", _linear_quadratic, reaches_source=True),
        Scheduler("kl_optimal", _kl_optimal, reaches_source=False),
    )
}
"""By name. `sgm_uniform` and `normal` differ in the last point: `normal` spends it on sigma_min."""


def known_scheduler(name: str) -> Scheduler:
    """A scheduler by name.

    Raises:
        UsageError: there is none of this name; says which is near.
    """
    if name not in SCHEDULERS:
        raise UsageError(f"scheduler {name!r} is not known{did_you_mean(name, list(SCHEDULERS))}")
    return SCHEDULERS[name]


def make_schedule(
    levels: NoiseLevels, scheduler: Scheduler, steps: int, strengths: Sequence[float]
) -> Schedule:
    """Noise levels through the start level of every strength.

    Args:
        levels: the family's noise levels.
        scheduler: the curve.
        steps: N, at least 1: steps of the strongest tile.
        strengths: the strengths of the tiles in (0, 1], in any order; none gives an empty schedule.

    Raises:
        ValueError: a strength or the number of steps is out of its range.
    """
    if steps < 1 or any(not 0 < each <= 1 for each in strengths):
        raise ValueError(f"{steps} steps for strengths {list(strengths)}: out of range")
    if not strengths:
        return Schedule((), {}, {})
    kept, merged = merge_strengths(strengths, steps)
    start_sigmas = levels.sigma(np.array(kept))
    knots = [_position(levels, scheduler, kept[0], float(each)) for each in start_sigmas]
    last = steps if scheduler.reaches_source else max(steps - 1, 1)
    indices = distinct_indices([u * last for u in knots], steps)
    points, values = [*indices], [*knots]
    if last > points[-1]:
        points, values = [*points, last], [*values, 1.0]
    u = np.interp(np.arange(steps), points, values)
    sigmas = scheduler.curve(levels, kept[0], u)
    sigmas[indices] = start_sigmas  # exact, not up to the bisection
    return Schedule(
        sigmas=(*sigmas.tolist(), 0.0),
        starts=dict(zip(kept, indices, strict=True)),
        merged=merged,
    )


def merge_strengths(
    strengths: Sequence[float], steps: int
) -> tuple[list[float], dict[float, float]]:
    """At most `steps` distinct strengths, strongest first, and what each lost one became.

    Of the nearest two, the strongest and the weakest of all survive, else the stronger one.
    Strengths nearer than RESOLUTION are always merged: their noise levels are the same in float32.
    """
    kept = sorted(set(strengths), reverse=True)
    became: dict[float, float] = {}
    while len(kept) > 1:
        gaps = [high - low for high, low in itertools.pairwise(kept)]
        if len(kept) <= steps and min(gaps) >= RESOLUTION:
            break
        upper = int(np.argmin(gaps))
        lose_upper = upper + 2 == len(kept) and upper > 0
        lost, winner = kept[upper + 1], kept[upper]
        if lose_upper:
            lost, winner = winner, lost
        kept.remove(lost)
        became = {old: winner if new == lost else new for old, new in became.items()}
        became[lost] = winner
    return kept, became


def distinct_indices(positions: Sequence[float], steps: int) -> list[int]:
    """Round ascending positions to distinct indices below `steps`, the first one to 0.

    Order is kept, and each index leaves room for those after it, so every strength has a step.
    """
    indices: list[int] = []
    for order, position in enumerate(positions):
        lowest = indices[-1] + 1 if indices else 0
        highest = steps - (len(positions) - order)
        indices.append(min(max(round(position), lowest), highest) if order else 0)
    return indices


def _position(levels: NoiseLevels, scheduler: Scheduler, strongest: float, sigma: float) -> float:
    """The u at which a curve has this noise level: bisection to the last bit."""
    if scheduler.sigma(levels, strongest, 0.0) <= sigma:
        return 0.0  # bisection would go there through a thousand ever smaller numbers
    low, high = 0.0, 1.0
    while low < (middle := (low + high) / 2) < high:
        if scheduler.sigma(levels, strongest, middle) > sigma:
            low = middle
        else:
            high = middle
    return high
