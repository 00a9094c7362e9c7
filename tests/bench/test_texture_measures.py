"""Measures of texture against pictures whose figures are known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.measures.pixels import Pixels
from bench.measures.texture import (
    OCTAVES,
    busy,
    busy_sharpness,
    diversity,
    flat,
    flat_grain,
    octaves,
    sharpness,
    slope,
)


def grey(values: NDArray[np.float64]) -> Pixels:
    pixels = np.rint(np.clip(values, 0, 255)).astype(np.uint8)
    return np.repeat(pixels[..., None], 3, axis=2)


def noise(seed: int, side: int = 256, fall: float = 0.0) -> NDArray[np.float64]:
    """Noise whose amplitude falls as frequency ** -fall; standard deviation 30."""
    spectrum = np.fft.fft2(np.random.default_rng(seed).normal(size=(side, side)))
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side))
    frequency[0, 0] = 1
    values = np.fft.ifft2(spectrum * frequency**-fall).real
    return 128 + 30 * (values - values.mean()) / values.std()


def halves(left: float, right: float, side: int = 128) -> Pixels:
    """A board of single pixels whose amplitude differs from left to right."""
    rows, columns = np.mgrid[:side, :side]
    amplitude = np.where(columns < side // 2, left, right)
    return grey(128 + amplitude * ((rows + columns) % 2 * 2 - 1))


def test_gradient_energy_grows_with_the_square_of_contrast() -> None:
    assert sharpness(halves(40, 40), halves(20, 20)) == pytest.approx(0.25)
    assert sharpness(halves(40, 40), halves(60, 60)) == pytest.approx(2.25)


def test_the_busy_and_the_flat_part_are_a_quarter_and_a_half() -> None:
    truth = halves(5, 50)
    for part, share in ((busy(truth), 0.25), (flat(truth), 0.5)):
        assert part.shape == (127, 127)
        assert part.mean() >= share
    assert not busy(truth)[:, :47].any(), "16 pixels from the border of the two halves"
    assert not flat(truth)[:, 80:].any()
    # What a result does elsewhere does not count.
    assert busy_sharpness(truth, halves(0, 25)) == pytest.approx(0.25, rel=0.02)
    assert busy_sharpness(truth, halves(90, 50)) == pytest.approx(1, rel=0.02)


def test_grain_is_the_deviation_from_the_local_mean_in_the_flat_part() -> None:
    truth = halves(5, 50)
    assert flat_grain(truth, halves(10, 90)) == pytest.approx(10, rel=0.02)
    assert flat_grain(truth, halves(2, 0)) == pytest.approx(2, rel=0.02)
    ramp = grey(np.linspace(0, 255, 128)[:, None] * np.ones(128))
    assert flat_grain(truth, ramp) < 0.5, "a ramp is no grain"


@pytest.mark.parametrize("fall", [0.0, 0.5, 1.0])
def test_the_spectrum_of_coloured_noise_falls_by_six_decibel_for_each_power(fall: float) -> None:
    found = np.diff(octaves(grey(noise(1, fall=fall))))
    assert found.shape == (OCTAVES - 1,)
    assert found == pytest.approx([-20 * np.log10(2) * fall] * 3, abs=0.7)


def test_slope_is_how_much_steeper_than_the_truth() -> None:
    truth = grey(noise(1, fall=0.5))
    assert slope(truth, truth) == 0
    assert slope(truth, grey(noise(1, fall=1.0))) == pytest.approx(-3.01, abs=0.2)
    assert slope(truth, grey(noise(1, fall=0.0))) == pytest.approx(3.01, abs=0.2)


def test_diversity_is_the_deviation_between_seeds_where_it_is_asked_for() -> None:
    truth = halves(5, 50)
    right = np.mgrid[:128, :128][1] >= 64
    drawn = [grey(100.0 + step * right) for step in (0, 2, 4, 6)]
    expected = np.std([0, 2, 4, 6], ddof=1)
    assert diversity(drawn, busy(truth)) == pytest.approx(expected, rel=0.05)
    assert diversity(drawn, flat(truth)) == pytest.approx(0, abs=0.6)
    assert diversity([truth] * 4, busy(truth)) == 0
