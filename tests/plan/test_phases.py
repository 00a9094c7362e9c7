"""Phases make all the steps, with the right tiles at work and windows over all of them."""

import itertools

import numpy as np
import pytest

from tests.doubles import LEVELS, photograph, spec
from tests.plan.test_windows import core
from tileup.contracts import Box
from tileup.plan.phases import effective, make_itinerary, reflected
from tileup.plan.planning import plan_picture
from tileup.plan.schedules import SCHEDULERS, make_schedule
from tileup.plan.tiles import Tile, TilePlan
from tileup.settings import Settings


def stripes(strengths: list[float], side: int = 16) -> TilePlan:
    """Square tiles side by side. Stride 1."""
    tiles = tuple(
        Tile(Box(0, side * i, side, side * (i + 1)), 0, 0.0, strength)
        for i, strength in enumerate(strengths)
    )
    return TilePlan(side * len(strengths), side, 1, 2.0, tiles, 0.0)


def test_phases_start_where_a_strength_starts_and_make_every_step() -> None:
    plan = stripes([0.8, 0.2, 0.0, 0.4])
    schedule = make_schedule(LEVELS, SCHEDULERS["sgm_uniform"], 8, plan.strengths)
    itinerary = make_itinerary(plan, schedule, window=16, margin=2)
    assert [(phase.start, phase.stop) for phase in itinerary.phases] == [(0, 4), (4, 6), (6, 8)]
    assert [phase.strengths for phase in itinerary.phases] == [(0.8,), (0.8, 0.4), (0.8, 0.4, 0.2)]
    for phase in itinerary.phases:
        needed = plan.denoise_map() >= phase.strengths[-1]
        covered = np.zeros_like(needed)
        for box in phase.windows:
            covered[core(box, 16, 64, 2)] = True
        assert not (needed & ~covered).any()
    counts = [len(phase.windows) for phase in itinerary.phases]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]


def test_merged_strengths_work_with_their_winner() -> None:
    plan = stripes([0.8, 0.75, 0.2])
    schedule = make_schedule(LEVELS, SCHEDULERS["karras"], 2, plan.strengths)
    itinerary = make_itinerary(plan, schedule, window=16, margin=2)
    assert schedule.merged == {0.75: 0.8}
    assert set(np.unique(itinerary.strengths)) == {0.8, 0.2}
    assert len(itinerary.phases) == 2
    np.testing.assert_array_equal(effective(plan.denoise_map(), schedule)[0, ::16], [0.8, 0.8, 0.2])


@pytest.mark.parametrize(("length", "total"), [(1, 5), (2, 7), (3, 3), (5, 13), (8, 9)])
def test_reflection_mirrors_as_often_as_it_takes(length: int, total: int) -> None:
    indices = reflected(length, total)
    assert len(indices) == total
    assert list(indices[:length]) == list(range(length))
    if length > 1:
        assert all(abs(b - a) == 1 for a, b in itertools.pairwise(indices))
    else:
        assert set(indices) == {0}


@pytest.mark.parametrize(
    ("width", "height"), [(1, 1), (1, 200), (201, 1), (33, 31), (64, 64), (131, 97)]
)
def test_the_canvas_holds_the_picture_and_one_window(width: int, height: int) -> None:
    pixels = photograph(max(height // 2, 1), max(width // 2, 1))
    planned = plan_picture(pixels, width, height, spec(), Settings(tile=32, min_tile=8, overlap=8))
    layout = planned.itinerary.layout
    assert layout.rows == max(-(-height // 2), 16)
    assert layout.columns == max(-(-width // 2), 16)
    assert planned.itinerary.strengths.shape == (layout.rows, layout.columns)
    assert all(phase.windows for phase in planned.itinerary.phases), (
        "a phase that has working tiles has windows"
    )
