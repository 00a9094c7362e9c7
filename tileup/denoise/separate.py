"""Modes that give every strength a canvas of its own and feather the finished canvases together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tileup.denoise.draft import Draft
from tileup.denoise.strength import memberships
from tileup.sampling.steps import CanvasDenoiser


@dataclass(frozen=True, slots=True)
class Contracted:
    """The run of a strength in the coordinates of the strongest.

    With c = its start level / the strongest one's, the model sees `source + c * (x - source)` at
    `c * sigma`, and `x0 := source + (D - source) / c`. An exact change of variables: the
    sampler's levels times c, whatever the sampler, as long as it measures no absolute error.
    """

    denoiser: CanvasDenoiser
    source: Tensor
    """Clean latents, shape (1, C, H, W)."""
    factors: Tensor
    """c of each canvas, shape (N, 1, 1, 1)."""

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        inner = self.source + self.factors * (x - self.source)
        x0 = self.denoiser(inner, self.factors.flatten() * sigma)
        return self.source + (x0 - self.source) / self.factors

    def finished(self, x: Tensor) -> Tensor:
        """Canvases in their own coordinates."""
        return self.source + self.factors * (x - self.source)


def run_sigma(draft: Draft) -> Tensor:
    """Every tile works in all steps, each strength at noise levels of its own.

    One canvas per strength on the batch axis; windows lie over the tiles of that strength only.
    """
    runs, steps = draft.itinerary.runs, draft.itinerary.schedule.steps
    contractions = np.array([run.contraction for run in runs])
    factors = draft.tensor(contractions)[:, None, None, None]
    denoiser = Contracted(
        draft.denoisers([run.phases[0] for run in runs], draft.sampler.order), draft.source, factors
    )
    x = draft.noised(draft.itinerary.sigmas[0]).expand(len(runs), -1, -1, -1).clone()
    finished = denoiser.finished(draft.sample(denoiser, x, 0, steps))
    strengths = [run.phases[0].strengths[0] for run in runs]
    return _together(draft, strengths, list(finished.split(1)))


def run_passes(draft: Draft) -> Tensor:
    """A complete run of the whole canvas for each strength: the obvious reference.

    The network is told that all of it has this strength, as in a plain run.
    """
    finished: list[Tensor] = []
    for run in draft.itinerary.runs:
        (phase,) = run.phases
        denoiser = draft.denoisers([phase], draft.sampler.order, phase.strengths[0])
        x = draft.noised(draft.itinerary.sigmas[phase.start])
        finished.append(draft.sample(denoiser, x, phase.start, phase.stop))
    strengths = [run.phases[0].strengths[0] for run in draft.itinerary.runs]
    return _together(draft, strengths, finished)


def _together(draft: Draft, strengths: Sequence[float], canvases: Sequence[Tensor]) -> Tensor:
    """Finished canvases feathered together; the source where a tile is kept."""
    shares = memberships(draft.itinerary.strengths, strengths, draft.itinerary.layout.margin)
    result = torch.zeros_like(draft.source)
    for share, canvas in zip(shares, canvases, strict=True):
        weight = draft.tensor(share)
        result = result + torch.where(weight > 0, weight * canvas, 0)
    return torch.where(draft.tensor(draft.itinerary.strengths.cells()) > 0, result, draft.source)
