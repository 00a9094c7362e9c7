"""The denoise modes by name: one rule each, all over the same tiled denoiser."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from tileup.denoise.approximate import run_blend, run_scale
from tileup.denoise.run import Job
from tileup.denoise.schedule import run_schedule
from tileup.denoise.separate import run_passes, run_sigma

RULES: Mapping[str, Callable[[Job], Tensor]] = {
    "schedule": run_schedule,
    "sigma": run_sigma,
    "passes": run_passes,
    "blend": run_blend,
    "scale": run_scale,
}
"""By the name of `--denoise-mode`: what a job becomes, clean latents of its canvas."""


def run(mode: str, job: Job) -> Tensor:
    """Clean latents of a canvas, shape of `job.source`; the source where nothing is redrawn."""
    return RULES[mode](job) if job.itinerary.runs else job.source
