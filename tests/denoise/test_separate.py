"""Modes `sigma` and `passes`: every strength on a canvas of its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.denoise.drafts import SIDE, draft_of, itinerary_of, plain
from tests.doubles import LEVELS, gaussian_denoiser, mixture_denoiser
from tileup.contracts import Denoiser
from tileup.denoise.draft import Draft
from tileup.denoise.rules import run
from tileup.denoise.strength import memberships
from tileup.plan.grid import Grid
from tileup.plan.samplers import SAMPLERS
from tileup.sampling.kdiffusion import NoiseSampler
from tileup.sampling.steps import sample

STRENGTHS = [0.2, 0.9, 0.55]
DENOISERS = pytest.mark.parametrize("denoiser", [gaussian_denoiser, mixture_denoiser])


def tile(x: Tensor, number: int) -> Tensor:
    return x[..., SIDE * number : SIDE * (number + 1)]


def contracted_run(draft: Draft, denoiser: Denoiser, c: float) -> Tensor:
    """A plain, untiled run of the sampler over c * sigmas, with the same noise in each step."""
    sigmas = [c * sigma for sigma in draft.itinerary.sigmas]
    inner = draft.step_noise

    def noise(sigma: Tensor, sigma_next: Tensor) -> Tensor:
        assert inner is not None
        return inner(sigma / c, sigma_next / c)

    def untiled(x: Tensor, sigma: Tensor) -> Tensor:
        return denoiser(x, sigma, ())

    given: NoiseSampler | None = noise if inner is not None else None
    return sample(
        draft.sampler, untiled, draft.noised(sigmas[0]), sigmas, seed=draft.seed, noise=given
    )


@DENOISERS
@pytest.mark.parametrize("name", sorted(SAMPLERS.keys() - {"dpm_adaptive"}))
def test_sigma_is_a_plain_run_over_contracted_noise_levels(name: str, denoiser: Denoiser) -> None:
    draft = draft_of(itinerary_of(STRENGTHS, mode="sigma"), SAMPLERS[name], denoiser)
    if draft.sampler.noise == "steps":  # its draws are keyed by the exact noise levels
        draft = _with_rounded_keys(draft)
    result = run("sigma", draft)
    top = LEVELS.sigma(np.array([0.9]))
    # k-diffusion's dpm_fast turns the two ends of the levels into float32.
    tolerance = 1e-5 if draft.sampler.call == "count" else 1e-9
    for number, strength in enumerate(STRENGTHS):
        c = float((LEVELS.sigma(np.array([strength])) / top)[0])
        expected = contracted_run(draft, denoiser, c)
        torch.testing.assert_close(
            tile(result, number), tile(expected, number), atol=tolerance, rtol=0
        )
    assert (tile(result, 0) - tile(result, 1)).abs().max() > 1e-2


def _with_rounded_keys(draft: Draft) -> Draft:
    from dataclasses import replace

    inner = draft.step_noise

    def noise(sigma: Tensor, sigma_next: Tensor) -> Tensor:
        assert inner is not None
        keys = [torch.tensor(float(f"{float(each):.5g}")) for each in (sigma, sigma_next)]
        return inner(*keys)

    return replace(draft, step_noise=noise)


@DENOISERS
@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_every_tile_of_passes_is_a_plain_run(name: str, denoiser: Denoiser) -> None:
    draft = draft_of(itinerary_of(STRENGTHS, mode="passes"), SAMPLERS[name], denoiser)
    result = run("passes", draft)
    for number, strength in enumerate(STRENGTHS):
        expected = plain(draft, denoiser, strength)
        torch.testing.assert_close(tile(result, number), tile(expected, number), atol=1e-10, rtol=0)


@pytest.mark.parametrize("mode", ["sigma", "passes"])
def test_finished_canvases_are_feathered_together(mode: str) -> None:
    """A denoiser that answers with its canvas's strength shows the shares themselves."""
    draft = draft_of(
        itinerary_of([0.8, 0.4, 0.0, 0.8], mode=mode, margin=4), SAMPLERS["euler"], mixture_denoiser
    )
    result = run(mode, draft)
    assert torch.equal(tile(result, 2), tile(draft.source, 2)), "a kept tile stays"
    alone = run(
        mode, draft_of(itinerary_of([0.8] * 4, mode=mode), SAMPLERS["euler"], mixture_denoiser)
    )
    inside = result[..., : SIDE - 4]
    torch.testing.assert_close(inside, alone[..., : SIDE - 4], atol=1e-10, rtol=0)


def test_shares_sum_to_one_on_working_cells() -> None:
    rng = np.random.default_rng(0)
    strengths = rng.choice([0.0, 0.2, 0.5, 0.8], (6, 7)).repeat(5, 0).repeat(5, 1)
    shares = memberships(Grid.of(strengths), [0.8, 0.5, 0.2], 3)
    total = np.sum(shares, axis=0)
    np.testing.assert_allclose(total[strengths > 0], 1)
    assert (total[strengths == 0] == 0).all()
    for level, share in zip([0.8, 0.5, 0.2], shares, strict=True):
        assert (share[strengths == level] > 0.3).all(), "a cell belongs to its own level most"
    assert any(((share > 0) & (share < 1)).any() for share in shares)


def test_without_margin_every_cell_is_of_its_own_strength_alone() -> None:
    strengths = np.array([[0.8, 0.2, 0.0]])
    shares = memberships(Grid.of(strengths), [0.8, 0.2], 0)
    np.testing.assert_array_equal(shares, [[[1, 0, 0]], [[0, 1, 0]]])
