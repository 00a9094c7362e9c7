"""Edits by hand and by rule."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.doubles import photograph
from tileup.errors import UsageError
from tileup.plan.advice import one_sided
from tileup.plan.edits import (
    MAX_LEVELS,
    HandDrawn,
    by_rule,
    cut,
    edited,
    quantised,
    read_drawn,
    skipped,
    with_map,
    with_mask,
)
from tileup.plan.quadtree import Cuts, Forest
from tileup.plan.tiles import TilePlan
from tileup.settings.values import Settings

SMALL = Settings(tile=64, min_tile=8)


def plan(width: int = 200, height: int = 120, threshold: float | str = "auto") -> TilePlan:
    pixels = photograph(max(height // 2, 1), max(width // 2, 1))
    cuts = Cuts.of(width, height, stride=2, tile=64, min_tile=8)
    return Forest.of(cuts.measured(pixels, "gradient"), cuts, 0.2, 0.8).plan(threshold)


def test_the_plan_that_is_edited_has_several_levels() -> None:
    assert len({tile.depth for tile in plan().tiles}) > 2


def depths(made: TilePlan) -> dict[int, set[float]]:
    found: dict[int, set[float]] = {}
    for tile in made.tiles:
        found.setdefault(tile.depth, set()).add(tile.denoise)
    return found


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ({"skip_smaller": "16"}, {3}),
        ({"skip_smaller": "25%"}, {3}),
        ({"skip_smaller": "26%"}, {2, 3}),
        ({"skip_larger": "70%"}, {0}),
        ({"skip_larger": "32"}, {0}),
        ({"skip_larger": "31"}, {0, 1}),
        ({"skip_below": 0.4}, {0}),
        ({"skip_below": 0.41}, {0, 1}),
        ({"skip_below": 1.0}, {0, 1, 2, 3}),
        ({"skip_larger": "70%", "skip_smaller": "10"}, {0, 3}),
        ({}, set()),
    ],
    ids=str,
)
def test_skips_keep_tiles_by_size_and_strength(change: dict, kept: set[int]) -> None:
    before = plan()
    after = skipped(before, replace(SMALL, **change))
    for depth, strengths in depths(after).items():
        expected = 0.0 if depth in kept else pytest.approx(0.2 + 0.2 * depth)
        assert strengths == {expected} if depth in kept else all(s == expected for s in strengths)
    assert [tile.box for tile in after.tiles] == [tile.box for tile in before.tiles]


@pytest.mark.parametrize("text", ["", "a", "-3", "5px", "%", "nan", "inf"])
def test_a_size_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="pixels or a percentage"):
        replace(SMALL, skip_larger=text)


def test_strength_by_area_is_the_formula_of_the_lineage() -> None:
    made = by_rule(plan(), replace(SMALL, denoise_by="area"))
    expected = {0: 0.2, 1: 0.65, 2: 0.7625, 3: 0.790625}
    for depth, strengths in depths(made).items():
        assert strengths == {expected[depth]}


def test_strength_by_detail_follows_the_metric_in_few_levels() -> None:
    made = by_rule(plan(threshold=0.13), replace(SMALL, denoise_by="detail"))
    tiles = sorted(made.tiles, key=lambda tile: tile.detail)
    strengths = [tile.denoise for tile in tiles]
    assert strengths == sorted(strengths)
    assert len(made.strengths) <= MAX_LEVELS
    assert strengths[-1] == 0.8
    assert len(made.strengths) > 2
    for tile in tiles:
        exact = 0.2 + 0.6 * min(tile.detail / made.threshold, 1)
        assert tile.denoise == pytest.approx(exact, abs=0.6 / 14 + 1e-6)


@pytest.mark.parametrize(("height", "width"), [(120, 200), (60, 100), (37, 411), (1, 2)])
def test_white_of_a_mask_is_kept_at_any_size(height: int, width: int) -> None:
    mask = np.zeros((height, width), dtype=np.float32)
    mask[:, : width // 2] = 1
    before = plan()
    after = with_mask(before, mask)
    cells = after.denoise_map()
    middle = 50 * (width // 2 * 2) / width
    assert (cells[:, : int(middle) - 1] == 0).all()
    changed = cells != before.denoise_map()
    assert not changed[:, int(np.ceil(middle)) + 1 :].any()
    assert changed.any()


@pytest.mark.parametrize("mask_height", [60, 30, 20, 25, 120, 7])
def test_in_bands_a_mask_keeps_the_same_cells(
    mask_height: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where rows of the mask lie across those of the output."""
    mask = (np.random.default_rng(0).random((mask_height, 41)) < 0.1).astype(np.float32)
    whole = with_mask(plan(), mask).denoise_map()
    monkeypatch.setattr("tileup.plan.edits._BAND", 1)
    np.testing.assert_array_equal(with_mask(plan(), mask).denoise_map(), whole)
    assert 0.1 < (whole == 0).mean() < 0.9


