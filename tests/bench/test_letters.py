"""Errors of reading in closed form; with `rapidocr` where it is installed."""

from __future__ import annotations

import importlib.util

import pytest
from PIL import Image

from bench.measures.letters import edits, error_rate

needs_reader = pytest.mark.skipif(
    importlib.util.find_spec("rapidocr") is None or importlib.util.find_spec("matplotlib") is None,
    reason="the extra bench is not installed",
)


@pytest.mark.parametrize(
    ("one", "two", "expected"),
    [
        ("", "", 0),
        ("abc", "abc", 0),
        ("", "abc", 3),
        ("kitten", "sitting", 3),
        ("flaw", "lawn", 2),
        ("abcd", "acbd", 2),
    ],
)
def test_edits_are_the_fewest_changes(one: str, two: str, expected: int) -> None:
    assert edits(one, two) == edits(two, one) == expected


def test_the_rate_is_of_all_letters_and_spaces_do_not_count() -> None:
    assert error_rate(["a b c", "defg"], ["abc", "de fg"]) == 0
    assert error_rate(["abcd", "ef"], ["abxd", ""]) == pytest.approx(3 / 6)


@needs_reader
@pytest.mark.filterwarnings("ignore")
def test_a_clean_line_is_read_and_one_of_two_pixels_is_not() -> None:
    from bench.measures.letters import TEXTS, drawn_line, font_file, read

    text = TEXTS[0]
    line = drawn_line(text, font_file("DejaVuSans"), 28, "white", "black")
    assert line.width % 4 == line.height % 4 == 0
    assert error_rate([text], [read(line)]) <= 0.04
    # Capitals of a pixel and a half hold no letters.
    size = (line.width // 14, line.height // 14)
    tiny = line.resize(size).resize(line.size, Image.Resampling.BOX)
    assert error_rate([text], [read(tiny)]) > 0.5
