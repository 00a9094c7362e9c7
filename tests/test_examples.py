"""Runs draw the same examples every time, unless new ones are asked for."""

from __future__ import annotations

import os

from hypothesis import given, seed, settings
from hypothesis import strategies as st


def drawn(profile: str, number: int) -> list[int]:
    """What a property draws under a profile, with this seed."""
    numbers: list[int] = []

    @settings(settings.get_profile(profile), database=None)
    @given(st.integers())
    def draw(number: int) -> None:
        numbers.append(number)

    # What --hypothesis-seed does; @seed would win over a profile that draws the same.
    (draw if profile == "ci" else seed(number)(draw))()
    return numbers


def test_this_run_draws_what_it_shall() -> None:
    assert settings.default is not None
    assert settings.default.derandomize == ("FUZZ" not in os.environ)
    assert settings.default.deadline is None, "a busy machine is no failure"


def test_two_runs_draw_the_same() -> None:
    first, second = drawn("ci", 1), drawn("ci", 2)
    assert len(first) > 50
    assert first == second


def test_new_examples_are_new_and_follow_the_seed() -> None:
    assert drawn("new", 1) == drawn("new", 1)
    assert len({tuple(drawn("new", 1)), tuple(drawn("new", 2)), tuple(drawn("ci", 0))}) == 3
