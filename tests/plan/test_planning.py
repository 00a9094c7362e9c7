"""The whole plan: cost, warnings and refusals."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.doubles import photograph, spec
from tileup.errors import UsageError
from tileup.plan.planning import plan_picture, window_size
from tileup.plan.samplers import SAMPLERS
from tileup.settings import Settings

SMALL = Settings(tile=64, min_tile=8, overlap=8)


def test_uniform_strength_costs_what_uniform_is_said_to_cost() -> None:
    pixels = photograph(60, 90)
    uniform = plan_picture(pixels, 180, 120, spec(), replace(SMALL, min_denoise=0.8)).cost
    varied = plan_picture(pixels, 180, 120, spec(), SMALL).cost
    assert uniform.megapixel_steps == uniform.uniform_megapixel_steps
    assert uniform.saving == 0
    assert varied.uniform_megapixel_steps == uniform.megapixel_steps
    assert 0.05 < varied.saving < 0.9
    assert varied.megapixel_steps == pytest.approx(varied.model_calls * 32 * 32 / 1e6)


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(1, 300),
    height=st.integers(1, 200),
    low=st.floats(0, 1),
    high=st.floats(0, 1),
    steps=st.integers(1, 12),
    sampler=st.sampled_from(sorted(SAMPLERS.keys() - {"dpm_adaptive"})),
    window=st.sampled_from([16, 32, 64]),
    overlap=st.sampled_from([0, 4, 8]),
)
def test_the_cost_never_exceeds_uniform_by_more_than_the_cover_allows(
    width: int,
    height: int,
    low: float,
    high: float,
    steps: int,
    sampler: str,
    window: int,
    overlap: int,
) -> None:
    low, high = sorted((low, high))
    chosen = replace(
        SMALL,
        min_denoise=low,
        max_denoise=high,
        steps=steps,
        sampler=sampler,
        window=window,
        overlap=overlap,
    )
    pixels = photograph(max(height // 2, 1), max(width // 2, 1))
    planned = plan_picture(pixels, width, height, spec(), chosen)
    cost = planned.cost
    assert (cost.model_calls == 0) == (planned.plan.strengths == ())
    # A cover of part of the canvas may take a window more in places than the regular one.
    assert cost.megapixel_steps <= cost.uniform_megapixel_steps * 1.5


def test_equal_strengths_and_too_few_steps_are_said() -> None:
    pixels = photograph(60, 90)
    same = plan_picture(pixels, 180, 120, spec(), replace(SMALL, min_denoise=0.8))
    assert "min-denoise equals max-denoise" in same.warnings[0]
    few = plan_picture(pixels, 180, 120, spec(), replace(SMALL, steps=2))
    assert "more strengths than 2 steps" in few.warnings[0]
    assert plan_picture(pixels, 180, 120, spec(), SMALL).warnings == ()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("sampler", "eular", "did you mean 'euler'"),
        ("scheduler", "karas", "did you mean 'karras'"),
        ("overlap", 32, "must be below the window"),
    ],
)
def test_what_cannot_be_is_refused(name: str, value: object, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        plan_picture(photograph(20, 20), 40, 40, spec(), replace(SMALL, **{name: value}))


@pytest.mark.parametrize(
    ("window", "multiple", "side"), [(None, 2, 16), (33, 2, 17), (33, 16, 24), (8, 16, 8)]
)
def test_a_window_is_rounded_up_to_what_the_network_takes(
    window: int | None, multiple: int, side: int
) -> None:
    model = replace(spec(), multiple=multiple)
    assert window_size(model, replace(SMALL, window=window, overlap=4)).side == side
