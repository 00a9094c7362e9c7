"""The learning rate and Muon."""

from __future__ import annotations

import pytest
import torch

from models.training.optimisers import Rate, _orthogonal


def test_the_rate_rises_stays_and_falls_to_nothing() -> None:
    rate = Rate(0.1, finish=1000, tail=400, warm=10)
    expected = {0: 0.01, 4: 0.05, 9: 0.1, 500: 0.1, 600: 0.1, 800: 0.05, 999: 0.1 / 400, 1000: 0.0}
    assert {step: rate.at(step) for step in expected} == pytest.approx(expected)
    assert Rate(0.1).at(10**9) == 0.1
    # The running average forgets what lies far back before the rate ends.
    assert 1 / (1 - rate.memory(500)) == pytest.approx(125)
    assert 1 / (1 - rate.memory(996)) == pytest.approx(2)


def test_muons_update_has_singular_values_near_one() -> None:
    for shape in ((8, 72), (72, 8), (16, 16)):
        matrix = torch.randn(*shape, generator=torch.Generator().manual_seed(2))
        left, _, right = torch.linalg.svd(matrix, full_matrices=False)
        update = _orthogonal(matrix)
        values = torch.linalg.svdvals(update)
        assert 0.4 < values.min() < values.max() < 1.4
        aligned = torch.diagonal(left.T @ update @ right.T)
        torch.testing.assert_close(aligned, values.sort().values, atol=1.0, rtol=0)
        assert aligned.min() > 0.4, "the directions are the matrix's own"
