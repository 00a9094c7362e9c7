"""What `tileup plan` prints for people: of one picture its strengths, of several a line each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tileup.cli.tables import print_table, print_text
from tileup.cli.timeleft import lasting
from tileup.engine.request import AUTO, Job
from tileup.model_settings import Resolved
from tileup.plan.cost import Cost
from tileup.plan.planning import Planned
from tileup.wording import counted


@dataclass(frozen=True, slots=True)
class StrengthRow:
    """All tiles of one strength."""

    strength: float
    tiles: int
    area: float
    """Share of the picture, in [0, 1]."""
    start: int | None
    """First step at which they are at work; None: they are kept."""
    steps: int
    """Steps they take."""


def levels(planned: Planned) -> Iterator[StrengthRow]:
    """The strengths of a plan, strongest first, kept tiles last."""
    plan, schedule = planned.plan, planned.itinerary.schedule
    found, which = np.unique(plan.held.denoise, return_inverse=True)
    tiles, pixels = np.bincount(which), np.bincount(which, plan.pixel_areas())
    rows = zip(found.tolist(), tiles.tolist(), pixels.tolist(), strict=True)
    for strength, count, area in reversed(list(rows)):
        start = _start(planned, schedule.merged.get(strength, strength))
        steps = 0 if start is None else schedule.steps - start
        yield StrengthRow(strength, count, area / (plan.width * plan.height), start, steps)


def _start(planned: Planned, strength: float) -> int | None:
    """The first step at which tiles of a strength are at work."""
    phases = planned.itinerary.phases
    return min((phase.start for phase in phases if strength in phase.strengths), default=None)


@dataclass(frozen=True, slots=True)
class PictureRow:
    """One picture of several."""

    job: Job
    given: tuple[int, int]
    """Width and height of the input, pixels."""
    made: tuple[int, int]
    """Width and height of the output, pixels."""
    cost: Cost


def show_one(row: PictureRow, planned: Planned, found: Resolved, pace: float | None) -> None:
    """Print the plan of one picture.

    Args:
        row: the picture.
        planned: its plan.
        found: settings and model.
        pace: seconds for a megapixel-step on this machine; None: not known.
    """
    cost, settings = row.cost, found.settings
    steps = counted(planned.itinerary.schedule.steps, "step")
    print_text(
        f"{row.job.shown_input}  {_sized(row.given)} -> {_sized(row.made)}, "
        f"model {found.spec.name}, {settings.sampler}, {steps}"
    )
    print_table(
        ("strength", "tiles", "area", "from step", "steps"),
        [
            (
                f"{level.strength:.3g}",
                str(level.tiles),
                f"{level.area:.1%}",
                "kept" if level.start is None else str(level.start + 1),
                str(level.steps),
            )
            for level in levels(planned)
        ],
    )
    auto = " (auto)" if settings.detail_threshold == AUTO else ""
    print_text(
        f"{counted(cost.tiles, 'tile')}, "
        f"{settings.detail_metric} threshold {planned.plan.threshold:.4g}{auto}\n"
        f"{counted(cost.windows, 'window')}, {counted(cost.model_calls, 'model call')}\n"
        f"{cost.megapixel_steps:.2f} megapixel-steps, {cost.uniform_megapixel_steps:.2f} with "
        f"{settings.max_denoise:g} everywhere: saves {cost.saving:.0%}"
    )
    if pace is not None:
        print_text(f"{lasting(pace * cost.megapixel_steps)} at the pace of earlier runs here")


def show_many(rows: Sequence[PictureRow], pace: float | None) -> None:
    """Print a line for each of several pictures, and what all of them cost.

    Args:
        rows: the pictures.
        pace: seconds for a megapixel-step on this machine; None: not known.
    """
    heads = ("picture", "size", "output", "tiles", "windows", "megapixel-steps", "saves", "time")
    lines = [(row.job.shown_input, _sized(row.given), _sized(row.made)) for row in rows]
    body = [(*line, *_price([row.cost], pace)) for line, row in zip(lines, rows, strict=True)]
    total = (counted(len(rows), "picture"), "", "", *_price([row.cost for row in rows], pace))
    print_table(heads, [*body, total])
    if pace is None:
        print_text("The time is known once tileup upscale has run on this machine.")


def _price(costs: Sequence[Cost], pace: float | None) -> tuple[str, ...]:
    work = sum(cost.megapixel_steps for cost in costs)
    uniform = sum(cost.uniform_megapixel_steps for cost in costs)
    return (
        f"{sum(cost.tiles for cost in costs):,}",
        f"{sum(cost.windows for cost in costs):,}",
        f"{work:.2f}",
        f"{1 - work / uniform:.0%}" if uniform else "-",
        "-" if pace is None else lasting(pace * work),
    )


def _sized(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
