"""Training towards the truth: resumed runs, parts of a batch, and that it learns."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
import torch

from models.training.fidelity import FidelityTrainer
from models.training.files import save
from models.training.optimisers import Rate
from models.training.samples import Batches, Pictures, Recipe
from tests.checkpoints.small import ARCHITECTURE
from tests.models.states import assert_same, brightened, flat

STEPS, MORE = 2, 3
RECIPE = Recipe(crop=64, soft=0.1)


def trainer(finish: int | None, workers: int = 2, peak: float = 1e-3) -> FidelityTrainer:
    rate = Rate(peak, finish=finish, tail=4, warm=2)
    return FidelityTrainer(ARCHITECTURE, seed=3, rate=rate, device="cpu", workers=workers)


def advance(one: FidelityTrainer, pictures: Pictures, steps: int) -> None:
    batches = Batches(pictures, RECIPE, 9, 2, 1)
    for number, batch in islice(batches.since(one.step), steps):
        assert number == one.step
        one.advance(batch)


def test_a_resumed_run_is_the_uninterrupted_one_to_the_byte(
    pictures: Pictures, tmp_path: Path
) -> None:
    through = trainer(finish=STEPS + MORE)
    advance(through, pictures, STEPS + MORE)
    first = trainer(finish=STEPS + MORE)
    advance(first, pictures, STEPS)
    save(first.state(), tmp_path / "state.pt")
    second = trainer(finish=None)  # what the end is, the state says
    second.restore(torch.load(tmp_path / "state.pt", weights_only=True))
    advance(second, pictures, MORE)
    assert_same(through.state(), second.state())
    before, found = flat(first.state()), flat(second.state())
    moved = [n for n, v in before.items() if torch.is_tensor(v) and not torch.equal(v, found[n])]
    assert len(moved) > 100, "the second part trained too"


def test_parts_of_a_batch_add_up_to_the_whole(pictures: Pictures) -> None:
    one, two = trainer(finish=None, workers=1), trainer(finish=None)
    batch = Batches(pictures, RECIPE, 9, 4, 1).one(0)
    losses = [each.advance(batch)["loss"] for each in (one, two)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    gradients = [torch.cat([p.grad.flatten() for p in t.network.parameters()]) for t in (one, two)]
    assert (gradients[0] - gradients[1]).norm() < 0.02 * gradients[0].norm(), "bfloat16"
    assert gradients[0].norm() > 0


def test_a_few_steps_on_one_batch_come_nearer_to_its_truth() -> None:
    one = trainer(finish=None, workers=1, peak=3e-3)
    batch = brightened()
    before = one.advance(batch)["loss"]
    for _ in range(20):
        one.advance(batch)
    one.step = 0  # the same runs as before
    assert one.advance(batch)["loss"] < 0.6 * before
