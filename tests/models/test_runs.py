"""Runs of the sampler with texture, against the sampler; texture in closed form."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from models.training.levels import SIGMA_MIN, denoise_of
from models.training.runs import DIALLED, JOINING, Run, as_shown
from tileup.sampling.kdiffusion import sample_function


def runs(count: int, rows: int = 4) -> Iterator[Run]:
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        yield Run.drawn(torch.zeros(rows, 12, 8, 10), generator)


def pointwise(x: Tensor, sigma: Tensor, source: Tensor, texture: Tensor) -> Tensor:
    """A network without neighbours."""
    level = sigma.view(-1, 1, 1, 1)
    return source + (x - source).tanh() * (1 - level) / 2 + 0.1 * texture


def test_a_run_is_eulers_and_a_place_that_joins_later_goes_it_from_there() -> None:
    source = torch.rand(4, 12, 8, 10, generator=torch.Generator().manual_seed(2))
    seen: set[tuple[int, int]] = set()
    for run in runs(200):
        found = run.prediction(source, pointwise)
        for row in range(4):
            sigmas = torch.stack([sigma[row].flatten()[0] for sigma in run.sigmas])
            for before in run.joins[row].unique().int().tolist():
                own = slice(row, row + 1)
                texture = run.texture[own]
                expected = sample_function(
                    "euler"
                )(
                    lambda x, sigma: pointwise(x, sigma, source[own], texture),  # noqa: B023
                    source[own] + sigmas[before] * run.noise[own],
                    torch.cat([sigmas[before:], torch.zeros(1)]),
                    disable=True,
                )
                where = run.joins[row, 0] == before
                torch.testing.assert_close(
                    found[row][:, where], expected[0][:, where], atol=1e-4, rtol=1e-4
                )
                seen.add((len(sigmas), before))
        if len(seen) == 6:
            break
    assert seen == {(steps, before) for steps in (1, 2, 3) for before in range(steps)}


def test_texture_is_what_each_places_own_start_stands_for() -> None:
    whole = dialled = 0
    for run in runs(60):
        for row in range(4):
            sigmas = torch.stack([sigma[row].flatten()[0] for sigma in run.sigmas])
            strengths = denoise_of(sigmas[run.joins[row, 0].long()])
            expected = ((strengths - 0.2) / 0.4).clamp(0, 1)
            if expected.max() < 1e-3:
                assert run.texture[row].max() < 1e-3
                continue
            dial = float(run.texture[row].max() / expected.max())
            torch.testing.assert_close(run.texture[row, 0], dial * expected, atol=1e-4, rtol=1e-4)
            whole += dial > 0.999
            dialled += dial <= 0.999
    assert dialled / (whole + dialled) == pytest.approx(DIALLED, abs=0.08)


def test_strengths_reach_from_weak_to_strong_and_come_down() -> None:
    starts = torch.cat([denoise_of(run.sigmas[0].flatten()) for run in runs(200)])
    assert 0.09 < starts.min() < 0.15
    assert 0.9 < starts.max() <= 0.951
    assert starts.median() > 0.5
    for run in runs(50):
        levels = torch.stack([sigma.flatten() for sigma in run.sigmas])
        assert (levels.diff(dim=0) < 0).all()
        assert levels.min() >= SIGMA_MIN
    joining = [
        bool((row > 0).any()) for run in runs(200) if len(run.sigmas) > 1 for row in run.joins
    ]
    assert sum(joining) / len(joining) == pytest.approx(JOINING, abs=0.06)


def test_the_gradient_goes_through_the_last_step_alone() -> None:
    scale = torch.ones((), requires_grad=True)
    calls: list[bool] = []

    def network(x: Tensor, sigma: Tensor, source: Tensor, texture: Tensor) -> Tensor:
        calls.append(torch.is_grad_enabled())
        return source + scale * (x - source) / 2

    run = next(each for each in runs(50) if len(each.sigmas) == 3)
    source = torch.rand(4, 12, 8, 10)
    run.prediction(source, network).sum().backward()
    assert calls == [False, False, True]
    assert scale.grad is not None
    assert scale.grad.abs() > 0


def test_what_is_shown_has_the_sources_colours() -> None:
    generator = torch.Generator().manual_seed(3)
    source = torch.rand(2, 12, 40, 40, generator=generator)
    texture = torch.ones(2, 1, 40, 40)

    def brighter(x: Tensor, sigma: Tensor, source: Tensor, texture: Tensor) -> Tensor:
        return source + 0.3

    found = as_shown(brighter)(source, torch.ones(2), source, texture)
    torch.testing.assert_close(found, source)
