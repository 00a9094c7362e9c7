"""Operations of a model as users load it, against what its card says."""

from __future__ import annotations

import re

import pytest

from bench.steps import operations
from tileup.resources import resource


def test_operations_are_those_of_the_card() -> None:
    card = (resource("models") / "README.md").read_text(encoding="utf-8")
    told = re.search(r"about (\d+) GFLOP per output megapixel and step", card)
    assert told is not None
    assert operations(None) / 1e3 == pytest.approx(float(told[1]), rel=0.02)
