"""What the user should see once: every warning about a plan, in whole sentences, in one table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tileup.contracts import ModelSpec
from tileup.plan.cost import Cost
from tileup.plan.edits import WHITE, HandDrawn, is_kept_by_hand
from tileup.plan.itinerary import Itinerary
from tileup.plan.modes import MODES
from tileup.plan.samplers import Sampler
from tileup.plan.tiles import TilePlan
from tileup.settings.values import USUAL, Settings
from tileup.wording import counted, listed

GEOMETRIC = frozenset({"karras", "exponential", "polyexponential"})
HUGE_SIGMA = 100
"""Above this, karras and exponential spend most steps at noise levels no weak tile starts from."""
HARD = 2
"""Latent cells over which windows blend, below which that is nearly a hard edge."""
SHAPE = 1.01
"""Ratio of aspect ratios from which a picture is seen to be stretched."""
STRETCH = 1.1
"""Ratio of aspect ratios from which a mask or map was hardly meant for the picture."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a plan is judged by."""

    plan: TilePlan
    itinerary: Itinerary
    cost: Cost
    sampler: Sampler
    spec: ModelSpec
    settings: Settings
    drawn: HandDrawn
    given: tuple[int, int]
    """Width and height of the input, pixels."""


Advice = Callable[[Facts], Iterator[str]]


def warnings_of(facts: Facts) -> tuple[str, ...]:
    """All that there is to say."""
    return tuple(sentence for advice in ADVICE for sentence in advice(facts))


def _merged_strengths(facts: Facts) -> Iterator[str]:
    schedule = facts.itinerary.schedule
    if schedule.merged:
        pairs = ", ".join(f"{lost:g} as {kept:g}" for lost, kept in schedule.merged.items())
        yield (
            f"This plan has more strengths than {counted(schedule.steps, 'step')} can keep apart; "
            f"these run as their neighbours: {pairs}."
        )


def _approximate_mode(facts: Facts) -> Iterator[str]:
    mode = facts.settings.denoise_mode
    if not MODES[mode].exact:
        yield f"denoise-mode {mode} is an approximation: it is not per-tile denoise."


def _interrupted_sampler(facts: Facts) -> Iterator[str]:
    phased = facts.settings.denoise_mode == "schedule" and len(facts.itinerary.phases) > 1
    if phased and not facts.sampler.resumes:
        yield (
            f"{facts.sampler.name} begins anew wherever a strength starts, so that stronger tiles"
            f" differ from a plain run of theirs; dpmpp_2m does not, and denoise-mode sigma and"
            f" passes are exact with {facts.sampler.name} too."
        )


def _steps_below_the_lowest_level(facts: Facts) -> Iterator[str]:
    schedule, lowest = facts.itinerary.schedule, facts.spec.levels.sigma_min
    for run in facts.itinerary.runs:
        below = sum(0 < sigma * run.contraction < lowest for sigma in schedule.sigmas)
        if below and run.contraction < 1:
            yield (
                f"strength {run.phases[0].strengths[0]:g}: {below} of"
                f" {counted(schedule.steps, 'step')} fall below the lowest noise level that the"
                f" model knows ({lowest:g})."
            )


def _few_steps_for_details(facts: Facts) -> Iterator[str]:
    scheduler, sigmas = facts.settings.scheduler, facts.itinerary.sigmas
    if scheduler in GEOMETRIC and max(sigmas, default=0) > HUGE_SIGMA:
        yield (
            f"{scheduler} starts from noise level {sigmas[0]:g} here and"
            f" leaves few steps for details; sgm_uniform does not."
        )


def _hard_edges(facts: Facts) -> Iterator[str]:
    if facts.settings.weights == "gaussian" and 0 < (width := _blend_width(facts)) < HARD:
        yield (
            f"gaussian weights blend over {width:.1f} latent cells with windows this small, which"
            f" is nearly a hard edge; feather blends over the whole overlap."
        )


def _blend_width(facts: Facts) -> float:
    """Cells over which one Gaussian window gives way to the next, from 10 to 90 percent.

    Two bells of variance 0.01 a distance D apart mix as a logistic curve: 4.394 * 0.01 * T^2 / D.
    """
    side, margin = facts.itinerary.layout.window, facts.itinerary.layout.margin
    return 4.394 * 0.01 * side**2 / (side - 2 * margin)


@dataclass(frozen=True, slots=True)
class Idle:
    """Settings that have no effect under a condition."""

    names: Callable[[Facts], tuple[str, ...]]
    """Of `Settings`."""
    when: Callable[[Facts], bool]
    words: str
    """What is said of each; may name the setting, the sampler and the model."""


def _always(*names: str) -> Callable[[Facts], tuple[str, ...]]:
    return lambda facts: names


