"""The table of samplers against k-diffusion itself."""

import inspect

import pytest
import torch
from torch import Tensor

from tests.doubles import gaussian_denoiser
from tileup.plan.samplers import SAMPLERS, Sampler
from tileup.sampling import kdiffusion
from tileup.sampling.kdiffusion import sample_function
from tileup.sampling.noise import noise_sampler
from tileup.sampling.steps import sample

KNOWN = [sampler for sampler in SAMPLERS.values() if sampler.call != "tolerance"]
"""Samplers whose cost is known before they run."""
ALL = pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=list(SAMPLERS))


@pytest.mark.parametrize("sampler", KNOWN, ids=[sampler.name for sampler in KNOWN])
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
def test_what_a_sampler_takes_is_what_it_is_given(sampler: Sampler) -> None:
    function = sample_function(sampler.name)
    takes = inspect.signature(function).parameters
    assert ("noise_sampler" in takes) == (sampler.noise in {"steps", "brownian"})
    assert sampler.options == {"eta", "s_noise", "s_churn"} & takes.keys()
    assert ("sigmas" in takes) == (sampler.call == "levels")
    assert ("n" in takes) == (sampler.call == "count")


def test_every_sampler_of_k_diffusion_is_there() -> None:
    found = {name for name in dir(kdiffusion._sampling()) if name.startswith("sample_")}
    assert {f"sample_{name}" for name in SAMPLERS} == found
    assert len(found) == 13
