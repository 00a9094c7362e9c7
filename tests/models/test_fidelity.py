"""Training towards the truth: resumed runs, parts of a batch."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
import torch

from models.training.fidelity import Trainer
from models.training.files import save
from models.training.optimisers import Rate
from models.training.samples import Batches, Pictures
from tests.checkpoints.small import ARCHITECTURE

STEPS, MORE = 2, 3


def trainer(finish: int | None, workers: int = 2) -> Trainer:
    rate = Rate(1e-3, finish=finish, tail=4, warm=2)
    return Trainer(ARCHITECTURE, seed=3, rate=rate, device="cpu", workers=workers)


def advance(one: Trainer, pictures: Pictures, steps: int) -> None:
    batches = Batches(pictures, 9, 2, 1)
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
    expected, found = flat(through.state()), flat(second.state())
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        same = torch.equal(value, found[name]) if torch.is_tensor(value) else value == found[name]
        assert same, name
    before = flat(first.state())
    moved = [n for n, v in before.items() if torch.is_tensor(v) and not torch.equal(v, found[n])]
    assert len(moved) > 100, "the second part trained too"


def test_parts_of_a_batch_add_up_to_the_whole(pictures: Pictures) -> None:
    one, two = trainer(finish=None, workers=1), trainer(finish=None)
    batch = Batches(pictures, 9, 4, 1).one(0)
    losses = [each.advance(batch) for each in (one, two)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    gradients = [torch.cat([p.grad.flatten() for p in t.network.parameters()]) for t in (one, two)]
    assert (gradients[0] - gradients[1]).norm() < 0.02 * gradients[0].norm(), "bfloat16"
    assert gradients[0].norm() > 0
