"""Words that messages of every part need."""

from __future__ import annotations

import pytest

from tileup.wording import counted, listed


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 windows"), (1, "1 window"), (2, "2 windows"), (15051, "15,051 windows")],
)
def test_one_is_singular(number: int, text: str) -> None:
    assert counted(number, "window") == text


@pytest.mark.parametrize(
    ("words", "text"), [(["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")]
)
def test_the_last_word_has_its_link(words: list[str], text: str) -> None:
    assert listed(words) == text
    assert listed(words, "or") == text.replace("and", "or")
