"""Samples: what they show, and that each is a function of its number."""

from __future__ import annotations

from itertools import islice

import numpy as np
import torch

from models.training.samples import SMOOTH, Batches, Pictures, Recipe, sample

RECIPE = Recipe(crop=32, soft=0.1)


def test_a_batch_does_not_depend_on_where_a_run_started(pictures: Pictures) -> None:
    batches = Batches(pictures, RECIPE, 9, 2, 2)
    by_number = dict(islice(batches.since(0), 4))
    for number, batch in islice(Batches(pictures, RECIPE, 9, 2, 1).since(2), 2):
        assert torch.equal(batch, by_number[number])
    assert not torch.equal(by_number[2], by_number[3])


def test_some_samples_are_flat_or_ramps_without_grain(pictures: Pictures) -> None:
    flat = ramps = 0
    for number in range(200):
        truth, source = sample(pictures, 5, number, RECIPE).astype(int)
        steps = [np.diff(truth, axis=axis) for axis in (0, 1)]
        if not all(np.abs(each - each.mean(axis=(0, 1))).max() < 1 for each in steps):
            continue  # a photograph; steps of a ramp differ by rounding alone
        assert np.array_equal(truth, source)
        varies = truth.std(axis=(0, 1)).max() > 0
        flat, ramps = flat + (not varies), ramps + varies
    assert 0.5 * SMOOTH * 200 < flat + ramps < 2 * SMOOTH * 200
    assert min(flat, ramps) >= 4
