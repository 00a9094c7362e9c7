"""The table of samplers against k-diffusion itself."""

import inspect

import pytest
import torch
from torch import Tensor

from tests.doubles import gaussian_denoiser
from tileup.plan.samplers import SAMPLERS, Sampler
from tileup.sampling.kdiffusion import sample_function
from tileup.sampling.noise import noise_sampler
from tileup.sampling.steps import sample

ALL = pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=list(SAMPLERS))


@ALL
@pytest.mark.parametrize(
    "sigmas", [[1.0, 0.0], [1.0, 0.4], [1.0, 0.6, 0.3, 0.1], [1.0, 0.6, 0.3, 0.0]]
)
def test_evaluations_are_what_the_sampler_makes(sampler: Sampler, sigmas: list[float]) -> None:
    calls = 0

    def denoiser(x: Tensor, sigma: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return gaussian_denoiser(x, sigma)

    x = torch.ones(1, 1, 3, 3, dtype=torch.float64)
    noise = noise_sampler(sampler.noise, x, sigmas, 0)
    sample(sampler, denoiser, x, sigmas, noise=noise)
    assert calls == sampler.evaluations(len(sigmas) - 1, to_zero=sigmas[-1] == 0)


@ALL
def test_those_that_need_noise_take_a_noise_sampler(sampler: Sampler) -> None:
    takes = "noise_sampler" in inspect.signature(sample_function(sampler.name)).parameters
    assert takes == (sampler.noise in {"steps", "brownian"})
