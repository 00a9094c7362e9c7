"""Phases make all the steps, with the right tiles at work and windows over all of them."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from tests.doubles import LEVELS, photograph, spec
from tests.plan.test_windows import core
from tileup.contracts import Box, NoiseLevels
from tileup.plan.itinerary import (
    Itinerary,
    Layout,
    Phase,
    control_until,
    effective,
    progress,
)
from tileup.plan.layings import LAYINGS
from tileup.plan.modes import MODES, Canvas
from tileup.plan.planning import plan_pixels
from tileup.plan.schedules import SCHEDULERS, make_schedule
from tileup.plan.tiles import Tile, TilePlan
from tileup.settings.values import Settings


def stripes(strengths: list[float], side: int = 16) -> TilePlan:
    """Square tiles side by side. Stride 1."""
    tiles = tuple(
        Tile(Box(0, side * i, side, side * (i + 1)), 0, 0.0, strength)
        for i, strength in enumerate(strengths)
    )
    return TilePlan(side * len(strengths), side, 1, 2.0, tiles, 0.0)


def itinerary(
    plan: TilePlan,
    *,
    scheduler: str = "sgm_uniform",
    steps: int = 8,
    window: int = 16,
    margin: int = 0,
    mode: str = "schedule",
    windows: str = "cover",
    strongest: float | None = None,
    levels: NoiseLevels = LEVELS,
    multiple: int = 0,
    shapes: Sequence[tuple[int, int]] = (),
) -> Itinerary:
    """What a mode runs on a plan; of shapes those count that the canvas holds."""
    top = plan.strengths[:1] if strongest is None else (strongest,)
    strengths = {*top, *plan.strengths} if MODES[mode].own_starts else {*top}
    schedule = make_schedule(levels, SCHEDULERS[scheduler], steps, [*strengths])
    size = max(plan.rows, window), max(plan.columns, window)
    fitting = tuple(each for each in shapes if each[0] <= size[0] and each[1] <= size[1])
    layout = Layout(*size, window, margin, multiple, fitting)
    cells = effective(plan.grid, schedule)
    canvas = Canvas(cells, schedule, layout, LAYINGS[windows], levels, seed=0)
    return Itinerary(layout, schedule, MODES[mode].runs(canvas), layout.padded(cells))


def test_phases_start_where_a_strength_starts_and_make_every_step() -> None:
    plan = stripes([0.8, 0.2, 0.0, 0.4])
    phases = itinerary(plan, margin=2).phases
    assert [(phase.start, phase.stop) for phase in phases] == [(0, 4), (4, 6), (6, 8)]
    assert [phase.strengths for phase in phases] == [(0.8,), (0.8, 0.4), (0.8, 0.4, 0.2)]
    for phase in phases:
        needed = plan.denoise_map() >= phase.strengths[-1]
        covered = np.zeros_like(needed)
        for box in phase.windows:
            covered[core(box, 16, 64, 2)] = True
        assert not (needed & ~covered).any()
    counts = [len(phase.windows) for phase in phases]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]


def test_the_schedule_starts_at_max_denoise_even_if_no_tile_has_it() -> None:
    weak = itinerary(stripes([0.2, 0.4]), strongest=0.8)
    assert [(phase.start, phase.stop) for phase in weak.phases] == [(4, 6), (6, 8)]
    full = itinerary(stripes([0.2, 0.4, 0.8]))
    assert weak.sigmas == full.sigmas


def test_merged_strengths_work_with_their_winner() -> None:
    plan = stripes([0.8, 0.75, 0.2])
    made = itinerary(plan, scheduler="karras", steps=2, margin=2)
    assert made.schedule.merged == {0.75: 0.8}
    assert len(made.phases) == 2
    np.testing.assert_array_equal(made.strengths.cells()[0, ::16], [0.8, 0.8, 0.2])


@pytest.mark.parametrize(
    ("width", "height"), [(1, 1), (1, 200), (201, 1), (33, 31), (64, 64), (131, 97)]
)
def test_the_canvas_holds_the_picture_and_one_window(width: int, height: int) -> None:
    pixels = photograph(max(height // 2, 1), max(width // 2, 1))
    planned = plan_pixels(pixels, width, height, spec(), Settings(tile=32, min_tile=8, overlap=8))
    layout = planned.itinerary.layout
    assert layout.rows == max(-(-height // 2), 16)
    assert layout.columns == max(-(-width // 2), 16)
    assert planned.itinerary.strengths.shape == (layout.rows, layout.columns)
    assert all(phase.windows for phase in planned.itinerary.phases), (
        "a phase that has working tiles has windows"
    )


SHAPED = replace(spec(stride=2, window=32), shapes=((40, 24), (24, 40), (60, 16)))


@pytest.mark.parametrize(
    ("size", "flags", "shapes"),
    [
        ((80, 120), {}, {(20, 12), (12, 20), (30, 8)}),
        ((80, 36), {}, {(20, 12), (30, 8)}),
        ((80, 120), {"overlap": 16}, {(20, 12), (12, 20)}),
        ((80, 120), {"window": 32}, set()),
        ((80, 120), {"windows": "spot"}, set()),
    ],
    ids=["all", "a narrow canvas", "a wide overlap", "a side that was asked for", "spot"],
)
def test_windows_may_have_the_shapes_of_the_training_that_fit(
    size: tuple[int, int], flags: dict[str, object], shapes: set[tuple[int, int]]
) -> None:
    height, width = size
    settings = Settings(**{"overlap": 8, "steps": 2, **flags})
    pixels = photograph(height // 2, width // 2)
    made = plan_pixels(pixels, width, height, SHAPED, settings)
    layout = made.itinerary.layout
    assert {*layout.shapes} == shapes
    for phase in made.itinerary.phases:
        found = {(box.height, box.width) for box in phase.windows}
        assert found
        assert found <= {(16, 16)} | shapes


def test_progress_is_the_fractional_index_of_the_step() -> None:
    sigmas = (8.0, 4.0, 1.0, 0.5, 0.0)
    assert [progress(sigma, sigmas) for sigma in sigmas] == [0, 0.25, 0.5, 0.75, 1]
    assert progress(9.0, sigmas) == 0, "churn goes above the first level"
    assert progress(2.0, sigmas) == pytest.approx(0.375), "half way in log sigma"
    assert progress(0.25, sigmas) == pytest.approx(0.875), "below the last level linear in sigma"


def test_a_phase_has_windows_for_every_step() -> None:
    with pytest.raises(ValueError, match="1 sets of windows for 2 steps"):
        Phase(0, 2, (0.8,), ((Box(0, 0, 1, 1),),))


def acting_steps(steps: int, end: float) -> int:
    """diffusers: step i acts unless (i + 1) / steps > control_guidance_end."""
    return sum(not (step + 1) / steps > end for step in range(steps))


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 7, 8, 20])
@pytest.mark.parametrize("end", [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0])
def test_as_many_steps_act_as_in_diffusers(steps: int, end: float) -> None:
    sigmas = [*np.geomspace(14.6, 0.03, steps), 0.0]
    level = control_until(sigmas, end)
    acts = [sigma >= level for sigma in sigmas[:-1]]
    assert acts == sorted(acts, reverse=True)
    assert sum(acts) == acting_steps(steps, end)


def test_the_ends_are_always_and_never() -> None:
    sigmas = [2.0, 1.0, 0.5, 0.0]
    assert control_until(sigmas, 1.0) == 0.0
    assert control_until(sigmas, 0.0) == math.inf
    assert control_until(sigmas, 0.32) == math.inf, "less than one step is none"
    assert control_until([2.0, 0.0], 1.0) == 0.0
    assert control_until([2.0, 0.0], 0.99) == math.inf
    assert control_until([0.0], 0.5) == math.inf, "nothing to do"


@pytest.mark.parametrize("end", [0.25, 0.5, 0.75])
def test_half_steps_belong_to_their_step_and_rounding_moves_none(end: float) -> None:
    sigmas = [8.0, 4.0, 2.0, 1.0, 0.0]
    level = control_until(sigmas, end)
    last = round(end * 4) - 1
    assert sigmas[last] * (1 - 1e-6) > level
    assert math.sqrt(sigmas[last] * sigmas[last + 1]) * (1 - 1e-6) > level
    assert sigmas[last + 1] * (1 + 1e-6) < level


def test_the_share_counts_as_a_decimal() -> None:
    """0.7 * 10 is below 7 in binary."""
    sigmas = [*np.geomspace(14.6, 0.03, 10), 0.0]
    level = control_until(sigmas, 0.7)
    assert sum(sigma >= level for sigma in sigmas[:-1]) == 7
