"""Clocks that are wrong, or were set back between runs: times of files decide nothing by order."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.engine import test_journal as shared
from tests.engine.test_journal import contents, draw, made, standings
from tileup.contracts import Model
from tileup.engine.journal import NAME
from tileup.engine.request import Standing
from tileup.settings.values import Settings

folder = shared.folder

YEAR = 366 * 24 * 3600
TIMES = {"the future": 140 * YEAR, "long ago": 10 * YEAR, "no time": 0, "before time": -YEAR}


def never(settings: Settings) -> Model:
    raise AssertionError("there is nothing to make")


def at(seconds: int, *paths: Path) -> None:
    for path in paths:
        os.utime(path, (seconds, seconds))


@pytest.mark.parametrize("when", TIMES)
def test_times_of_files_decide_nothing(folder: Path, when: str) -> None:
    """Of pictures that were made before, and of those that are made by such a clock."""
    for picture in folder.glob("in/*"):
        at(TIMES[when], picture)
    made()
    expected = contents(folder / "out")
    assert standings() == [Standing.DONE] * 3
    for other in TIMES.values():  # journal, outputs and inputs, each older or newer than the rest
        at(other, *folder.glob("in/*"))
        assert standings() == [Standing.DONE] * 3
        at(TIMES[when], *folder.glob("out/*"), folder / "out" / NAME)
        assert [each.outcome for each in made(load=never)] == ["skipped"] * 3
    assert contents(folder / "out") == expected


@pytest.mark.parametrize("when", TIMES)
def test_what_is_changed_by_a_clock_set_back_is_seen(folder: Path, when: str) -> None:
    made()
    draw(folder / "in" / "a.png", 9)
    draw(folder / "out" / "b_2x.png", 9)
    at(TIMES[when], folder / "in" / "a.png", folder / "out" / "b_2x.png")
    assert standings() == [Standing.CHANGED, Standing.EDITED, Standing.DONE]
    kept = contents(folder / "out")["b_2x.png"]
    assert [each.outcome for each in made()] == ["done", "skipped", "skipped"]
    assert standings() == [Standing.DONE, Standing.EDITED, Standing.DONE]
    assert contents(folder / "out")["b_2x.png"] == kept


def test_records_count_by_their_order_in_the_journal(folder: Path) -> None:
    """Whatever the times of the files that they are about: the last one counts."""
    made()
    first = contents(folder / "out")
    draw(folder / "in" / "a.png", 9)
    at(YEAR, folder / "in" / "a.png")
    made()
    draw(folder / "in" / "a.png", 0)
    at(140 * YEAR, folder / "in" / "a.png")
    assert standings() == [Standing.CHANGED, Standing.DONE, Standing.DONE]
    made()
    assert contents(folder / "out") == first
