"""Words that messages of every part need."""

from __future__ import annotations

import pytest

from tileup.wording import counted


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 windows"), (1, "1 window"), (2, "2 windows"), (15051, "15,051 windows")],
)
def test_one_is_singular(number: int, text: str) -> None:
    assert counted(number, "window") == text
