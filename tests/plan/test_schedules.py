"""Every schedule descends, has N steps, and passes exactly through the start of every strength."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.doubles import LEVELS
from tileup.contracts import NoiseLevels
from tileup.plan.noise_levels import FlowLevels, TableLevels, WindowFlowLevels
from tileup.plan.schedules import (
    SCHEDULERS,
    Scheduler,
    distinct_indices,
    make_schedule,
    merge_strengths,
)
from tileup.sampling import kdiffusion

BOTH_LEVELS = (LEVELS, TableLevels((0.0, 1.0), (0.008, 0.7)))
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
def test_a_schedule_descends_through_the_start_of_every_strength(
    scheduler: Scheduler, steps: int
) -> None:
    for levels, strengths in itertools.product(BOTH_LEVELS, STRENGTHS):
        descends_through_starts(scheduler, steps, strengths, levels)


def descends_through_starts(
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


TOP = float(LEVELS.sigma(np.array([1.0]))[0])


def test_vp_is_k_diffusions_where_that_has_a_range() -> None:
    """k-diffusion's runs from t = 1 to 0.001; a table with those ends must give the same."""
    theirs = kdiffusion._sampling().get_sigmas_vp(12).double().numpy()
    levels = TableLevels((0.0, 1.0), (float(theirs[-2]), float(theirs[0])))
    ours = make_schedule(levels, SCHEDULERS["vp"], 12, [1.0]).sigmas
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)


def test_laplace_is_the_published_quantile() -> None:
    """sigma = exp(mu - b * sign(0.5 - x) * log(1 - 2 |0.5 - x|)), x rising from 0 to 1, falling
    noise; between the shares of the two ends."""
    from scipy.stats import laplace

    sigmas = np.array(make_schedule(LEVELS, SCHEDULERS["laplace"], 9, [1.0]).sigmas[:-1])
    shares = laplace(scale=0.5).cdf(np.log(sigmas))
    np.testing.assert_allclose(np.diff(shares), np.diff(shares)[0], rtol=1e-9)
    np.testing.assert_allclose(sigmas[[0, -1]], [LEVELS.sigma_max, LEVELS.sigma_min], rtol=1e-9)
    # and it keeps its digits at the ends of the widest families, such as flow up to s = 0.9999
    wide = TableLevels((0.0, 1.0), (1e-4, 1e4))
    far = make_schedule(wide, SCHEDULERS["laplace"], 3, [1.0]).sigmas
    assert far[0] == pytest.approx(1e4, rel=1e-6)
    assert far[1] == pytest.approx(1.0)
    assert far[2] == pytest.approx(1e-4, rel=1e-6)


def test_beta_is_the_published_quantile_of_time() -> None:
    from scipy.stats import beta

    sigmas = make_schedule(LEVELS, SCHEDULERS["beta"], 7, [1.0]).sigmas
    times = beta.ppf(1 - np.arange(7) / 7, 0.6, 0.6)
    np.testing.assert_allclose(sigmas[:-1], LEVELS.sigma(times), rtol=1e-6)


def published_linear_quadratic(steps: int, threshold: float = 0.025) -> list[float]:
    """The published rule for an even number of steps, half of them linear: what time has fallen."""
    half = steps // 2
    difference = half - threshold * steps
    quadratic = difference / (half * (steps - half) ** 2)
    linear = threshold / half - 2 * difference / (steps - half) ** 2
    constant = quadratic * half**2
    published = [i * threshold / half for i in range(half)]
    return published + [quadratic * i**2 + linear * i + constant for i in range(half, steps)]


@pytest.mark.parametrize("steps", [4, 8, 20, 2000])
def test_linear_quadratic_is_the_published_rule(steps: int) -> None:
    fallen = np.array(published_linear_quadratic(steps))
    sigmas = make_schedule(LEVELS, SCHEDULERS["linear_quadratic"], steps, [1.0]).sigmas
    np.testing.assert_allclose(sigmas[:-1], TOP * (1 - fallen), atol=1e-9 * TOP)


@pytest.mark.parametrize("levels", [FlowLevels(3.0), WindowFlowLevels.of(1024)])
@pytest.mark.parametrize("strength", [1.0, 0.6])
@pytest.mark.parametrize("steps", [4, 8, 20])
def test_linear_quadratic_of_flow_models_is_in_flow_time(
    levels: FlowLevels, strength: float, steps: int
) -> None:
    """In sigma, which goes up to 9999, nearly all steps would be spent at times above 0.9995."""
    sigmas = np.array(
        make_schedule(levels, SCHEDULERS["linear_quadratic"], steps, [strength]).sigmas[:-1]
    )
    start = float(levels.sigma(np.array([strength]))[0])
    times = start / (1 + start) * (1 - np.array(published_linear_quadratic(steps)))
    np.testing.assert_allclose(sigmas / (1 + sigmas), times, rtol=1e-9)
    assert (times < 0.9).sum() >= steps // 4


def test_kl_optimal_is_uniform_in_the_arc_tangent() -> None:
    sigmas = make_schedule(LEVELS, SCHEDULERS["kl_optimal"], 9, [1.0]).sigmas
    steps = np.diff(np.arctan(sigmas[:-1]))
    np.testing.assert_allclose(steps, steps[0], rtol=1e-9)
    assert sigmas[-2] == pytest.approx(LEVELS.sigma_min)


def test_simple_and_ddim_uniform_read_a_table_of_a_thousand_times() -> None:
    """Against the tables themselves: rows -(1 + int(i * T / N)), and every T // N-th from 1."""
    table = LEVELS.sigma(np.linspace(0, 1, 1000))
    simple = [table[-(1 + int(i * 1000 / 20))] for i in range(20)]
    sigmas = make_schedule(LEVELS, SCHEDULERS["simple"], 20, [1.0]).sigmas
    np.testing.assert_allclose(sigmas[:-1], simple, rtol=0.02)
    ddim = table[1 :: 1000 // 20][::-1]
    top = 951 / 999  # the table's first row is not the top of the noise
    sigmas = make_schedule(LEVELS, SCHEDULERS["ddim_uniform"], 20, [top]).sigmas
    np.testing.assert_allclose(sigmas[:-1], ddim, rtol=1e-6)


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


def test_a_schedule_is_found_by_few_looks_at_its_curve() -> None:
    """Bisection towards 0 itself would go through a thousand ever smaller numbers."""
    looks: list[np.ndarray] = []

    def curve(levels: NoiseLevels, strongest: float, u: np.ndarray) -> np.ndarray:
        looks.append(u)
        return levels.sigma(strongest * (1 - u))

    schedule = make_schedule(LEVELS, Scheduler("counted", curve, True), 4, (0.8, 0.4))
    assert schedule.starts[0.8] == 0
    assert 10 < len(looks) < 150
