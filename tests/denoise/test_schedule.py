"""Per-tile denoise is real: each tile equals the plain img2img run of its own strength.

Shown with a denoiser that works cell by cell, in float64, with cells whose weight is 1 on their
tile and 0 before it starts (margin 0), on the same noise levels and with the same randomness.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.doubles import LEVELS, gaussian_denoiser, mixture_denoiser
from tests.plan.test_phases import stripes
from tileup.denoise.schedule import Start, run_schedule
from tileup.plan.phases import Itinerary, Phase, make_itinerary
from tileup.plan.samplers import SAMPLERS, Sampler
from tileup.plan.schedules import SCHEDULERS, make_schedule
from tileup.sampling.noise import canvas_noise, noise_sampler
from tileup.sampling.steps import sample
from tileup.tiling.tiled import TiledDenoiser
from tileup.tiling.weights import window_weight

SIDE = 16
SINGLE_STEP = [name for name, sampler in SAMPLERS.items() if not sampler.multistep]
DENOISERS = pytest.mark.parametrize("denoiser", [gaussian_denoiser, mixture_denoiser])


def itinerary_of(
    strengths: list[float], scheduler: str = "sgm_uniform", steps: int = 8, margin: int = 0
) -> Itinerary:
    plan = stripes(strengths, SIDE)
    schedule = make_schedule(LEVELS, SCHEDULERS[scheduler], steps, plan.strengths)
    return make_itinerary(plan, schedule, window=SIDE, margin=margin)


def start_of(itinerary: Itinerary, sampler: Sampler, seed: int = 7) -> Start:
    generator = torch.Generator().manual_seed(1)
    source = torch.rand(
        1, 2, itinerary.layout.rows, itinerary.layout.columns, generator=generator
    ).double()
    noise = canvas_noise(source, *source.shape[-2:], seed=seed)
    return Start(source, noise, seed, noise_sampler(sampler.noise, source, itinerary.sigmas, seed))


def per_tile(itinerary: Itinerary, sampler: Sampler, start: Start, denoiser) -> Tensor:  # noqa: ANN001
    def phase_denoiser(phase: Phase) -> TiledDenoiser:
        raw = window_weight("feather", SIDE, SIDE, 0)
        layout = itinerary.layout
        return TiledDenoiser(
            denoiser, phase.windows, raw, height=layout.rows, width=layout.columns, batch=2
        )

    return run_schedule(itinerary, sampler, phase_denoiser, start)


def plain(
    itinerary: Itinerary, sampler: Sampler, start: Start, denoiser, strength: float
) -> Tensor:  # noqa: ANN001
    """An untiled img2img run of one strength on the same noise levels: what everybody does."""
    first = itinerary.schedule.starts[strength]
    sigmas = itinerary.sigmas[first:]
    x = start.source + sigmas[0] * start.noise
    return sample(
        sampler, denoiser, x, sigmas, first=first, seed=start.seed, noise=start.step_noise
    )


def tile(x: Tensor, number: int) -> Tensor:
    return x[..., SIDE * number : SIDE * (number + 1)]


@DENOISERS
@pytest.mark.parametrize("scheduler", sorted(SCHEDULERS))
@pytest.mark.parametrize("name", SINGLE_STEP)
@pytest.mark.parametrize("strengths", [[0.8, 0.3], [0.2, 0.9, 0.55], [0.8, 0.6, 0.4, 0.2]])
def test_every_tile_equals_a_plain_run_of_its_own_strength(
    name: str,
    scheduler: str,
    strengths: list[float],
    denoiser,  # noqa: ANN001
) -> None:
    sampler = SAMPLERS[name]
    itinerary = itinerary_of(strengths, scheduler)
    start = start_of(itinerary, sampler)
    result = per_tile(itinerary, sampler, start, denoiser)
    for number, strength in enumerate(strengths):
        expected = plain(itinerary, sampler, start, denoiser, strength)
        torch.testing.assert_close(tile(result, number), tile(expected, number), atol=1e-10, rtol=0)
        others = [plain(itinerary, sampler, start, denoiser, each) for each in strengths]
        assert (
            max(float((tile(other - expected, number)).abs().max()) for other in others) > 1e-3
        ), "runs of other strengths give something else"


@DENOISERS
@pytest.mark.parametrize("name", sorted(SAMPLERS.keys() - set(SINGLE_STEP)))
def test_the_tile_that_starts_last_is_exact_for_multistep_samplers_too(
    name: str,
    denoiser,  # noqa: ANN001
) -> None:
    sampler = SAMPLERS[name]
    itinerary = itinerary_of([0.8, 0.3])
    start = start_of(itinerary, sampler)
    result = per_tile(itinerary, sampler, start, denoiser)
    expected = plain(itinerary, sampler, start, denoiser, 0.3)
    torch.testing.assert_close(tile(result, 1), tile(expected, 1), atol=1e-10, rtol=0)
    # The earlier tile has lost its history at the second start: near, not equal.
    early = plain(itinerary, sampler, start, denoiser, 0.8)
    assert (tile(result, 0) - tile(early, 0)).abs().max() < 0.5


@DENOISERS
@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_a_uniform_strength_is_plain_img2img(name: str, denoiser) -> None:  # noqa: ANN001
    sampler = SAMPLERS[name]
    itinerary = itinerary_of([0.6, 0.6, 0.6])
    start = start_of(itinerary, sampler)
    result = per_tile(itinerary, sampler, start, denoiser)
    expected = plain(itinerary, sampler, start, denoiser, 0.6)
    torch.testing.assert_close(result, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_a_tile_of_strength_zero_keeps_its_source_exactly(name: str) -> None:
    sampler = SAMPLERS[name]
    itinerary = itinerary_of([0.8, 0.0, 0.3], margin=3)
    start = start_of(itinerary, sampler)
    result = per_tile(itinerary, sampler, start, mixture_denoiser)
    assert torch.equal(tile(result, 1), tile(start.source, 1))
    assert (tile(result - start.source, 0)).abs().max() > 0.1


def test_without_any_strength_nothing_is_evaluated() -> None:
    def never(x: Tensor, sigma: Tensor, windows: object) -> Tensor:
        raise AssertionError("a kept canvas needs no model")

    itinerary = itinerary_of([0.0, 0.0])
    source = torch.rand(1, 2, SIDE, 2 * SIDE)
    start = Start(source, torch.zeros_like(source), 0, None)
    assert torch.equal(per_tile(itinerary, SAMPLERS["euler"], start, never), source)


def test_a_held_tile_rides_on_its_noised_source() -> None:
    """The reason why it works: told x0 = source, the sampler keeps x at source + sigma * noise."""
    itinerary = itinerary_of([0.8, 0.2])
    start = start_of(itinerary, SAMPLERS["euler"])
    seen: list[tuple[float, float]] = []

    def watching(x: Tensor, sigma: Tensor, windows: object) -> Tensor:
        return gaussian_denoiser(x, sigma)

    def watched_phase(phase: Phase):  # noqa: ANN202
        def denoiser(x: Tensor, sigma: Tensor) -> Tensor:
            held = tile(x - (start.source + sigma * start.noise), 1)
            if 0.2 not in phase.strengths:
                seen.append((float(sigma), float(held.abs().max())))
            return watching(x, sigma, ())

        return denoiser

    run_schedule(itinerary, SAMPLERS["euler"], watched_phase, start)
    assert len(seen) == 6
    assert max(distance for _, distance in seen) < 1e-12


def test_strengths_fade_between_tiles_and_stay_exact_far_from_the_border() -> None:
    sampler = SAMPLERS["euler"]
    itinerary = itinerary_of([0.8, 0.3], margin=4)
    start = start_of(itinerary, sampler)
    result = per_tile(itinerary, sampler, start, mixture_denoiser)
    strong, weak = (
        plain(itinerary, sampler, start, mixture_denoiser, strength) for strength in (0.8, 0.3)
    )
    torch.testing.assert_close(tile(result, 0), tile(strong, 0), atol=1e-10, rtol=0)
    torch.testing.assert_close(result[..., SIDE + 4 :], weak[..., SIDE + 4 :], atol=1e-10, rtol=0)
    between = (result - weak)[..., SIDE : SIDE + 4].abs().amax(dim=(0, 1, 2))
    assert (between > 1e-6).any(), "the strong tile fades into the weak one"


def test_the_picture_does_not_depend_on_the_order_of_tiles() -> None:
    sampler = SAMPLERS["euler_ancestral"]
    forward, backward = itinerary_of([0.8, 0.3]), itinerary_of([0.3, 0.8])
    start = start_of(forward, sampler)
    swapped = replace(
        start, source=start.source.roll(SIDE, -1), noise=start.noise.roll(SIDE, -1), step_noise=None
    )
    plain_start = replace(start, step_noise=None)
    euler = SAMPLERS["euler"]
    one = per_tile(forward, euler, plain_start, mixture_denoiser)
    other = per_tile(backward, euler, swapped, mixture_denoiser)
    torch.testing.assert_close(one, other.roll(SIDE, -1), atol=1e-12, rtol=0)
    assert np.isfinite(one.numpy()).all()
