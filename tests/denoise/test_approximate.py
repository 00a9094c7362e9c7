"""Modes `blend` and `scale`: the published formulas to the digit, and what is wrong with them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.denoise.drafts import SIDE, draft_of, itinerary_of
from tests.doubles import MEAN, STD, gaussian_denoiser
from tileup.denoise.approximate import factor, neutral
from tileup.denoise.draft import Ramp
from tileup.denoise.rules import run
from tileup.plan.samplers import SAMPLERS


def tile(x: Tensor, number: int) -> Tensor:
    return x[..., SIDE * number : SIDE * (number + 1)]


@pytest.mark.parametrize("strength", [0.0, 0.2, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("step", range(9))
@pytest.mark.parametrize("ramp", [0.5, 1.0, 2.0])
def test_the_factor_is_the_published_formula(strength: float, step: int, ramp: float) -> None:
    """Written out in plain numbers from facts about the lineage: k0, curve, and their mix."""
    progress = step / 8
    k0 = min(1.0, 0.70 + 0.25 * strength)
    expected = k0 + (1 - k0) * min(1.0, progress ** (1 / (ramp * (1 + strength))))
    k = factor(torch.tensor([strength], dtype=torch.float64), progress, Ramp(0.70, 0.25, ramp))
    assert float(k) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("sigma", [0.02, 0.5, 3.0, 14.6])
@pytest.mark.parametrize("k", [0.7, 0.9, 1.0])
def test_scaling_the_prediction_is_the_same_in_terms_of_x0(sigma: float, k: float) -> None:
    """The network's own output times k, for each prediction type, turned into x0 directly."""
    generator = torch.Generator().manual_seed(0)
    x, output = torch.randn(2, 50, generator=generator, dtype=torch.float64)
    s = sigma / (1 + sigma)
    to_x0 = {
        "eps": lambda m: x - sigma * m,
        "v": lambda m: x / (sigma**2 + 1) - m * sigma / (sigma**2 + 1) ** 0.5,
        "flow": lambda m: (1 - s) * x - s * m,
    }
    for prediction, convert in to_x0.items():
        expected = convert(k * output)
        ours = k * convert(output) + (1 - k) * neutral(prediction, sigma) * x
        torch.testing.assert_close(ours, expected, atol=1e-12, rtol=1e-12)


def published_run(draft, strength: float) -> Tensor:  # noqa: ANN001
    """Euler over eps times k, in the plainest words."""
    sigmas = draft.itinerary.sigmas
    steps = len(sigmas) - 1
    x = draft.source + sigmas[0] * draft.noise
    for step in range(steps):
        level = torch.tensor([sigmas[step]], dtype=x.dtype)
        eps = (x - gaussian_denoiser(x, level)) / level
        k0 = 0.70 + 0.25 * strength
        k = k0 + (1 - k0) * min(1.0, (step / steps) ** (1 / (1 + strength)))
        x = x + k * eps * (sigmas[step + 1] - sigmas[step])
    return x


def test_scale_is_the_published_run() -> None:
    strengths = [0.2, 0.8]
    draft = draft_of(itinerary_of(strengths, mode="scale"), SAMPLERS["euler"], gaussian_denoiser)
    result = run("scale", draft)
    for number, strength in enumerate(strengths):
        expected = published_run(draft, strength)
        torch.testing.assert_close(tile(result, number), tile(expected, number), atol=1e-10, rtol=0)


def test_scale_leaves_noise_behind_and_does_not_keep_the_picture() -> None:
    """What is wrong with it, so that nobody mends it back into a denoise strength.

    A flat source at the mean of the prior: a weak img2img run brings it back almost exactly.
    """
    strengths = [0.1, 0.9]
    found: dict[str, Tensor] = {}
    for mode in ("schedule", "scale"):
        draft = draft_of(
            itinerary_of(strengths, mode=mode, steps=20), SAMPLERS["euler"], gaussian_denoiser
        )
        flat = replace(draft, source=torch.full_like(draft.source, MEAN))
        found[mode] = tile(run(mode, flat), 0) - MEAN
    assert found["schedule"].std() < 0.1, "a weak tile keeps its flat source"
    assert found["scale"].std() > 3 * found["schedule"].std()
    assert found["scale"].std() > 0.8 * STD, "as much noise as if the tile were redrawn"


def test_blend_is_its_formula() -> None:
    strengths = [0.3, 0.8]
    draft = draft_of(itinerary_of(strengths, mode="blend"), SAMPLERS["euler"], gaussian_denoiser)
    result = run("blend", draft)
    sigmas = draft.itinerary.sigmas
    for number, strength in enumerate(strengths):
        x = draft.source + sigmas[0] * draft.noise
        for step in range(8):
            share = strength + (1 - strength) * step / 8
            x0 = gaussian_denoiser(x, torch.tensor([sigmas[step]], dtype=x.dtype))
            x0 = draft.source + share * (x0 - draft.source)
            x = x0 + sigmas[step + 1] / sigmas[step] * (x - x0)
        torch.testing.assert_close(tile(result, number), tile(x, number), atol=1e-10, rtol=0)


@pytest.mark.parametrize("mode", ["blend", "scale"])
@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_every_sampler_runs_and_kept_tiles_stay(mode: str, name: str) -> None:
    itinerary = itinerary_of([0.8, 0.0, 0.3], mode=mode, margin=3)
    draft = draft_of(itinerary, SAMPLERS[name], gaussian_denoiser)
    result = run(mode, draft)
    assert result.isfinite().all()
    assert torch.equal(tile(result, 1), tile(draft.source, 1))
    assert (tile(result - draft.source, 0)).abs().max() > 0.1


def test_scale_weighs_the_noise_of_the_noise_sampler_too() -> None:
    """With a denoiser that answers x itself nothing moves but the sampler's own noise."""
    itinerary = itinerary_of([0.2, 0.8], mode="scale", steps=3)
    draft = draft_of(itinerary, SAMPLERS["euler_ancestral"], lambda x, sigma, windows: x)
    drawn: list[Tensor] = []

    def noise(sigma: Tensor, sigma_next: Tensor) -> Tensor:
        drawn.append(torch.ones_like(draft.source))
        return drawn[-1]

    result = run("scale", replace(draft, step_noise=noise)) - draft.noised(itinerary.sigmas[0])
    expected = []
    for strength in (0.2, 0.8):
        total = 0.0
        for step in range(2):
            high, low = itinerary.sigmas[step : step + 2]
            sigma_up = (low**2 * (high**2 - low**2) / high**2) ** 0.5
            k = factor(torch.tensor([strength], dtype=torch.float64), step / 3, Ramp())
            total += float(k) * min(low, sigma_up)
        expected.append(total)
    assert len(drawn) == 2
    for number in (0, 1):
        torch.testing.assert_close(
            tile(result, number).mean().item(), expected[number], atol=1e-9, rtol=0
        )
    assert expected[0] != pytest.approx(expected[1])
