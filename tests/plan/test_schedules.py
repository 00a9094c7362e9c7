"""Every schedule descends, has N steps, and passes exactly through the start of every strength."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.doubles import LEVELS
from tileup.plan.levels import TableLevels
from tileup.plan.schedules import (
    SCHEDULERS,
    Scheduler,
    distinct_indices,
    make_schedule,
    merge_strengths,
)
from tileup.sampling import kdiffusion

STEPS = [1, 2, 3, 4, 5, 7, 8, 12, 20, 33, 50]
STRENGTHS = [
    (0.8,),
    (0.8, 0.2),
    (1.0, 0.0001),
    (0.8, 0.6, 0.4, 0.2),
    (1.0, 0.999, 0.998, 0.997, 0.996),
    (0.07, 0.06, 0.05, 0.04, 0.03, 0.02, 0.01, 0.005),
    (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.001),
]


@pytest.mark.parametrize("scheduler", SCHEDULERS.values(), ids=list(SCHEDULERS))
@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("strengths", STRENGTHS)
@pytest.mark.parametrize("levels", [LEVELS, TableLevels((0.0, 1.0), (0.008, 0.7))])
def test_a_schedule_descends_through_the_start_of_every_strength(
    scheduler: Scheduler, steps: int, strengths: tuple[float, ...], levels: TableLevels
) -> None:
    schedule = make_schedule(levels, scheduler, steps, strengths)
    assert schedule.steps == steps
    assert schedule.sigmas[-1] == 0
    assert all(high > low for high, low in itertools.pairwise(schedule.sigmas))
    assert schedule.sigmas[0] == levels.sigma(np.array([max(strengths)]))[0]
    assert len(schedule.starts) == min(len(strengths), steps)
    indices = list(schedule.starts.values())
    assert indices == sorted(set(indices))
    assert indices[0] == 0
    assert indices[-1] <= steps - 1
    for strength, index in schedule.starts.items():
        assert schedule.sigmas[index] == levels.sigma(np.array([strength]))[0]
    assert {*schedule.starts, *schedule.merged} == set(strengths)
    assert set(schedule.merged.values()) <= set(schedule.starts)


@given(
    steps=st.integers(1, 50),
    strengths=st.lists(st.floats(1e-3, 1), min_size=1, max_size=8, unique=True),
    name=st.sampled_from(sorted(SCHEDULERS)),
)
def test_any_strengths_have_a_descending_schedule(
    steps: int, strengths: list[float], name: str
) -> None:
    schedule = make_schedule(LEVELS, SCHEDULERS[name], steps, strengths)
    assert schedule.steps == steps
    assert all(high > low for high, low in itertools.pairwise(schedule.sigmas))


def test_one_strength_gives_the_plain_schedules() -> None:
    top = float(LEVELS.sigma(np.array([0.7]))[0])
    sampling = kdiffusion._sampling()
    for steps in (2, 5, 20):
        for name, expected in (
            ("karras", sampling.get_sigmas_karras(steps, LEVELS.sigma_min, top)),
            ("exponential", sampling.get_sigmas_exponential(steps, LEVELS.sigma_min, top)),
            ("polyexponential", sampling.get_sigmas_polyexponential(steps, LEVELS.sigma_min, top)),
        ):
            ours = make_schedule(LEVELS, SCHEDULERS[name], steps, [0.7]).sigmas
            np.testing.assert_allclose(ours, expected.numpy(), rtol=2e-5)


def test_sgm_uniform_spends_steps_in_proportion_to_strength() -> None:
    schedule = make_schedule(LEVELS, SCHEDULERS["sgm_uniform"], 8, [0.8, 0.6, 0.4, 0.2])
    assert list(schedule.starts.values()) == [0, 2, 4, 6]
    expected = LEVELS.sigma(np.array([0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]))
    np.testing.assert_allclose(schedule.sigmas[:-1], expected, rtol=1e-12)


def test_normal_ends_at_the_lowest_noise_level() -> None:
    schedule = make_schedule(LEVELS, SCHEDULERS["normal"], 5, [0.8])
    expected = LEVELS.sigma(np.array([0.8, 0.6, 0.4, 0.2, 0.0]))
    np.testing.assert_allclose(schedule.sigmas[:-1], expected, rtol=1e-12)


def test_without_strengths_there_is_nothing_to_sample() -> None:
    assert make_schedule(LEVELS, SCHEDULERS["karras"], 8, []).steps == 0


@pytest.mark.parametrize(("steps", "strengths"), [(0, [0.5]), (4, [0.0]), (4, [1.1])])
def test_nonsense_is_refused(steps: int, strengths: list[float]) -> None:
    with pytest.raises(ValueError, match="out of range"):
        make_schedule(LEVELS, SCHEDULERS["karras"], steps, strengths)


def test_the_nearest_strengths_are_merged_and_the_ends_survive() -> None:
    assert merge_strengths([0.2, 0.8, 0.5], 3) == ([0.8, 0.5, 0.2], {})
    assert merge_strengths([0.8, 0.5, 0.45, 0.2], 3) == ([0.8, 0.5, 0.2], {0.45: 0.5})
    assert merge_strengths([0.8, 0.5, 0.25, 0.2], 3) == ([0.8, 0.5, 0.2], {0.25: 0.2})
    kept, became = merge_strengths([0.8, 0.6, 0.4, 0.2], 1)
    assert kept == [0.8]
    assert set(became) == {0.6, 0.4, 0.2}
    assert set(became.values()) == {0.8}


@given(st.lists(st.floats(0, 60), min_size=1, max_size=9), st.integers(9, 40))
def test_indices_are_distinct_ordered_and_leave_room(positions: list[float], steps: int) -> None:
    indices = distinct_indices(sorted(positions), steps)
    assert indices[0] == 0
    assert all(first < second for first, second in itertools.pairwise(indices))
    assert indices[-1] < steps
