"""A canvas from noise to clean latents: a mode's rule over a network that sees it in windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from tileup.contracts import Box, Denoiser, Model, OnStep, Scene, Step, Wish
from tileup.denoise.draft import Draft, Ramp
from tileup.denoise.rules import run
from tileup.denoise.stream import Stream
from tileup.errors import NotFiniteError
from tileup.plan.itinerary import Phase, control_until, windows_at_once
from tileup.plan.planning import Planned
from tileup.sampling.noise import canvas_noise, noise_sampler
from tileup.sampling.steps import SamplerOptions
from tileup.settings.values import Settings
from tileup.tiling.profiles import WindowWeights
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
            options=_options(settings),
            ramp=Ramp(settings.min_scale, settings.scale_range, settings.ramp),
        ),
    )
    if not bool(latents.isfinite().all()):
        raise NotFiniteError
    return latents


def stream_canvas(
    planned: Planned,
    source: Callable[[int, int, Tensor], None],
    model: Model,
    settings: Settings,
    on_step: OnStep | None,
    first: int = 0,
) -> Iterator[tuple[int, Tensor]]:
    """Clean latents of the redrawn canvas from top to bottom.

    Args:
        planned: of a canvas that `is_drawn_by_rows`.
        source: writes clean latents of rows of the enlarged picture, shape (rows, columns, C).
        model: a loaded checkpoint.
        settings: everything else.
        on_step: told after each batch of windows.
        first: row with which to begin.

    Returns:
        The first row, and latents of some rows from it on, shape (1, C, rows, columns), again and
        again. They may hold values that are no numbers.
    """
    itinerary, progress = planned.itinerary, Progress(planned, on_step)
    layout = itinerary.layout
    like = torch.empty(0, dtype=torch.float32, device=model.device)

    def denoiser(part: Tensor, strength: Tensor) -> Denoiser:
        return model.denoiser(scene_of(part, None, planned, settings, strength))

    def windows(phase: int, count: int, known: bool) -> None:
        progress.phase = max(progress.phase, phase + 1)
        progress.known += count if known else 0
        progress.windows(count)

    return Stream(
        itinerary,
        model.spec.channels,
        planned.sampler,
        _options(settings),
        settings.seed,
        WindowWeights(settings.weights, 2 * layout.margin, like),
        windows_at_once(model.spec, settings) * layout.window**2,
        source,
        denoiser,
        windows,
    ).latents(first)


def scene_of(
    source: Tensor,
    canvas: Tensor | None,
    planned: Planned,
    settings: Settings,
    strength: Tensor | None = None,
) -> Scene:
    """What the model is shown: the picture or some rows of it, and what it shall look like.

    Args:
        source: latents of the enlarged picture.
        canvas: its pixels; None where no network looks at them.
        planned: what will be done to it.
        settings: everything else.
        strength: of the same cells as `source`; None: those of the whole canvas.
    """
    if strength is None:
        strength = torch.from_numpy(planned.itinerary.strengths.cells()).float()[None, None]
    return Scene(
        source,
        canvas,
        (planned.plan.height, planned.plan.width),
        Wish(
            settings.prompt,
            settings.negative,
            settings.cfg,
            settings.guidance,
            settings.cfg_norm,
            settings.texture,
            planned.deblock,
        ),
        control_until(planned.itinerary.sigmas, settings.control_end),
        strength,
    )


def _options(settings: Settings) -> SamplerOptions:
    return SamplerOptions(settings.eta, settings.s_noise, settings.s_churn)


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
        self.batch = windows_at_once(model.spec, settings)
        # On the device of the canvas, so that no step has to move it there.
        self.weights = WindowWeights(settings.weights, 2 * self.layout.margin, scene.source)
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
            self.weights,
            height=self.layout.rows,
            width=self.layout.columns,
            batch=self.batch,
            usual=self.layout.window**2,
            on_windows=self.progress.windows,
        )


class Progress:
    """Counts windows and tells the caller."""

    def __init__(self, planned: Planned, on_step: OnStep | None) -> None:
        self.phase = 0
        self.calls = self.known = 0
        self.phases = len(planned.itinerary.phases)
        self.total = planned.cost.model_calls
        self.on_step = on_step

    def windows(self, count: int) -> None:
        self.calls += count
        if self.on_step is not None:
            self.on_step(Step(self.phase, self.phases, self.calls, self.total, self.known))