IDLE: tuple[Idle, ...] = (
    Idle(
        _always("min_scale", "scale_range", "ramp"),
        lambda facts: facts.settings.denoise_mode != "scale",
        "{name} has no effect: it belongs to denoise-mode scale.",
    ),
    Idle(
        _always("fit"),
        lambda facts: facts.settings.size is None,
        "{name} has no effect: no size is given.",
    ),
    Idle(
        _always("control_scale", "control_end"),
        lambda facts: not facts.settings.control,
        "{name} has no effect: no control is given.",
    ),
    Idle(
        _always("denoise_by"),
        lambda facts: facts.settings.denoise_map is not None,
        "{name} has no effect: the denoise map gives every tile its strength.",
    ),
    Idle(
        _always("texture"),
        # Without any it does as asked.
        lambda facts: not facts.spec.textured and facts.settings.texture > 0,
        "{name} has no effect: {model} has no network for texture.",
    ),
    Idle(
        _always("deblock"),
        lambda facts: not facts.spec.deblocks,
        "{name} has no effect: {model} has no network for JPEG's damage.",
    ),
    Idle(
        _always("vae_tile"),
        lambda facts: not facts.spec.text,
        "{name} has no effect: {model} has no VAE.",
    ),
    Idle(
        _always("guidance"),
        lambda facts: facts.spec.text and not facts.spec.guided,
        "{name} has no effect: {model} was not distilled with it; cfg guides it.",
    ),
    Idle(
        _always("cfg_norm"),
        lambda facts: facts.spec.prediction != "flow" or facts.settings.cfg == 1,
        "{name} has no effect: it belongs to flows that cfg guides.",
    ),
    Idle(
        lambda facts: tuple(sorted({"eta", "s_noise", "s_churn"} - facts.sampler.options)),
        lambda facts: True,
        "{sampler} takes no {name}: it has no effect.",
    ),
    Idle(
        _always("prompt", "negative", "cfg", "guidance", "emphasis", "clip_skip"),
        lambda facts: not facts.spec.text,
        "{model} takes no text: {name} has no effect.",
    ),
)
"""What was asked for beside the defaults and is not used."""


def _no_effect(facts: Facts) -> Iterator[str]:
    for idle in IDLE:
        for name in idle.names(facts) if idle.when(facts) else ():
            if getattr(facts.settings, name) != getattr(USUAL, name):
                yield idle.words.format(
                    name=name.replace("_", "-"), sampler=facts.sampler.name, model=facts.spec.name
                )


def _own_steps(facts: Facts) -> Iterator[str]:
    sampler = facts.sampler
    if sampler.call == "tolerance":
        yield f"{sampler.name} chooses its own steps: --steps is ignored, the cost is a guess."


def _budget_out_of_reach(facts: Facts) -> Iterator[str]:
    settings, share = facts.settings, facts.cost.share
    if settings.budget is None or share <= settings.budget:
        return
    cheaper = "Only kept tiles cost less: a --mask, or --skip-larger."
    if MODES[settings.denoise_mode].cost_falls and settings.min_denoise > 0:
        cheaper = "A lower --min-denoise or --skip-larger costs less."
    yield (
        f"A budget of {settings.budget:.0%} cannot be reached; the cheapest plan of this picture"
        f" costs {share:.0%}. {cheaper}"
    )


def _misshapen(facts: Facts) -> Iterator[str]:
    """A size that stretches the picture, where nobody said that it shall."""
    settings, (width, height), plan = facts.settings, facts.given, facts.plan
    wider = plan.width * height / (plan.height * width)
    if settings.size is None or settings.fit is not None:
        return
    if max(wider, 1 / wider) < SHAPE or abs(plan.width - plan.width / wider) <= 1:
        return  # no more than a rounded side
    how = f"{wider:.3g} times as wide" if wider > 1 else f"{1 / wider:.3g} times as high"
    yield (
        f"size {settings.size} stretches a picture of {width}x{height}: it becomes {how} for its "
        f"shape. --fit inside or --fit cover keeps the shape; --fit stretch says it is meant."
    )


def _stretched(facts: Facts) -> Iterator[str]:
    width, height = facts.plan.width, facts.plan.height
    drawn = {"mask": facts.drawn.mask, "denoise-map": facts.drawn.denoise_map}
    for name, grey in drawn.items():
        rows, columns = (height, width) if grey is None else grey.shape
        ratio = (width * rows) / (height * columns)
        if max(ratio, 1 / ratio) > STRETCH:
            yield f"{name} is {columns}x{rows}: it is stretched to the picture's {width}x{height}."


def _kept_by_hand(facts: Facts) -> Iterator[str]:
    said = [*one_sided(facts.drawn)]
    if not said and is_kept_by_hand(facts.plan, facts.drawn):
        said.append("mask: no part of it is black for a whole cell, so the whole picture is kept.")
    yield from said


def one_sided(drawn: HandDrawn) -> Iterator[str]:
    """What is drawn by hand, and keeps all of a picture or nothing."""
    mask, strengths = drawn.mask, drawn.denoise_map
    if mask is not None and mask.min() >= WHITE:
        yield "mask: all of it is white, so the whole picture is kept."
    if mask is not None and mask.max() < WHITE:
        yield "mask: none of it is white, so nothing is kept (transparent parts count as black)."
    if strengths is not None and strengths.max() == 0:
        yield "denoise-map: all of it is black or transparent, so the whole picture is kept."


def _all_skipped(facts: Facts) -> Iterator[str]:
    names = ("skip_smaller", "skip_larger", "skip_below")
    given = [name.replace("_", "-") for name in names if getattr(facts.settings, name) is not None]
    if not given or facts.plan.strengths or facts.settings.max_denoise == 0:
        return
    if not is_kept_by_hand(facts.plan, facts.drawn):
        every = "every tile" if facts.drawn.mask is None else "every tile outside of the mask"
        yield f"{listed(given)}: {every} is skipped, so the whole picture is kept as enlarged."


ADVICE: tuple[Advice, ...] = (
    _merged_strengths,
    _approximate_mode,
    _interrupted_sampler,
    _steps_below_the_lowest_level,
    _few_steps_for_details,
    _hard_edges,
    _no_effect,
    _own_steps,
    _budget_out_of_reach,
    _misshapen,
    _stretched,
    _kept_by_hand,
    _all_skipped,
)
"""In the order in which they are said."""
