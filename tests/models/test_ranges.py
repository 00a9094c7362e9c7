"""Ends of rounded maps: the gradient of a rounding, what was met, and what learning gains."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from models.ranges import (
    KNOTS,
    Calibration,
    Rounding,
    changed_by,
    watched,
    with_rounded_weights,
)
from models.training.files import Part, Parts, read_parts, write_parts
from models.training.levels import ARCHITECTURE
from models.training.samples import Batches, Recipe
from tileup.families.residual_unet import ResidualUNet
from tileup.families.rounding import LEAST_SILU, Ranges, points
from tileup.families.runtimes import computed_by


def ends(low: float, high: float) -> tuple[torch.Tensor, torch.Tensor]:
    made = (torch.tensor(each, dtype=torch.float64) for each in (low, high))
    one, two = (each.view(1, 1, 1, 1).requires_grad_() for each in made)
    return one, two


def test_values_are_rounded_to_256_steps_between_the_ends() -> None:
    low, high = ends(-1.0, 1.55)
    values = torch.tensor([-3.0, -1.0, 0.0, 0.0149, 0.0151, 1.55, 2.0]).double().view(1, 1, 1, -1)
    found = Rounding.apply(values, low, high)
    assert found is not None
    expected = torch.tensor([-1.0, -1.0, 0.0, 0.01, 0.02, 1.55, 1.55]).double().view_as(values)
    torch.testing.assert_close(found, expected)


def test_the_gradient_moves_ends_as_differences_do() -> None:
    """Where nothing crosses a middle between two steps: values beyond, and the rounding's own part
    by its definition, (rounded - value) / range for each end."""
    values = torch.tensor([-3.0, -0.4, 0.2, 0.7, 2.0, 5.0]).double().view(1, 1, 1, -1)
    values.requires_grad_()
    low, high = ends(-1.0, 1.55)
    found = Rounding.apply(values, low, high)
    assert found is not None
    found.sum().backward()
    assert values.grad is not None
    assert values.grad.flatten().tolist() == [0, 1, 1, 1, 0, 0]
    moved = float((found - values)[..., 1:4].detach().sum() / 2.55)
    assert low.grad is not None
    assert high.grad is not None
    assert float(low.grad) == pytest.approx(1 - moved)
    assert float(high.grad) == pytest.approx(2 + moved)


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    torch.manual_seed(0)
    network = ResidualUNet(ARCHITECTURE)
    torch.nn.init.normal_(network.leave.weight, std=0.1)
    chance = np.random.default_rng(0)
    crops = [Image.fromarray(chance.integers(0, 256, (64, 64, 3), np.uint8).repeat(2, 0))]
    batches = Batches({"noise": crops}, Recipe(crop=32, soft=0.0), seed=1, size=2, threads=1)
    return Calibration(network.requires_grad_(False), batches, told=False)


def test_what_was_met_lies_between_the_ends(calibration: Calibration) -> None:
    found = calibration.met(6)
    network, shown = calibration.network, calibration.shown(0)
    assert found.shape == (len(points(network)), 2, KNOTS)
    reached = torch.zeros(len(found), 2)

    def note(number: int, values: torch.Tensor) -> None:
        each = torch.stack([-values.min(), values.max()])
        reached[number] = torch.maximum(reached[number], each)

    for _ in range(6):
        each = next(shown)
        with watched(network, note):
            network(each.x, each.sigma, each.source)
    torch.testing.assert_close(found.amax(dim=2), reached.clamp(min=0.05))
    assert (reached > 0.05).any()


def test_learning_comes_nearer_to_the_network(calibration: Calibration) -> None:
    rounded, network = with_rounded_weights(calibration.network), calibration.network
    shown = calibration.shown(100)
    steps = [next(shown) for _ in range(4)]

    def error(found: torch.Tensor) -> float:
        squares: list[float] = []
        for each in steps:
            with torch.no_grad(), changed_by(rounded, found.log(), each.sigma):
                x0 = rounded(each.x, each.sigma, each.source)
            squares.append(float((x0 - each.x0).square().mean()))
        return float(np.mean(squares))

    wide = 8 * calibration.met(4)
    learned = calibration.learned(8, wide)
    assert error(learned) < 0.95 * error(wide)
    changed = {
        name
        for (name, one), two in zip(rounded.named_parameters(), network.parameters(), strict=True)
        if not torch.equal(one, two)
    }
    assert "grow.0.weight" in changed
    assert "down.2.0.first.weight" in changed
    finest = ("enter", "leave", "shrink.0", "up.0", "embed")
    assert not any(name.startswith(finest) for name in changed), "the finest stays as it is"


def test_ranges_are_written_beside_their_network_and_left_out_of_its_weights(
    tmp_path: Path,
) -> None:
    weights = {
        name: each.half().float() for name, each in ResidualUNet(ARCHITECTURE).state_dict().items()
    }
    network = ResidualUNet(ARCHITECTURE)
    found = torch.full((len(points(network)), 2, KNOTS), -LEAST_SILU).half().float()
    write_parts(
        Parts(Part(weights, ranges=found), deblock=Part(weights)), tmp_path / "m.safetensors"
    )
    parts = read_parts(tmp_path / "m.safetensors")
    assert parts.base.ranges is not None
    assert torch.equal(parts.base.ranges, found)
    assert parts.base.weights.keys() == weights.keys()
    assert parts.deblock is not None
    assert parts.deblock.ranges is None
    network.load_state_dict(parts.base.weights)
    computed_by("int8", network.requires_grad_(False), Ranges.of(found, 0.008, 0.7))


def test_a_network_is_watched_no_longer_than_that(calibration: Calibration) -> None:
    """Also where what happens meanwhile fails."""
    network, met = calibration.network, list[int]()
    shown = next(calibration.shown(0))
    with pytest.raises(KeyError), watched(network, lambda number, _: met.append(number)):
        raise KeyError
    network(shown.x, shown.sigma, shown.source)
    assert met == []
