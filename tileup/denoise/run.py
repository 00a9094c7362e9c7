"""A canvas from noise to clean latents: a mode's rule over a network that sees it in windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from tileup.contracts import Box, Denoiser, Model, OnStep, Scene, Step
from tileup.denoise.draft import Draft, Ramp
from tileup.denoise.modes import run
from tileup.errors import NotFiniteError
from tileup.plan.itinerary import Phase
from tileup.plan.planning import Planned
from tileup.sampling.noise import canvas_noise, noise_sampler
from tileup.sampling.steps import Options
from tileup.settings.values import Settings
from tileup.tiling.profiles import window_weight
from tileup.tiling.tiled import SteppedDenoiser, TiledDenoiser


def sample_canvas(
    planned: Planned, scene: Scene, model: Model, settings: Settings, on_step: OnStep | None
) -> Tensor:
    """Clean latents of the redrawn canvas, shape of the scene's source."""
    source = scene.source
    itinerary, sampler, plan = planned.itinerary, planned.sampler, planned.plan
    latents = run(
        settings.denoise_mode,
        Draft(
            itinerary,
            sampler,
            WindowDenoisers(planned, model, scene, settings, on_step),
            source,
            noise=canvas_noise(source, plan.rows, plan.columns, settings.seed),
            seed=settings.seed,
            step_noise=noise_sampler(sampler.noise, source, itinerary.sigmas, settings.seed),
            prediction=model.spec.prediction,
            options=Options(settings.eta, settings.s_noise, settings.s_churn),
            ramp=Ramp(settings.min_scale, settings.scale_range, settings.ramp),
        ),
    )
    if not bool(latents.isfinite().all()):
        raise NotFiniteError
    return latents


class WindowDenoisers:
    """Gives denoisers of the canvas over the windows of phases, and counts what they evaluate."""

    def __init__(
        self,
        planned: Planned,
        model: Model,
        scene: Scene,
        settings: Settings,
        on_step: OnStep | None,
    ) -> None:
        self.model, self.scene = model, scene
        self.network = model.denoiser(scene)
        self.layout = planned.itinerary.layout
        self.batch = settings.batch
        side, overlap = self.layout.window, 2 * self.layout.margin
        # On the device of the canvas, so that no step has to move it there.
        self.weight = window_weight(settings.weights, side, side, overlap).to(scene.source)
        self.progress = Progress(planned, on_step)

    def __call__(
        self, phases: Sequence[Phase], order: int, strength: float | None = None
    ) -> SteppedDenoiser:
        self.progress.phase += len(phases)
        make = partial(self._tiled, self._told(strength))
        return SteppedDenoiser(make, [phase.by_step for phase in phases], order)

    def _told(self, strength: float | None) -> Denoiser:
        """The network; told of one strength everywhere, where it can tell strengths apart."""
        told = self.scene.strength
        if strength is None or told is None or not self.model.spec.textured:
            return self.network
        everywhere = torch.full_like(told, strength)
        return self.model.denoiser(replace(self.scene, strength=everywhere))

    def _tiled(self, network: Denoiser, canvases: Sequence[Sequence[Box]]) -> TiledDenoiser:
        return TiledDenoiser(
            network,
            canvases,
            self.weight,
            height=self.layout.rows,
            width=self.layout.columns,
            batch=self.batch,
            on_windows=self.progress.windows,
        )


class Progress:
    """Counts windows and tells the caller."""

    def __init__(self, planned: Planned, on_step: OnStep | None) -> None:
        self.phase = 0
        self.calls = 0
        self.phases = len(planned.itinerary.phases)
        self.total = planned.cost.model_calls
        self.on_step = on_step

    def windows(self, count: int) -> None:
        self.calls += count
        if self.on_step is not None:
            self.on_step(Step(self.phase, self.phases, self.calls, self.total))
