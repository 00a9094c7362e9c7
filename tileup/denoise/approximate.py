"""Modes that modulate the prediction. They are not per-tile denoise; they are here to compare with.

All tiles run from the strongest one's noise level, so a weak tile is noised as much as a strong
one, and what these modes take from the prediction, they leave as noise or as loss of contrast.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tileup.denoise.draft import Draft, Ramp
from tileup.denoise.strength import memberships
from tileup.plan.itinerary import progress
from tileup.sampling.kdiffusion import NoiseSampler
from tileup.sampling.steps import CanvasDenoiser


@dataclass(frozen=True, slots=True)
class Modulated:
    """x0 of a canvas, changed by a rule."""

    denoiser: CanvasDenoiser
    rule: Callable[[Tensor, Tensor, float], Tensor]
    """(x, x0, sigma) -> x0."""

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.rule(x, self.denoiser(x, sigma), float(sigma[0]))


def run_blend(draft: Draft) -> Tensor:
    """`x0 := source + b * (D - source)`, `b = d + (1 - d) * progress`.

    What the quadtree lineage meant by its last version.
    """
    strength = _strength_map(draft)

    def rule(x: Tensor, x0: Tensor, sigma: float) -> Tensor:
        share = strength + (1 - strength) * progress(sigma, draft.itinerary.sigmas)
        return draft.source + share * (x0 - draft.source)

    return _run(draft, rule, draft.step_noise)


def run_scale(draft: Draft) -> Tensor:
    """The published approximation: the network's prediction times k; see `factor`.

    In terms of x0 that is `k * D + (1 - k) * q * x`. Noise of the noise sampler is weighted by k
    as well.
    """
    strength = _strength_map(draft)

    def k_at(sigma: float) -> Tensor:
        return factor(strength, progress(sigma, draft.itinerary.sigmas), draft.ramp)

    def rule(x: Tensor, x0: Tensor, sigma: float) -> Tensor:
        k = k_at(sigma)
        return k * x0 + (1 - k) * neutral(draft.prediction, sigma) * x

    inner = draft.step_noise

    def noise(sigma: Tensor, sigma_next: Tensor) -> Tensor:
        assert inner is not None
        return k_at(float(sigma)) * inner(sigma, sigma_next)

    return _run(draft, rule, noise if inner is not None else None)


def factor(strength: Tensor, done: float, ramp: Ramp) -> Tensor:
    """k of the mode `scale`.

    `k = k0 + (1 - k0) * min(1, done^(1 / r))` with `k0 = min(1, min_scale + scale_range * d)` and
    `r = ramp * (1 + d)`: as published with comfyui-quadtree-tile.

    Args:
        strength: d of each cell.
        done: progress of the run in [0, 1].
        ramp: the other numbers.
    """
    first = (ramp.min_scale + ramp.scale_range * strength).clamp(max=1)
    way = torch.as_tensor(done, dtype=strength.dtype) ** (1 / (ramp.ramp * (1 + strength)))
    return first + (1 - first) * way.clamp(max=1)


def neutral(prediction: str, sigma: float) -> float:
    """q: what x0 is, as a multiple of x, when the network predicts 0.

    For eps `x0 = x - sigma * eps`; for v `x0 = x / (sigma^2 + 1) - ...`; for flow
    `x0 = x_flow - s * v` with `x_flow = x / (1 + sigma)`. A network that predicts x0 is treated
    as one that predicts eps.
    """
    return {"v": 1 / (sigma**2 + 1), "flow": 1 / (1 + sigma)}.get(prediction, 1.0)


def _strength_map(draft: Draft) -> Tensor:
    """Strength of each cell, feathered between tiles."""
    (run,) = draft.itinerary.runs
    strengths = run.phases[0].strengths
    shares = memberships(draft.itinerary.strengths, strengths, draft.itinerary.layout.margin)
    return draft.tensor(np.tensordot(strengths, shares, axes=1))


def _run(
    draft: Draft, rule: Callable[[Tensor, Tensor, float], Tensor], noise: NoiseSampler | None
) -> Tensor:
    (run,) = draft.itinerary.runs
    (phase,) = run.phases
    working = draft.tensor(draft.itinerary.strengths.cells()) > 0
    denoiser = draft.denoisers([phase], draft.sampler.order)

    def gated(x: Tensor, x0: Tensor, sigma: float) -> Tensor:
        return torch.where(working, rule(x, x0, sigma), draft.source)

    x = draft.sample(
        Modulated(denoiser, gated),
        draft.noised(draft.itinerary.sigmas[phase.start]),
        phase.start,
        phase.stop,
        noise,
    )
    return torch.where(working, x, draft.source)
