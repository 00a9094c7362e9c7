"""Drafts on small canvases, and the plain img2img runs to hold them against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tests.plan.test_itinerary import itinerary, stripes
from tileup.contracts import Box, Denoiser
from tileup.denoise.draft import Draft
from tileup.plan.itinerary import Itinerary, Layout, Phase
from tileup.plan.samplers import Sampler
from tileup.sampling.noise import canvas_noise, noise_sampler
from tileup.sampling.steps import sample
from tileup.tiling.profiles import WindowWeights
from tileup.tiling.tiled import SteppedDenoiser, TiledDenoiser

SIDE = 16


@dataclass(frozen=True)
class Windowed:
    """Denoisers over the windows of phases."""

    denoiser: Denoiser
    layout: Layout
    side: int = SIDE
    batch: int = 2
    like: torch.dtype = torch.float64

    def __call__(
        self, phases: Sequence[Phase], order: int, strength: float | None = None
    ) -> SteppedDenoiser:
        like = torch.empty(0, dtype=self.like)
        weights = WindowWeights("feather", 2 * self.layout.margin, like)

        def make(canvases: Sequence[Sequence[Box]]) -> TiledDenoiser:
            return TiledDenoiser(
                self.denoiser,
                canvases,
                weights,
                height=self.layout.rows,
                width=self.layout.columns,
                batch=self.batch,
                usual=self.side**2,
            )

        return SteppedDenoiser(make, [phase.by_step for phase in phases], order)


def itinerary_of(
    strengths: list[float], scheduler: str = "sgm_uniform", **options: object
) -> Itinerary:
    """What a mode runs on square tiles side by side; options as for `itinerary`."""
    return itinerary(stripes(strengths, SIDE), scheduler=scheduler, **options)


def draft_of(
    itinerary: Itinerary,
    sampler: Sampler,
    denoiser: Denoiser,
    seed: int = 7,
    source: Tensor | None = None,
    batch: int = 2,
) -> Draft:
    """Noise like the source, which is random and in float64 where none is given."""
    generator = torch.Generator().manual_seed(1)
    layout = itinerary.layout
    if source is None:
        source = torch.rand(1, 2, layout.rows, layout.columns, generator=generator).double()
    return Draft(
        itinerary,
        sampler,
        Windowed(denoiser, layout, batch=batch, like=source.dtype),
        source,
        noise=canvas_noise(source, *source.shape[-2:], seed=seed),
        seed=seed,
        step_noise=noise_sampler(sampler.noise, source, itinerary.sigmas or (1.0,), seed),
    )


def plain(draft: Draft, denoiser: Denoiser, strength: float) -> Tensor:
    """An untiled img2img run of one strength on the same noise levels: what everybody does."""
    first = draft.itinerary.schedule.starts[strength]
    sigmas = draft.itinerary.sigmas[first:]

    def untiled(x: Tensor, sigma: Tensor) -> Tensor:
        return denoiser(x, sigma, ())

    return sample(
        draft.sampler,
        untiled,
        draft.noised(sigmas[0]),
        sigmas,
        first=first,
        of=draft.itinerary.schedule.steps,
        seed=draft.seed,
        noise=draft.step_noise,
        options=draft.options,
    )
