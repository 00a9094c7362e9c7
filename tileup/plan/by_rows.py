"""Which pictures are drawn row by row, or read and written so: the same with less memory."""

from __future__ import annotations

from tileup.contracts import ModelSpec
from tileup.plan.planning import Planned
from tileup.settings.values import Settings

SMALLEST = 2**20
"""Output pixels from which a picture is drawn row by row, where it can be."""


def is_drawn_by_rows(planned: Planned, spec: ModelSpec, settings: Settings) -> bool:
    """Whether a picture is large, and nothing that is asked for needs the whole of it at once.

    The latents must be pixels, the sampler must look at one cell at a time, strength must come
    from the schedule, and tones from the model.
    """
    plan, layout = planned.plan, planned.itinerary.layout
    return (
        plan.width * plan.height >= SMALLEST
        and bool(planned.itinerary.runs)
        and not spec.text
        and planned.sampler.is_local(settings.s_churn)
        and settings.denoise_mode == "schedule"
        and settings.color_fix == "none"
        and (layout.rows, layout.columns) == (plan.rows, plan.columns)
    )


def is_drawn_in_bands(planned: Planned, spec: ModelSpec) -> bool:
    """Whether a picture is large, and nothing but its latents is needed as a whole.

    Those of a VAE are small beside the pixels, which then are enlarged, encoded, decoded and
    finished some rows at a time: in any mode, with any sampler.
    """
    large = planned.plan.width * planned.plan.height >= SMALLEST
    return large and bool(planned.itinerary.runs) and spec.text
