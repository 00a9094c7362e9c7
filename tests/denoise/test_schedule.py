"""Per-tile denoise is real: each tile equals the plain img2img run of its own strength.

Shown with a denoiser that works cell by cell, in float64, with cells whose weight is 1 on their
tile and 0 before it starts (margin 0), on the same noise levels and with the same randomness.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.denoise.drafts import SIDE, draft_of, itinerary_of, plain
from tests.doubles import gaussian_denoiser, mixture_denoiser
from tests.sampling.test_prediction import flow_network, v_network
from tileup.denoise.rules import run
from tileup.plan.noise_levels import FlowLevels
from tileup.plan.samplers import SAMPLERS
from tileup.plan.schedules import SCHEDULERS
from tileup.sampling.prediction import flow_denoiser, v_denoiser
from tileup.sampling.steps import SamplerOptions, sample


def v_double(x: Tensor, sigma: Tensor, windows: object) -> Tensor:
    return v_denoiser(v_network)(x, sigma)


def flow_double(x: Tensor, sigma: Tensor, windows: object) -> Tensor:
    return flow_denoiser(flow_network)(x, sigma)


EXACT = [name for name, sampler in SAMPLERS.items() if sampler.resumes]
"""Samplers with which every tile is exact: all but lms, dpm_fast and dpm_adaptive."""
DENOISERS = pytest.mark.parametrize("denoiser", [gaussian_denoiser, mixture_denoiser])


def tile(x: Tensor, number: int) -> Tensor:
    return x[..., SIDE * number : SIDE * (number + 1)]


MIXES = list(
    itertools.product(
        [[0.8, 0.3], [0.2, 0.9, 0.55], [0.8, 0.6, 0.4, 0.2]], [gaussian_denoiser, mixture_denoiser]
    )
)
CASES = [
    (name, scheduler, *MIXES[(row + column) % len(MIXES)])
    for row, name in enumerate(EXACT)
    for column, scheduler in enumerate(sorted(SCHEDULERS))
]
"""Every sampler with every scheduler, and each of both with all mixes in turn."""


@pytest.mark.parametrize(("name", "scheduler", "strengths", "denoiser"), CASES)
def test_every_tile_equals_a_plain_run_of_its_own_strength(
    name: str,
    scheduler: str,
    strengths: list[float],
    denoiser,  # noqa: ANN001
) -> None:
    draft = draft_of(itinerary_of(strengths, scheduler), SAMPLERS[name], denoiser)
    result = run("schedule", draft)
    runs = [plain(draft, denoiser, each) for each in strengths]
    for number, expected in enumerate(runs):
        torch.testing.assert_close(tile(result, number), tile(expected, number), atol=1e-10, rtol=0)
        others = [float((tile(other - expected, number)).abs().max()) for other in runs]
        assert max(others) > 1e-3, "runs of other strengths give something else"


def test_each_sampler_and_each_scheduler_meets_every_mix() -> None:
    for place in (0, 1):
        for value in {case[place] for case in CASES}:
            met = [case[2:] for case in CASES if case[place] == value]
            assert all(mix in met for mix in MIXES), value


@pytest.mark.parametrize("name", EXACT)
def test_tiles_are_exact_when_none_has_the_strength_that_the_schedule_starts_from(
    name: str,
) -> None:
    itinerary = itinerary_of([0.5, 0.2, 0.35], strongest=0.9)
    draft = draft_of(itinerary, SAMPLERS[name], mixture_denoiser)
    result = run("schedule", draft)
    for number, strength in enumerate([0.5, 0.2, 0.35]):
        expected = plain(draft, mixture_denoiser, strength)
        torch.testing.assert_close(tile(result, number), tile(expected, number), atol=1e-10, rtol=0)


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("denoiser", [v_double, flow_double])
def test_tiles_are_exact_for_other_predictions_too(name: str, denoiser) -> None:  # noqa: ANN001
    """v and flow networks, brought into variance-exploding terms; flow up to noise level 27."""
    strengths = [0.9, 0.25, 0.6]
    itinerary = itinerary_of(strengths, levels=FlowLevels(3.0))
    assert itinerary.sigmas[0] > 20
    draft = draft_of(itinerary, SAMPLERS[name], denoiser)
    result = run("schedule", draft)
    for number, strength in enumerate(strengths):
        expected = plain(draft, gaussian_denoiser, strength)
        torch.testing.assert_close(tile(result, number), tile(expected, number), atol=1e-9, rtol=0)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("euler", SamplerOptions(s_churn=2.0)),
        ("heun", SamplerOptions(s_churn=2.0, s_noise=1.1)),
        ("dpm_2", SamplerOptions(s_churn=1.0)),
        ("euler_ancestral", SamplerOptions(eta=0.5)),
        ("dpmpp_2m_sde", SamplerOptions(eta=0.7, s_noise=0.9)),
        ("dpmpp_3m_sde", SamplerOptions(eta=0.3)),
    ],
)
def test_tiles_are_exact_with_churn_and_less_noise(name: str, options: SamplerOptions) -> None:
    """k-diffusion spreads s_churn over the steps of a call, so every phase gets its share."""
    itinerary = itinerary_of([0.8, 0.3, 0.5])
    plain_job = draft_of(itinerary, SAMPLERS[name], gaussian_denoiser)
    draft = replace(plain_job, options=options)
    result = run("schedule", draft)
    for number, strength in enumerate([0.8, 0.3, 0.5]):
        expected = plain(draft, gaussian_denoiser, strength)
        torch.testing.assert_close(tile(result, number), tile(expected, number), atol=1e-10, rtol=0)
    assert (result - run("schedule", plain_job)).abs().max() > 1e-3, "the options do something"


@pytest.mark.parametrize("name", ["euler", "heun", "dpm_2"])
def test_the_last_step_churns_where_it_is_a_phase_of_its_own(name: str) -> None:
    """A single step to 0 is x0 for samplers that do not churn alone."""
    strengths = [0.8, 0.1]
    itinerary = itinerary_of(strengths)
    assert itinerary.phases[-1].steps == 1
    draft = replace(
        draft_of(itinerary, SAMPLERS[name], gaussian_denoiser), options=SamplerOptions(s_churn=2.0)
    )
    result = run("schedule", draft)
    for number, strength in enumerate(strengths):
        expected = plain(draft, gaussian_denoiser, strength)
        torch.testing.assert_close(tile(result, number), tile(expected, number), atol=1e-10, rtol=0)


@pytest.mark.parametrize("name", SAMPLERS)
def test_one_step_to_zero_is_x0_unless_the_sampler_churns(name: str) -> None:
    draft = draft_of(itinerary_of([0.8]), SAMPLERS[name], gaussian_denoiser)
    x = draft.noised(2.0)

    def ended(options: SamplerOptions) -> Tensor:
        return sample(
            draft.sampler, gaussian_denoiser, x, (2.0, 0.0), of=8, seed=3, noise=draft.step_noise,
            options=options,
        )  # fmt: skip

    x0 = gaussian_denoiser(x, x.new_tensor([2.0]))
    assert torch.equal(ended(SamplerOptions()), x0)
    assert torch.equal(ended(SamplerOptions(s_churn=2.0)), x0) == (SAMPLERS[name].noise != "churn")


@pytest.mark.parametrize(("name", "typical"), [("lms", 0.1), ("dpm_fast", 0.3)])
def test_samplers_that_begin_anew_are_no_more_than_near(name: str, typical: float) -> None:
    """What docs/per-tile-denoise.md says of them: they deviate, up to 0.4 and 1.1 of these."""
    worst = 0.0
    for scheduler, (strengths, denoiser) in itertools.product(
        ("sgm_uniform", "kl_optimal", "laplace", "beta"), MIXES
    ):
        draft = draft_of(itinerary_of(strengths, scheduler), SAMPLERS[name], denoiser)
        result = run("schedule", draft)
        for number, strength in enumerate(strengths):
            error = tile(result, number) - tile(plain(draft, denoiser, strength), number)
            worst = max(worst, float(error.abs().max()))
    assert typical < worst < {"lms": 0.4, "dpm_fast": 1.1}[name]


@DENOISERS
@pytest.mark.parametrize("name", ["lms", "dpm_fast"])
def test_the_tile_that_starts_last_is_exact_with_every_sampler(name: str, denoiser) -> None:  # noqa: ANN001
    draft = draft_of(itinerary_of([0.8, 0.3]), SAMPLERS[name], denoiser)
    result = run("schedule", draft)
    expected = plain(draft, denoiser, 0.3)
    torch.testing.assert_close(tile(result, 1), tile(expected, 1), atol=1e-10, rtol=0)
    # The earlier tile loses its history at the second start: near, not equal.
    early = plain(draft, denoiser, 0.8)
    distance = (tile(result, 0) - tile(early, 0)).abs().max()
    assert distance < 0.5
    assert distance > 1e-6 or denoiser is mixture_denoiser, "which ends on exactly 1 or -1"


@DENOISERS
@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_a_uniform_strength_is_plain_img2img(name: str, denoiser) -> None:  # noqa: ANN001
    draft = draft_of(itinerary_of([0.6, 0.6, 0.6]), SAMPLERS[name], denoiser)
    torch.testing.assert_close(
        run("schedule", draft), plain(draft, denoiser, 0.6), atol=1e-12, rtol=0
    )


@pytest.mark.parametrize("name", sorted(SAMPLERS.keys() - {"dpm_adaptive"}))
def test_a_tile_of_strength_zero_keeps_its_source_exactly(name: str) -> None:
    draft = draft_of(itinerary_of([0.8, 0.0, 0.3], margin=3), SAMPLERS[name], mixture_denoiser)
    result = run("schedule", draft)
    assert torch.equal(tile(result, 1), tile(draft.source, 1))
    assert (tile(result - draft.source, 0)).abs().max() > 0.1


def test_without_any_strength_nothing_is_evaluated() -> None:
    def never(x: Tensor, sigma: Tensor, windows: object) -> Tensor:
        raise AssertionError("a kept canvas needs no model")

    draft = draft_of(itinerary_of([0.0, 0.0]), SAMPLERS["euler"], never)
    assert torch.equal(run("schedule", draft), draft.source)


def test_a_held_tile_rides_on_its_noised_source() -> None:
    """The reason why it works: told x0 = source, the sampler keeps x at source + sigma * noise."""
    draft = draft_of(itinerary_of([0.8, 0.2]), SAMPLERS["euler"], gaussian_denoiser)
    seen: list[float] = []

    def watched(phases, order: int):  # noqa: ANN001, ANN202
        def denoiser(x: Tensor, sigma: Tensor) -> Tensor:
            if 0.2 not in phases[0].strengths:
                held = tile(x - (draft.source + sigma * draft.noise), 1)
                seen.append(float(held.abs().max()))
            return gaussian_denoiser(x, sigma)

        return denoiser

    run("schedule", replace(draft, denoisers=watched))
    assert len(seen) == 6
    assert max(seen) < 1e-12


@pytest.mark.parametrize("name", ["euler", "dpmpp_2m", "dpmpp_3m_sde"])
def test_strengths_fade_between_tiles_and_stay_exact_far_from_the_border(name: str) -> None:
    draft = draft_of(itinerary_of([0.8, 0.3], margin=4), SAMPLERS[name], mixture_denoiser)
    result = run("schedule", draft)
    strong, weak = (plain(draft, mixture_denoiser, strength) for strength in (0.8, 0.3))
    torch.testing.assert_close(tile(result, 0), tile(strong, 0), atol=1e-10, rtol=0)
    torch.testing.assert_close(result[..., SIDE + 4 :], weak[..., SIDE + 4 :], atol=1e-10, rtol=0)
    between = (result - weak)[..., SIDE : SIDE + 4].abs().amax(dim=(0, 1, 2))
    assert (between > 1e-6).any(), "the strong tile fades into the weak one"


def test_the_picture_does_not_depend_on_the_order_of_tiles() -> None:
    forward = draft_of(itinerary_of([0.8, 0.3]), SAMPLERS["euler"], mixture_denoiser)
    backward = replace(
        forward,
        itinerary=itinerary_of([0.3, 0.8]),
        source=forward.source.roll(SIDE, -1),
        noise=forward.noise.roll(SIDE, -1),
    )
    one, other = run("schedule", forward), run("schedule", backward)
    torch.testing.assert_close(one, other.roll(SIDE, -1), atol=1e-12, rtol=0)
    assert np.isfinite(one.numpy()).all()
