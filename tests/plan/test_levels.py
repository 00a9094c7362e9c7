"""Strength to noise level and back."""

import numpy as np
import pytest

from tileup.plan.levels import TableLevels

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
