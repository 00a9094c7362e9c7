"""The denoise modes by name: one rule each, all over the same tiled denoiser."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from tileup.denoise.approximate import run_blend, run_scale
from tileup.denoise.draft import Draft
from tileup.denoise.schedule import run_schedule
from tileup.denoise.separate import run_passes, run_sigma

RULES: Mapping[str, Callable[[Draft], Tensor]] = {
    "schedule": run_schedule,
    "sigma": run_sigma,
    "passes": run_passes,
    "blend": run_blend,
    "scale": run_scale,
}
"""By the name of `--denoise-mode`: what a draft becomes, clean latents of its canvas."""


def run(mode: str, draft: Draft) -> Tensor:
    """Clean latents of a canvas, shape of `draft.source`; the source where nothing is redrawn."""
    return RULES[mode](draft) if draft.itinerary.runs else draft.source
