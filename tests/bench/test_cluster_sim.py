"""The simulated cluster against closed forms, and the rule it has in common with the real one."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from bench import spread
from bench.cluster_sim import COUNTS, IDEAL, MEASURED, World, compared, figure, fixed, pulled, table

EQUAL = [1.0] * 96
UNEQUAL = [random.Random(7).lognormvariate(0, 0.8) for _ in range(400)]


@pytest.mark.parametrize("count", [1, 2, 3, 32])
def test_equal_pictures_and_workers_take_what_they_must(count: int) -> None:
    ran = pulled(EQUAL, count, IDEAL)
    assert ran.makespan == pytest.approx(len(EQUAL) / count)
    assert ran.utilisation == pytest.approx(1)
    assert ran.half == pytest.approx(0)


@pytest.mark.parametrize("count", [1, 2, 7, 64])
@pytest.mark.parametrize("way", [pulled, fixed])
def test_no_run_is_faster_than_its_work_or_its_longest_picture(count: int, way: object) -> None:
    ran = way(UNEQUAL, count, IDEAL)  # type: ignore[operator]
    assert ran.busy == pytest.approx(sum(UNEQUAL))
    assert ran.makespan >= max(sum(UNEQUAL) / count, max(UNEQUAL)) - 1e-9


@pytest.mark.parametrize("count", [2, 7, 64])
def test_pulling_one_by_one_keeps_grahams_bound(count: int) -> None:
    ran = pulled(UNEQUAL, count, IDEAL, ahead=1)
    assert ran.makespan <= sum(UNEQUAL) / count + max(UNEQUAL)


def test_one_worker_takes_the_sum_of_all() -> None:
    for way in (pulled, fixed):
        assert way(UNEQUAL, 1, IDEAL).makespan == pytest.approx(sum(UNEQUAL))
    slow = replace(IDEAL, speeds=(0.5,))
    assert pulled(UNEQUAL, 1, slow).makespan == pytest.approx(2 * sum(UNEQUAL))


def test_every_picture_is_drawn_however_many_workers_fail() -> None:
    failing = replace(IDEAL, failing=0.3)
    for count in (1, 5, 50):
        ran = pulled(UNEQUAL, count, failing)
        assert ran.lost > 0.2 * len(UNEQUAL)
        assert ran.busy == pytest.approx(sum(UNEQUAL)), "and what is kept is kept once"
        assert fixed(UNEQUAL, count, failing).lost == ran.lost, "the same fates"


def test_pulling_is_never_worse_where_workers_differ(tmp_path: Path) -> None:
    rows = compared(UNEQUAL * 20, World())
    assert [count for count, _, _ in rows] == [*COUNTS]
    for count, pull, shares in rows[1:]:
        assert pull.utilisation > shares.utilisation, count
    assert len(table(rows, 1.0).splitlines()) == len(COUNTS) + 2
    figure(rows, tmp_path / "f.svg")
    assert (tmp_path / "f.svg").read_text().count("<polyline") == 2


def test_the_times_are_measured_ones() -> None:
    times = json.loads(MEASURED.read_text())
    assert len(times) >= 24
    assert all(each > 0 for each in times)


def test_cards_stop_paying_where_the_link_is_full() -> None:
    """The closed form against the step itself."""
    seconds, moved, link, windows = 0.1, 2_000_000, 1.25e9, 6400
    cards = spread.most(seconds, moved, link)
    assert cards == pytest.approx(62.5)
    full = windows * moved / link
    assert spread.step(seconds, windows, moved, link, 50) == pytest.approx(seconds * windows / 50)
    assert spread.step(seconds, windows, moved, link, 64) == pytest.approx(full)
    assert spread.step(seconds, windows, moved, link, 512) == pytest.approx(full)
    assert spread.step(seconds, windows, moved, 1.0, 1) == seconds * windows, "nothing is moved"


def test_windows_of_a_gigapixel_cover_it() -> None:
    latents = spread.Latents("any", 4)
    side = latents.windows(spread.GIGAPIXEL) ** 0.5
    reach = side * (latents.window - latents.overlap) + latents.overlap
    assert reach >= spread.GIGAPIXEL**0.5 > reach - (latents.window - latents.overlap)
