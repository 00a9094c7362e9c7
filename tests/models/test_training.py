"""The training script: resumed runs, the learning rate, the way of a sample, the optimiser."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

from tests.checkpoints.small import ARCHITECTURE
from tileup.resources import resource
from tileup.sampling.kdiffusion import sample_function

if TYPE_CHECKING:
    from train import Trainer

Pictures = dict[str, list[Image.Image]]
STEPS, MORE = 2, 3


@pytest.fixture(scope="module")
def training() -> Iterator[ModuleType]:
    """models/train.py, which is a script and not part of the package."""
    folder = str(resource("models"))
    sys.path.insert(0, folder)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        import train

        yield train
    finally:
        torch.set_num_threads(threads)
        sys.path.remove(folder)


@pytest.fixture(scope="module")
def pictures() -> dict[str, list[Image.Image]]:
    with Image.open(resource("docs") / "demo" / "seeding.jpg") as photograph:
        crops = [photograph.crop((x, 80, x + 168, 248)) for x in (60, 180, 300)]
    return {"plant": crops[:2], "meadow": crops[2:]}


def trainer(training: ModuleType, finish: int | None, workers: int = 2) -> Trainer:
    rate = training.Rate(1e-3, finish=finish, tail=4, warm=2)
    return training.Trainer(ARCHITECTURE, seed=3, rate=rate, device="cpu", workers=workers)


def advance(training: ModuleType, one: Trainer, pictures: Pictures, steps: int) -> None:
    batches = training.Batches(pictures, 9, 2, 1)
    for number, batch in islice(batches.since(one.step), steps):
        assert number == one.step
        one.advance(batch)


def flat(value: object, name: str = "") -> dict[str, object]:
    """Every leaf of a state by its path."""
    if isinstance(value, dict):
        items = [(str(key), each) for key, each in value.items()]
    elif isinstance(value, list | tuple):
        items = [(str(key), each) for key, each in enumerate(value)]
    else:
        return {name: value}
    return {k: v for key, each in items for k, v in flat(each, f"{name}/{key}").items()}


def test_a_resumed_run_is_the_uninterrupted_one_to_the_byte(
    training: ModuleType, pictures: Pictures, tmp_path: Path
) -> None:
    through = trainer(training, finish=STEPS + MORE)
    advance(training, through, pictures, STEPS + MORE)
    first = trainer(training, finish=STEPS + MORE)
    advance(training, first, pictures, STEPS)
    training.save(first.state(), tmp_path / "state.pt")
    second = trainer(training, finish=None)  # what the end is, the state says
    second.restore(torch.load(tmp_path / "state.pt", weights_only=True))
    advance(training, second, pictures, MORE)
    expected, found = flat(through.state()), flat(second.state())
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        same = torch.equal(value, found[name]) if torch.is_tensor(value) else value == found[name]
        assert same, name
    before = flat(first.state())
    moved = [n for n, v in before.items() if torch.is_tensor(v) and not torch.equal(v, found[n])]
    assert len(moved) > 100, "the second part trained too"


def test_parts_of_a_batch_add_up_to_the_whole(training: ModuleType, pictures: Pictures) -> None:
    one, two = trainer(training, finish=None, workers=1), trainer(training, finish=None)
    batch = training.Batches(pictures, 9, 4, 1).one(0)
    losses = [each.advance(batch) for each in (one, two)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    gradients = [torch.cat([p.grad.flatten() for p in t.network.parameters()]) for t in (one, two)]
    assert (gradients[0] - gradients[1]).norm() < 0.02 * gradients[0].norm(), "bfloat16"
    assert gradients[0].norm() > 0


def test_a_batch_does_not_depend_on_where_a_run_started(
    training: ModuleType, pictures: Pictures
) -> None:
    batches = training.Batches(pictures, 9, 2, 2)
    by_number = dict(islice(batches.since(0), 4))
    for number, batch in islice(training.Batches(pictures, 9, 2, 1).since(2), 2):
        assert torch.equal(batch, by_number[number])
    assert not torch.equal(by_number[2], by_number[3])


def test_the_rate_rises_stays_and_falls_to_nothing(training: ModuleType) -> None:
    rate = training.Rate(0.1, finish=1000, tail=400, warm=10)
    expected = {0: 0.01, 4: 0.05, 9: 0.1, 500: 0.1, 600: 0.1, 800: 0.05, 999: 0.1 / 400, 1000: 0.0}
    assert {step: rate.at(step) for step in expected} == pytest.approx(expected)
    assert training.Rate(0.1).at(10**9) == 0.1
    # The running average forgets what lies far back before the rate ends.
    assert 1 / (1 - rate.memory(500)) == pytest.approx(125)
    assert 1 / (1 - rate.memory(996)) == pytest.approx(2)


def test_a_way_without_own_steps_lies_between_source_and_truth(training: ModuleType) -> None:
    """x = truth + share (source + start noise - truth), and its noise level is share * start."""
    generator = torch.Generator().manual_seed(0)
    truth, source = (torch.rand(6, 12, 8, 8, generator=generator) for _ in range(2))
    seen = 0
    while not seen:
        way = training.Way.drawn(truth, generator)
        if way.own:
            continue
        share = way.shares[-1]
        expected = truth + share * (source + way.start * way.noise - truth)
        torch.testing.assert_close(way.input(truth, source, None), expected)
        levels = (share * way.start).flatten()
        torch.testing.assert_close(way.sigma, levels.clamp(min=training.SIGMA_MIN / 2))
        seen += 1


def test_a_way_of_own_steps_is_that_of_the_euler_sampler(training: ModuleType) -> None:
    generator = torch.Generator().manual_seed(1)
    truth, source = (torch.rand(1, 12, 8, 8, generator=generator) for _ in range(2))
    way = training.Way.drawn(truth, generator)
    while (
        not way.own
        or len(way.shares) < 4
        or way.joins.any()
        or float(way.start * way.shares[-1]) < 0.01
    ):
        way = training.Way.drawn(truth, generator)

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


def test_a_place_that_joins_later_goes_the_way_from_there(training: ModuleType) -> None:
    """With a network without neighbours each place is as if it were alone."""
    generator = torch.Generator().manual_seed(1)
    truth, source = (torch.rand(2, 12, 8, 10, generator=generator) for _ in range(2))
    seen: set[tuple[int, int]] = set()
    for _ in range(200):
        way = training.Way.drawn(truth, generator)
        if not way.own or float((way.start * way.shares[-1]).min()) < 0.01:
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
                assert training.sigma_of(strengths).tolist() == pytest.approx(
                    [float(sigmas[after])] * len(strengths), rel=1e-4
                )
                seen.add((len(way.shares) - 1, after))
    assert seen == {(steps, after) for steps in (1, 2, 3) for after in range(steps + 1)}


def test_half_of_the_ways_have_a_part_that_joins_and_it_is_a_part(training: ModuleType) -> None:
    generator = torch.Generator().manual_seed(4)
    like = torch.zeros(500, 12, 8, 10)
    own = True
    while own:
        way = training.Way.drawn(like, generator)
        own = way.own
    assert not way.joins.any(), "a way to the truth is a single one"
    while not way.own:
        way = training.Way.drawn(like, generator)
    joining = way.joins.flatten(1) > 0
    assert 0.4 < joining.any(dim=1).float().mean() < 0.6
    shares = joining[joining.any(dim=1)].float().mean(dim=1)
    assert 0.1 < shares.median() < 0.6
    assert shares.min() < 0.1
    assert training._part_of(torch.zeros(1, 1, 1), generator)[1:] == (slice(0, 1), slice(0, 1))


def stripes(amplitude: float) -> torch.Tensor:
    """Latents of columns that are dark and bright in turn, 32 x 40 pixels."""
    pixels = torch.full((1, 3, 32, 40), -amplitude)
    pixels[..., ::2] = amplitude
    return torch.nn.functional.pixel_unshuffle(pixels, 2)


def test_contrast_is_the_difference_of_neighbours(training: ModuleType) -> None:
    flat = torch.full((1, 12, 16, 20), 0.3)
    assert training.contrast(flat).max() < 2e-3
    for amplitude in (0.1, 0.4):
        found = training.contrast(stripes(amplitude))
        assert found.shape == (1, 1, 7, 9)
        torch.testing.assert_close(found, torch.full_like(found, 2 * amplitude), rtol=1e-2, atol=0)
    turned = training.contrast(stripes(0.4).transpose(2, 3))
    assert turned.shape == (1, 1, 9, 7)


@pytest.mark.parametrize(("strength", "share"), [(0.0, 0), (0.2, 0), (0.5, 0.5), (0.8, 1), (1, 1)])
def test_strength_says_what_contrast_counts(
    training: ModuleType, strength: float, share: float
) -> None:
    everywhere = torch.full((1, 1, 16, 20), strength)
    found = training.texture_loss(stripes(0.8), stripes(0.4), everywhere)
    assert found.shape == (1, 1, 7, 9)
    expected = share * np.log((1.6 + 0.02) / (0.8 + 0.02))
    assert found.flatten().tolist() == pytest.approx([expected] * 63, abs=1e-3)
    # Where the stripes lie counts nothing, and half of a picture may start with another strength.
    assert training.texture_loss(-stripes(0.4), stripes(0.4), everywhere).max() < 1e-6
    everywhere[..., :10] = 0
    half = training.texture_loss(stripes(0.8), stripes(0.4), everywhere)
    assert half[..., :4].max() == 0
    assert half[..., 5:].flatten().tolist() == pytest.approx([expected] * 28, abs=1e-3)


def test_a_pattern_of_the_lattice_counts_and_the_same_contrast_off_it_does_not(
    training: ModuleType,
) -> None:
    truth = torch.zeros(1, 12, 32, 32)
    rows, columns = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    board = ((rows + columns) % 2 * 2 - 1) * 0.1
    quarter = ((rows // 2 + columns // 2) % 2 * 2 - 1) * 0.1
    grain = 0.1 * torch.randn(64, 64, generator=torch.Generator().manual_seed(3)).sign()
    found = {}
    for name, pattern in (("board", board), ("quarter", quarter), ("grain", grain)):
        pixels = pattern.expand(1, 3, 64, 64).contiguous()
        loss = training.lattice_loss(torch.nn.functional.pixel_unshuffle(pixels, 2), truth)
        assert loss.shape == (1, 48, 7, 7)
        found[name] = float(loss.mean())
    assert found["board"] == pytest.approx(0.1, rel=1e-4)
    assert found["quarter"] == pytest.approx(0.1, rel=1e-4)
    assert found["grain"] < 0.03


def test_muons_update_has_singular_values_near_one(training: ModuleType) -> None:
    for shape in ((8, 72), (72, 8), (16, 16)):
        matrix = torch.randn(*shape, generator=torch.Generator().manual_seed(2))
        left, _, right = torch.linalg.svd(matrix, full_matrices=False)
        update = training._orthogonal(matrix)
        values = torch.linalg.svdvals(update)
        assert 0.4 < values.min() < values.max() < 1.4
        aligned = torch.diagonal(left.T @ update @ right.T)
        torch.testing.assert_close(aligned, values.sort().values, atol=1.0, rtol=0)
        assert aligned.min() > 0.4, "the directions are the matrix's own"


def test_some_samples_are_flat_or_ramps_without_grain(
    training: ModuleType, pictures: Pictures
) -> None:
    flat = ramps = 0
    for number in range(200):
        truth, source = training.sample(pictures, 5, number, 32).astype(int)
        steps = [np.diff(truth, axis=axis) for axis in (0, 1)]
        if not all(np.abs(each - each.mean(axis=(0, 1))).max() < 1 for each in steps):
            continue  # a photograph; steps of a ramp differ by rounding alone
        assert np.array_equal(truth, source)
        varies = truth.std(axis=(0, 1)).max() > 0
        flat, ramps = flat + (not varies), ramps + varies
    assert 0.5 * training.SMOOTH * 200 < flat + ramps < 2 * training.SMOOTH * 200
    assert min(flat, ramps) >= 4


def test_strengths_are_geometric_in_noise(training: ModuleType) -> None:
    found = training.sigma_of(torch.tensor([0.0, 0.5, 1.0]))
    middle = float(np.sqrt(training.SIGMA_MIN * training.SIGMA_MAX))
    assert found.tolist() == pytest.approx([training.SIGMA_MIN, middle, training.SIGMA_MAX])
