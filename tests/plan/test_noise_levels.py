"""Strength to noise level and back."""

from dataclasses import replace

import numpy as np
import pytest

from tileup.contracts import ModelSpec
from tileup.plan.noise_levels import (
    FlowLevels,
    Growth,
    TableLevels,
    WindowFlowLevels,
    fitted,
    training_levels,
)

GEOMETRIC = TableLevels((0.0, 1.0), (0.008, 0.7))


def test_two_rows_are_a_geometric_progression() -> None:
    strengths = np.linspace(0, 1, 11)
    expected = 0.008 * (0.7 / 0.008) ** strengths
    np.testing.assert_allclose(GEOMETRIC.sigma(strengths), expected, rtol=1e-12)


def test_denoise_is_the_inverse_of_sigma() -> None:
    levels = TableLevels((0.0, 0.3, 1.0), (0.03, 0.5, 14.6))
    strengths = np.linspace(0, 1, 101)
    np.testing.assert_allclose(levels.denoise(levels.sigma(strengths)), strengths, atol=1e-12)
    np.testing.assert_array_equal(levels.denoise(np.array([1e-6, 99.0])), [0.0, 1.0])


@pytest.mark.parametrize(
    ("times", "sigmas"),
    [
        ((0.0,), (1.0,)),
        ((0.0, 1.0), (1.0,)),
        ((0.1, 1.0), (1.0, 2.0)),
        ((0.0, 0.9), (1.0, 2.0)),
        ((0.0, 1.0), (0.0, 2.0)),
        ((0.0, 1.0), (2.0, 1.0)),
        ((0.0, 0.5, 0.5, 1.0), (1.0, 2.0, 3.0, 4.0)),
        ((0.0, 1.0), (1.0, float("inf"))),
    ],
)
def test_a_table_that_is_none_is_refused(
    times: tuple[float, ...], sigmas: tuple[float, ...]
) -> None:
    with pytest.raises(ValueError, match="noise table"):
        TableLevels(times, sigmas)


def test_the_training_table_of_stable_diffusion() -> None:
    levels = training_levels()
    assert levels.sigma_min == pytest.approx(0.02917, abs=1e-5)
    assert levels.sigma_max == pytest.approx(14.6146, abs=1e-4)
    assert len(levels.times) == 1000


@pytest.mark.parametrize("shift", [1.0, 3.0, float(np.exp(1.15))])
def test_flow_times_become_noise_levels(shift: float) -> None:
    levels = FlowLevels(shift)
    strengths = np.linspace(0, 1, 21)
    sigmas = levels.sigma(strengths)
    assert (np.diff(sigmas) > 0).all()
    np.testing.assert_allclose(levels.denoise(sigmas), strengths, atol=1e-9)
    assert levels.sigma_max == pytest.approx(1e4 - 1)
    assert levels.sigma_min == pytest.approx(0.001 / 0.999)
    middle = sigmas / (1 + sigmas)
    expected = shift * strengths / (1 + (shift - 1) * strengths)
    np.testing.assert_allclose(middle, expected, atol=1.2e-3)


def test_zero_snr_against_diffusers() -> None:
    from tileup.torchvision_shield import shield_torchvision

    shield_torchvision()
    from diffusers.schedulers import EulerDiscreteScheduler

    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        rescale_betas_zero_snr=True,
    )
    left = scheduler.alphas_cumprod.double().numpy()
    ours = training_levels(zero_snr=True)
    np.testing.assert_allclose(ours.sigmas[:-1], np.sqrt((1 - left) / left)[:-1], rtol=2e-3)
    assert ours.sigma_min == training_levels().sigma_min
    assert ours.sigma_max == pytest.approx(4518.77, abs=0.01)
    assert training_levels().sigma_max < 15


@pytest.mark.parametrize(("window", "mu"), [(256, 0.5), (1024, 1.15), (512, 0.63)])
def test_the_shift_of_flux_dev_follows_the_tokens_of_its_window(window: int, mu: float) -> None:
    """Through (256, 0.5) and (4096, 1.15); 1024 tokens lie a fifth of the way."""
    assert WindowFlowLevels.of(window).shift == pytest.approx(np.exp(mu))


def test_only_flux_dev_is_fitted_to_its_window() -> None:
    spec = ModelSpec("m", "flux-dev", "flow", 8, 16, 1024, 16, WindowFlowLevels.of(1024))
    assert fitted(spec, 1024) == spec
    assert fitted(spec, 512).levels == WindowFlowLevels.of(512)
    other = Growth(0.001, 0.2, large=2000, large_slope=0.0001, large_offset=3)
    spec = replace(spec, levels=WindowFlowLevels.of(1024, other))
    assert fitted(spec, 512).levels == WindowFlowLevels(np.exp(0.001 * 1024 + 0.2), growth=other)
    assert fitted(spec, 1024).levels == WindowFlowLevels(np.exp(0.0001 * 4096 + 3), growth=other)
    other = replace(spec, levels=FlowLevels(3.0))
    assert fitted(other, 512) == other
