"""The way of a sample against the sampler."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.training.levels import SIGMA_MAX, SIGMA_MIN, sigma_of
from models.training.ways import Way, part_of
from tileup.sampling.kdiffusion import sample_function


def test_a_way_without_own_steps_lies_between_source_and_truth() -> None:
    """x = truth + share (source + start noise - truth), and its noise level is share * start."""
    generator = torch.Generator().manual_seed(0)
    truth, source = (torch.rand(6, 12, 8, 8, generator=generator) for _ in range(2))
    seen = 0
    while not seen:
        way = Way.drawn(truth, generator)
        if way.own:
            continue
        share = way.shares[-1]
        expected = truth + share * (source + way.start * way.noise - truth)
        torch.testing.assert_close(way.input(truth, source, None), expected)
        levels = (share * way.start).flatten()
        torch.testing.assert_close(way.sigma, levels.clamp(min=SIGMA_MIN / 2))
        seen += 1


def test_a_way_of_own_steps_is_that_of_the_euler_sampler() -> None:
    generator = torch.Generator().manual_seed(1)
    truth, source = (torch.rand(1, 12, 8, 8, generator=generator) for _ in range(2))
    way = Way.drawn(truth, generator)
    while (
        not way.own
        or len(way.shares) < 4
        or way.joins.any()
        or float(way.start * way.shares[-1]) < 0.01
    ):
        way = Way.drawn(truth, generator)

    sigmas = torch.stack([(way.start * share).flatten()[0] for share in way.shares])
    expected = sample_function("euler")(
        lambda x, sigma: pointwise(x, sigma, source),
        source + way.start * way.noise,
        sigmas,
        disable=True,
    )
    torch.testing.assert_close(way.input(truth, source, pointwise), expected, atol=1e-4, rtol=1e-4)


def pointwise(x: torch.Tensor, sigma: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    return source + (x - source).tanh() * (1 - sigma[:, None, None, None]) / 2


def test_a_place_that_joins_later_goes_the_way_from_there() -> None:
    """With a network without neighbours each place is as if it were alone."""
    generator = torch.Generator().manual_seed(1)
    truth, source = (torch.rand(2, 12, 8, 10, generator=generator) for _ in range(2))
    seen: set[tuple[int, int]] = set()
    combinations = {(steps, after) for steps in (1, 2, 3) for after in range(steps + 1)}
    for _ in range(2000):
        way = Way.drawn(truth, generator)
        steps = len(way.shares) - 1
        found = {(steps, after) for after in way.joins.unique().int().tolist()}
        weak = float((way.start * way.shares[-1]).min()) < 0.01
        if not way.own or weak or found <= seen:
            continue
        found, begun = way.input(truth, source, pointwise), way.strength
        for row in range(2):
            sigmas = torch.stack([(way.start * share)[row].flatten()[0] for share in way.shares])
            for after in way.joins[row].unique().int().tolist():
                alone = source[row : row + 1] + sigmas[after] * way.noise[row : row + 1]
                expected = sample_function(
                    "euler"
                )(
                    lambda x, sigma: pointwise(x, sigma, source[row : row + 1]),  # noqa: B023
                    alone,
                    sigmas[after:],
                    disable=True,
                )
                where = way.joins[row, 0] == after
                torch.testing.assert_close(
                    found[row][:, where], expected[0][:, where], atol=1e-4, rtol=1e-4
                )
                strengths = begun[row, 0][where]
                assert sigma_of(strengths).tolist() == pytest.approx(
                    [float(sigmas[after])] * len(strengths), rel=1e-4
                )
                seen.add((len(way.shares) - 1, after))
    assert seen == combinations


def test_half_of_the_ways_have_a_part_that_joins_and_it_is_a_part() -> None:
    generator = torch.Generator().manual_seed(4)
    like = torch.zeros(500, 12, 8, 10)
    own = True
    while own:
        way = Way.drawn(like, generator)
        own = way.own
    assert not way.joins.any(), "a way to the truth is a single one"
    while not way.own:
        way = Way.drawn(like, generator)
    joining = way.joins.flatten(1) > 0
    assert 0.4 < joining.any(dim=1).float().mean() < 0.6
    shares = joining[joining.any(dim=1)].float().mean(dim=1)
    assert 0.1 < shares.median() < 0.6
    assert shares.min() < 0.1
    assert part_of(torch.zeros(1, 1, 1), generator)[1:] == (slice(0, 1), slice(0, 1))


def test_strengths_are_geometric_in_noise() -> None:
    found = sigma_of(torch.tensor([0.0, 0.5, 1.0]))
    middle = float(np.sqrt(SIGMA_MIN * SIGMA_MAX))
    assert found.tolist() == pytest.approx([SIGMA_MIN, middle, SIGMA_MAX])
