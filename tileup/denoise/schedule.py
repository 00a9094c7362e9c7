"""Per-tile denoise by schedule: a tile keeps its source until its own start, then works.

A tile that has not started answers `x0 := source`, and a sampler told so carries x exactly along
`source + sigma * noise`. So every tile is always at the run's one noise level, and a tile that
starts at its own level continues as a plain img2img run of its strength would. The run is cut
into phases at the starts, so no sampler's step straddles one; windows that hold no working tile
are never evaluated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tileup.denoise.strength import working_weight
from tileup.plan.phases import Itinerary, Phase
from tileup.plan.samplers import Sampler
from tileup.sampling.kdiffusion import NoiseSampler
from tileup.sampling.steps import CanvasDenoiser, sample


@dataclass(frozen=True, slots=True)
class Gated:
    """x0 := weight * D + (1 - weight) * source."""

    denoiser: CanvasDenoiser
    source: Tensor
    """Clean latents, shape (1, C, H, W)."""
    weight: Tensor
    """In [0, 1], shape (H, W)."""

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.weight * self.denoiser(x, sigma) + (1 - self.weight) * self.source


@dataclass(frozen=True, slots=True)
class Start:
    """What every tile starts from."""

    source: Tensor
    """Clean latents of the enlarged picture on the padded canvas, shape (1, C, H, W)."""
    noise: Tensor
    """Standard normal, shape of `source`."""
    seed: int
    """Of the picture; for noise that a sampler adds on its way."""
    step_noise: NoiseSampler | None
    """For samplers that take one; it must span the whole run."""


PhaseDenoiser = Callable[[Phase], CanvasDenoiser]
"""Gives the denoiser of a phase: one that evaluates the phase's windows."""


def run_schedule(
    itinerary: Itinerary, sampler: Sampler, denoiser: PhaseDenoiser, start: Start
) -> Tensor:
    """Sample a canvas whose tiles have strengths of their own.

    Args:
        itinerary: noise levels, phases, strength of each cell.
        sampler: any that takes a list of noise levels. Multistep ones lose their history where a
            phase begins.
        denoiser: evaluates a phase's windows.
        start: source, noise and seed.

    Returns:
        Clean latents, shape of `start.source`; the source itself where the strength is 0.
    """
    sigmas = itinerary.sigmas
    x = start.source
    seen = torch.zeros(x.shape[-2:], dtype=torch.bool, device=x.device)
    for phase in itinerary.phases:
        weight = torch.from_numpy(
            working_weight(itinerary.strengths, phase.strengths[-1], itinerary.layout.margin)
        ).to(x)
        # Cells that no phase has touched yet start here, whatever the sampler did to them.
        x = torch.where(seen, x, start.source + sigmas[phase.start] * start.noise)
        seen |= weight > 0
        x = sample(
            sampler,
            Gated(denoiser(phase), start.source, weight),
            x,
            sigmas[phase.start : phase.stop + 1],
            first=phase.start,
            seed=start.seed,
            noise=start.step_noise,
        )
    return torch.where(seen, x, start.source)
