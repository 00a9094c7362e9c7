"""What every denoise mode works on: a canvas in the making, its plan, network and sampler."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tileup.plan.itinerary import Itinerary, Phase
from tileup.plan.samplers import Sampler
from tileup.sampling.kdiffusion import NoiseSampler
from tileup.sampling.steps import CanvasDenoiser, SamplerOptions, sample


class Denoisers(Protocol):
    """Gives a denoiser of the canvas that evaluates the windows of given phases."""

    def __call__(
        self, phases: Sequence[Phase], order: int, strength: float | None = None
    ) -> CanvasDenoiser:
        """A denoiser of as many canvases as there are phases.

        Args:
            phases: the windows of each canvas, step by step; all have the same steps.
            order: evaluations in each step, the last of a run excepted.
            strength: what the network is told that every cell has; None: its own in the plan.
        """
        ...


@dataclass(frozen=True, slots=True)
class Ramp:
    """Numbers of the mode `scale`."""

    min_scale: float = 0.7
    """Factor of the prediction at strength 0."""
    scale_range: float = 0.25
    """What strength 1 adds to it."""
    ramp: float = 1.0
    """Above 1, the factor grows sooner."""


@dataclass(frozen=True, slots=True)
class Draft:
    """One canvas to be sampled."""

    itinerary: Itinerary
    sampler: Sampler
    denoisers: Denoisers
    source: Tensor
    """Clean latents of the enlarged picture on the padded canvas, shape (1, C, H, W)."""
    noise: Tensor
    """Standard normal, shape of `source`."""
    seed: int
    """Of the picture; for noise that a sampler adds on its way."""
    step_noise: NoiseSampler | None = None
    """For samplers that take one; it must span all noise levels of the itinerary."""
    prediction: str = "x0"
    """What the network predicts: eps, v, x0 or flow."""
    options: SamplerOptions = field(default_factory=SamplerOptions)
    ramp: Ramp = field(default_factory=Ramp)

    def tensor(self, values: NDArray[np.float64]) -> Tensor:
        """A map of the canvas, (H, W), or other numbers, as a tensor like `source`."""
        return torch.from_numpy(values).to(self.source)

    def noised(self, sigma: float) -> Tensor:
        """The source at a noise level."""
        return self.source + sigma * self.noise

    def sample(
        self,
        denoiser: CanvasDenoiser,
        x: Tensor,
        start: int,
        stop: int,
        noise: NoiseSampler | None = None,
    ) -> Tensor:
        """Steps [start, stop) of the itinerary from `x`, any number of canvases."""
        return sample(
            self.sampler,
            denoiser,
            x,
            self.itinerary.sigmas[start : stop + 1],
            first=start,
            of=self.itinerary.schedule.steps,
            seed=self.seed,
            noise=noise or self.step_noise,
            options=self.options,
        )
