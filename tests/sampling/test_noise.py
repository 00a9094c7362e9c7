"""Randomness depends on the seed and the place of use, and on nothing else."""

import pytest
import torch

from tests.doubles import gaussian_denoiser
from tileup.plan.samplers import SAMPLERS
from tileup.sampling.kdiffusion import sample_function
from tileup.sampling.noise import (
    BrownianNoise,
    SeededRandnLike,
    StepNoise,
    canvas_noise,
    noise_sampler,
)
from tileup.sampling.steps import sample


def test_canvas_noise_of_the_picture_does_not_depend_on_the_padding() -> None:
    small = canvas_noise(torch.zeros(1, 4, 9, 7), 9, 7, seed=3)
    padded = canvas_noise(torch.zeros(1, 4, 32, 16), 9, 7, seed=3)
    assert torch.equal(small, padded[..., :9, :7])
    assert padded[..., 9:, :].std() > 0.8, "the padding is noise too"
    assert not torch.equal(small, canvas_noise(small, 9, 7, seed=4))


def test_canvas_noise_is_standard_normal() -> None:
    noise = canvas_noise(torch.zeros(1, 4, 200, 200), 200, 200, seed=0)
    assert abs(float(noise.mean())) < 0.01
    assert abs(float(noise.std()) - 1) < 0.01


def test_step_noise_is_a_function_of_the_step() -> None:
    noise = StepNoise(torch.zeros(1, 2, 5, 5), seed=1)
    a, b = torch.tensor(1.0), torch.tensor(0.5)
    first = noise(a, b)
    assert torch.equal(first, noise(a, b))
    assert not torch.equal(first, noise(b, a))
    assert not torch.equal(first, StepNoise(torch.zeros(1, 2, 5, 5), seed=2)(a, b))


def test_brownian_increments_add_up() -> None:
    noise = BrownianNoise(torch.zeros(1, 1, 4, 4, dtype=torch.float64), [2.0, 1.0, 0.5, 0.0], 0)
    high, middle, low = (torch.tensor(each, dtype=torch.float64) for each in (2.0, 1.0, 0.5))
    parts = noise(high, middle) * 1.0**0.5 + noise(middle, low) * 0.5**0.5
    torch.testing.assert_close(noise(high, low) * 1.5**0.5, parts)
    assert parts.std() > 0.3


def test_randn_like_is_seeded_by_step_and_then_free_again() -> None:
    x = torch.zeros(3, 3)
    with SeededRandnLike(seed=5, first=0):
        first, second = torch.randn_like(x), torch.randn_like(x)
        assert torch.equal(x + 1, torch.ones(3, 3)), "everything else works as ever"
    with SeededRandnLike(seed=5, first=1):
        assert torch.equal(torch.randn_like(x), second)
    assert not torch.equal(first, second)
    torch.manual_seed(0)
    free = torch.randn_like(x)
    torch.manual_seed(0)
    assert torch.equal(free, torch.randn(3, 3))


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=list(SAMPLERS))
def test_no_sampler_touches_the_global_generator(sampler) -> None:  # noqa: ANN001
    sigmas = [1.0, 0.5, 0.2, 0.0]
    x = torch.ones(1, 1, 4, 4, dtype=torch.float64)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    results = []
    for _ in range(2):
        noise = noise_sampler(sampler.noise, x, sigmas, seed=9)
        results.append(sample(sampler, gaussian_denoiser, x, sigmas, seed=9, noise=noise))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(*results)


@pytest.mark.parametrize("name", ["euler", "heun", "dpm_2"])
def test_draws_that_are_left_out_are_those_that_are_not_used(name: str) -> None:
    x, sigmas = torch.randn(1, 3, 4, 5), torch.tensor([0.8, 0.4, 0.1])

    def drawn(*, used: bool, churn: float) -> torch.Tensor:
        with SeededRandnLike(seed=5, first=0, used=used):
            function = sample_function(name)
            return function(lambda x, sigma: x * 0.5, x, sigmas, disable=True, s_churn=churn)

    assert torch.equal(drawn(used=False, churn=0.0), drawn(used=True, churn=0.0))
    assert not torch.equal(drawn(used=True, churn=0.4), drawn(used=True, churn=0.0))
