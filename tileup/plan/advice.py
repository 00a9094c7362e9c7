"""What the user should see once: every warning of a plan, in whole sentences."""

from __future__ import annotations

from collections.abc import Iterator

from tileup.contracts import ModelSpec
from tileup.plan.edits import HandDrawn
from tileup.plan.itinerary import Itinerary
from tileup.plan.modes import MODES
from tileup.plan.samplers import Sampler
from tileup.settings.values import Settings


def _blend_width(itinerary: Itinerary) -> float:
    """Cells over which one Gaussian window gives way to the next, from 10 to 90 percent.

    Two bells of variance 0.01 a distance D apart mix as a logistic curve: 4.394 * 0.01 * T^2 / D.
    """
    side, margin = itinerary.layout.window, itinerary.layout.margin
    return 4.394 * 0.01 * side**2 / (side - 2 * margin)


GEOMETRIC = frozenset({"karras", "exponential", "polyexponential"})
HUGE_SIGMA = 100
"""Above this, karras and exponential spend most steps at noise levels no weak tile starts from."""


def _idle(settings: Settings, spec: ModelSpec, sampler: Sampler) -> Iterator[str]:
    """What was asked for beside the defaults and is not used."""
    usual = Settings()

    def asked(*names: str) -> Iterator[str]:
        for name in names:
            if getattr(settings, name) != getattr(usual, name):
                yield name.replace("_", "-")

    if settings.denoise_mode != "scale":
        for name in asked("min_scale", "scale_range", "ramp"):
            yield f"{name} has no effect: it belongs to denoise-mode scale."
    if not settings.control:
        for name in asked("control_scale", "control_end"):
            yield f"{name} has no effect: no control is given."
    if settings.denoise_map is not None:
        for name in asked("denoise_by"):
            yield f"{name} has no effect: the denoise map gives every tile its strength."
    if not spec.textured:
        for name in asked("texture"):
            yield f"{name} has no effect: {spec.name} has no network for texture."
    if not spec.text:
        for name in asked("vae_tile"):
            yield f"{name} has no effect: {spec.name} has no VAE."
    elif not spec.guided:
        for name in asked("guidance"):
            yield f"{name} has no effect: {spec.name} was not distilled with it; cfg guides it."
    for name in asked(*sorted({"eta", "s_noise", "s_churn"} - sampler.options)):
        yield f"{sampler.name} takes no {name}: it has no effect."
    if not spec.text:
        for name in asked("prompt", "negative", "cfg", "guidance"):
            yield f"{spec.name} takes no text: {name} has no effect."


def warnings_of(
    itinerary: Itinerary, sampler: Sampler, spec: ModelSpec, settings: Settings
) -> Iterator[str]:
    schedule, mode = itinerary.schedule, settings.denoise_mode
    if settings.min_denoise == settings.max_denoise and settings.denoise_map is None:
        yield f"min-denoise equals max-denoise: every tile has strength {settings.max_denoise:g}."
    if schedule.merged:
        pairs = ", ".join(f"{lost:g} as {kept:g}" for lost, kept in schedule.merged.items())
        yield (
            f"This plan has more strengths than {schedule.steps} steps can keep apart; "
            f"these run as their neighbours: {pairs}."
        )
    if not MODES[mode].exact:
        yield f"denoise-mode {mode} is an approximation: it is not per-tile denoise."
    for run in itinerary.runs:
        below = sum(0 < s * run.contraction < spec.levels.sigma_min for s in schedule.sigmas)
        if below and run.contraction < 1:
            yield (
                f"strength {run.phases[0].strengths[0]:g}: {below} of {schedule.steps} steps fall"
                f" below the lowest noise level that the model knows ({spec.levels.sigma_min:g})."
            )
    if settings.scheduler in GEOMETRIC and max(schedule.sigmas, default=0) > HUGE_SIGMA:
        yield (
            f"{settings.scheduler} starts from noise level {schedule.sigmas[0]:g} here and"
            f" leaves few steps for details; sgm_uniform does not."
        )
    if settings.weights == "gaussian" and 0 < (blend := _blend_width(itinerary)) < 2:
        yield (
            f"gaussian weights blend over {blend:.1f} latent cells with windows this small, which"
            f" is nearly a hard edge; feather blends over the whole overlap."
        )
    yield from _idle(settings, spec, sampler)
    if sampler.call == "tolerance":
        yield f"{sampler.name} chooses its own steps: --steps is ignored, the cost is a guess."


STRETCH = 1.1
"""Ratio of aspect ratios from which a mask or map was hardly meant for the picture."""


def stretched(width: int, height: int, drawn: HandDrawn) -> Iterator[str]:
    for name, grey in (("mask", drawn.mask), ("denoise-map", drawn.denoise_map)):
        if grey is None:
            continue
        rows, columns = grey.shape
        ratio = (width * rows) / (height * columns)
        if max(ratio, 1 / ratio) > STRETCH:
            yield f"{name} is {columns}x{rows}: it is stretched to the picture's {width}x{height}."


def one_sided(drawn: HandDrawn) -> Iterator[str]:
    """What is drawn by hand, and keeps all of a picture or nothing."""
    mask, strengths = drawn.mask, drawn.denoise_map
    if mask is not None and mask.min() >= WHITE:
        yield "mask: all of it is white, so the whole picture is kept."
    if mask is not None and mask.max() < WHITE:
        yield "mask: none of it is white, so nothing is kept (transparent parts count as black)."
    if strengths is not None and strengths.max() == 0:
        yield "denoise-map: all of it is black or transparent, so the whole picture is kept."


WHITE = 0.5 - 1e-6
"""From here on a mask is white."""