def test_a_mask_follows_its_shape_to_the_cell() -> None:
    rows, columns = np.mgrid[:60, :100]
    disc = ((rows - 30) ** 2 + (columns - 50) ** 2 < 20**2).astype(np.float32)
    after = with_mask(plan(), disc)
    np.testing.assert_array_equal(after.denoise_map() == 0, disc == 1)
    assert 0.1 < disc.mean() < 0.4


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(1, 90),
    height=st.integers(1, 60),
    mask_width=st.integers(1, 90),
    mask_height=st.integers(1, 60),
    seed=st.integers(0, 99),
)
def test_every_white_pixel_is_kept_and_cells_without_one_are_not(
    width: int, height: int, mask_width: int, mask_height: int, seed: int
) -> None:
    made = plan(width, height, threshold=0.02)
    rng = np.random.default_rng(seed)
    mask = (rng.random((mask_height, mask_width)) < 0.3).astype(np.float32)
    kept = with_mask(made, mask).denoise_map() == 0
    # Wholly inside white pixels of the mask; and wholly inside black ones.
    across = np.arange(width + 1) * mask_width / width
    down = np.arange(height + 1) * mask_height / height
    edges = [
        (np.floor(ends[:-1] + 1e-9).astype(int), np.ceil(ends[1:] - 1e-9).astype(int))
        for ends in (down, across)
    ]
    (top, bottom), (left, right) = edges
    for row in range(height):
        for column in range(width):
            if mask[top[row] : bottom[row], left[column] : right[column]].min() == 1:
                assert kept[row // made.stride, column // made.stride]
    for row, column in np.argwhere(kept):
        rows, columns = (slice(at * made.stride, (at + 1) * made.stride) for at in (row, column))
        under = mask[top[rows][0] : bottom[rows][-1], left[columns][0] : right[columns][-1]]
        assert under.max() == 1, "there is white somewhere under a kept cell"
    assert kept[0, 0] or mask[: bottom[: made.stride][-1], : right[: made.stride][-1]].min() == 0
    if not mask.any():
        assert not kept.any()


@settings(max_examples=40, deadline=None)
@given(
    width=st.integers(1, 150),
    height=st.integers(1, 90),
    seed=st.integers(0, 99),
    side=st.integers(1, 9),
)
def test_cutting_gives_every_cell_its_strength(
    width: int, height: int, seed: int, side: int
) -> None:
    made = plan(width, height, threshold=0.02)
    rng = np.random.default_rng(seed)
    coarse = rng.choice([0.0, 0.25, 0.5], (made.rows // side + 1, made.columns // side + 1))
    wanted = coarse.repeat(side, 0).repeat(side, 1)[: made.rows, : made.columns]
    np.testing.assert_array_equal(cut(made, wanted).denoise_map(), wanted)


def test_a_map_replaces_the_strengths() -> None:
    grey = np.repeat(np.array([[0.0, 0.3, 1.0]], dtype=np.float32), 5, axis=0)
    made = with_map(plan(192, 96), grey)
    cells = made.denoise_map()
    np.testing.assert_allclose(cells[10, [5, 48, 90]], [0.0, 0.3, 1.0], atol=1e-6)
    assert len(made.strengths) == 2


def test_a_map_has_at_most_eight_strengths_from_its_lowest_to_its_highest() -> None:
    ramp = np.linspace(0.1, 0.9, 500)[None]
    levels = np.unique(quantised(ramp))
    np.testing.assert_allclose(levels, np.linspace(0.1, 0.9, 8), atol=1e-6)
    assert np.abs(quantised(ramp) - ramp).max() <= 0.8 / 14 + 1e-6
    few = np.array([[0.11, 0.5, 0.77]])
    np.testing.assert_array_equal(quantised(few), few)


def test_edits_come_in_order_rule_map_skips_mask() -> None:
    mask = np.zeros((2, 2), dtype=np.float32)
    mask[0, 0] = 1
    grey = np.array([[0.9, 0.9], [0.9, 0.1]], dtype=np.float32)
    made = edited(
        plan(192, 192), replace(SMALL, denoise_by="area", skip_below=0.5), HandDrawn(mask, grey)
    )
    cells = made.denoise_map()
    assert cells[10, 10] == 0, "masked"
    assert cells[10, 80] == pytest.approx(0.9), "by the map"
    assert cells[80, 80] == 0, "below skip-below"


@pytest.mark.parametrize("beneath", [0, 255])
def test_a_layer_counts_where_it_is_painted(tmp_path: Path, beneath: int) -> None:
    """White strokes on a transparent layer, whatever colour lies under the transparency."""
    layer = np.full((20, 30, 4), beneath, np.uint8)
    layer[..., 3] = 0
    layer[5:9, 10:20] = 255
    Image.fromarray(layer).save(tmp_path / "mask.png")
    drawn = read_drawn(Settings(mask=str(tmp_path / "mask.png")))
    assert drawn.mask is not None
    expected = np.zeros((20, 30))
    expected[5:9, 10:20] = 1
    np.testing.assert_array_equal(drawn.mask, expected)
    assert list(one_sided(drawn)) == []


@pytest.mark.parametrize(
    ("mask", "denoise_map", "words"),
    [
        (1.0, None, "all of it is white, so the whole picture is kept"),
        (0.4, None, "none of it is white, so nothing is kept"),
        (None, 0.0, "all of it is black or transparent, so the whole picture is kept"),
    ],
)
def test_what_keeps_all_or_nothing_is_said(
    mask: float | None, denoise_map: float | None, words: str
) -> None:
    greys = [
        None if each is None else np.full((4, 5), each, np.float32) for each in (mask, denoise_map)
    ]
    (sentence,) = one_sided(HandDrawn(*greys))
    assert words in sentence
    mixed = np.float32([[0, 1]])
    assert list(one_sided(HandDrawn(mixed, mixed))) == []
