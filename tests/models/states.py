"""Compares states of training leaf by leaf, and a batch that is easy to learn."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor


def brightened() -> Tensor:
    """Truths that are their sources, 12 of 255 brighter: uint8, shape (4, 2, 32, 32, 3)."""
    noise = np.random.default_rng(0).normal(0, 60, (4, 32, 32, 3))
    source = 120 + gaussian_filter(noise, (0, 1, 1, 0))
    pair = np.stack([source + 12, source], axis=1)
    return torch.from_numpy(pair.clip(0, 255).astype(np.uint8))


def sharper() -> Tensor:
    """Truths that are their sources with more contrast, as `brightened`."""
    noise = np.random.default_rng(0).normal(0, 60, (4, 32, 32, 3))
    apart = gaussian_filter(noise, (0, 1, 1, 0))
    pair = np.stack([120 + 1.5 * apart, 120 + apart], axis=1)
    return torch.from_numpy(pair.clip(0, 255).astype(np.uint8))


def flat(value: object, name: str = "") -> dict[str, object]:
    """Every leaf of a state by its path."""
    if isinstance(value, dict):
        items = [(str(key), each) for key, each in value.items()]
    elif isinstance(value, list | tuple):
        items = [(str(key), each) for key, each in enumerate(value)]
    else:
        return {name: value}
    return {k: v for key, each in items for k, v in flat(each, f"{name}/{key}").items()}


def assert_same(one: object, two: object) -> None:
    """To the byte."""
    expected, found = flat(one), flat(two)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        same = torch.equal(value, found[name]) if torch.is_tensor(value) else value == found[name]
        assert same, name
