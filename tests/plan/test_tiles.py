"""A TilePlan against canvases painted cell by cell."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.doubles import photograph
from tests.plan import by_cells
from tileup.contracts import Box
from tileup.plan.quadtree import Cuts, Forest
from tileup.plan.tiles import Tile, TilePlan, Tiles


def tile(top: int, left: int, bottom: int, right: int, denoise: float = 0.5) -> Tile:
    return Tile(Box(top, left, bottom, right), depth=0, detail=0.01, denoise=denoise)


def plan(*tiles: Tile, width: int = 30, height: int = 17, stride: int = 8) -> TilePlan:
    """By default 3 rows and 4 columns, both clipped by the picture."""
    return TilePlan(width, height, stride, 2.0, tiles, threshold=0.01)


HALVES = tile(0, 0, 3, 2, 0.25), tile(0, 2, 3, 4, 0.75)


def test_tiles_in_arrays_are_the_tiles_that_were_given() -> None:
    given = [Tile(Box(i, 2 * i, i + 1, 2 * i + 5), i, i / 3, i / 7) for i in range(5)]
    held = Tiles.of(given)
    assert list(held) == given == [held[i] for i in range(5)]
    assert held[-1] == given[-1]
    assert list(held[1:4:2]) == given[1:4:2]
    assert held == tuple(given) == Tiles.of(tuple(given))
    assert hash(held) == hash(Tiles.of(given))
    assert held != tuple(given[:4])
    assert held != held.at_strengths(np.full(5, 0.5))
    assert type(held[2].depth) is int
    assert type(held[2].box.top) is int
    assert type(held[2].detail) is float
    assert Tiles.of(held) is held
    with pytest.raises(IndexError):
        held[5]


@pytest.mark.parametrize(
    ("box", "depth", "strength", "message"),
    [
        ((1, 0, 1, 4), 0, 0.5, "at least one row"),
        ((0, 3, 1, 2), 0, 0.5, "at least one row"),
        ((0, 0, 1, 1), -1, 0.5, "depth"),
        ((0, 0, 1, 1), 0, 1.5, "denoise"),
        ((0, 0, 1, 1), 0, float("nan"), "denoise"),
    ],
)
def test_arrays_hold_no_tile_that_cannot_be(
    box: tuple[int, ...], depth: int, strength: float, message: str
) -> None:
    good = Tiles.of(HALVES)
    with pytest.raises(ValueError, match=message):
        Tiles(
            np.array([*good.boxes.tolist(), box]),
            np.append(good.depth, depth),
            np.append(good.detail, 0.0),
            np.append(good.denoise, strength),
        )


def test_rows_and_columns_are_rounded_up() -> None:
    halves = plan(*HALVES)
    assert (halves.rows, halves.columns) == (3, 4)


def test_denoise_map_has_the_strength_of_the_tile_that_owns_a_cell() -> None:
    expected = np.full((3, 4), 0.25)
    expected[:, 2:] = 0.75
    result = plan(*HALVES).denoise_map()
    assert result.dtype == np.float64
    np.testing.assert_array_equal(result, expected)


def test_strengths_are_distinct_positive_and_descend() -> None:
    columns = [tile(0, i, 3, i + 1, d) for i, d in enumerate((0.2, 0.0, 0.8, 0.2))]
    assert plan(*columns).strengths == (0.8, 0.2)
    assert plan(tile(0, 0, 3, 4, 0.0)).strengths == ()


def test_pixel_boxes_are_clipped_and_partition_the_picture() -> None:
    halves = plan(*HALVES)
    painted = np.zeros((17, 30), int)
    for part in halves.tiles:
        painted[halves.pixel_box(part).index] += 1
    assert (painted == 1).all()
    assert halves.pixel_box(HALVES[1]) == Box(0, 16, 17, 30)


@pytest.mark.parametrize(
    ("tiles", "message"),
    [
        pytest.param((), r"row 0, column 0\) lies in no tile", id="no tiles"),
        pytest.param((tile(0, 0, 3, 3),), r"row 0, column 3\) lies in no tile", id="gap"),
        pytest.param(
            (tile(0, 0, 3, 2), tile(0, 2, 1, 4), tile(2, 2, 3, 4)),
            r"row 1, column 2\) lies in no tile",
            id="hole",
        ),
        pytest.param(
            (tile(0, 0, 3, 4), tile(2, 1, 3, 2)), r"row 2, column 1\) lies in 2", id="overlap"
        ),
        pytest.param((tile(0, 0, 3, 4), tile(0, 0, 3, 4)), "lies in 2 tiles", id="twice"),
        pytest.param((tile(0, 0, 3, 5),), "leaves the canvas", id="too wide"),
        pytest.param((tile(0, 0, 4, 4),), "leaves the canvas", id="too high"),
        pytest.param((tile(0, -1, 3, 4),), "leaves the canvas", id="negative"),
    ],
)
def test_what_is_no_partition_cannot_be_made(tiles: tuple[Tile, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan(*tiles)


cells = st.integers(0, 5)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(cells, cells, cells, cells), max_size=6))
def test_partition_check_agrees_with_painting(corners: list[tuple[int, int, int, int]]) -> None:
    tiles = [tile(t, left, t + h + 1, left + w + 1) for t, left, h, w in corners]
    tiles.append(tile(0, 0, 2, 6))
    painted = np.zeros((12, 12), int)
    for part in tiles:
        painted[part.box.index] += 1
    outside = painted[6:].any() or painted[:, 6:].any()
    if not outside and (painted[:6, :6] == 1).all():
        plan(*tiles, width=6, height=6, stride=1)
    else:
        with pytest.raises(ValueError, match=r"lies in|leaves the canvas"):
            plan(*tiles, width=6, height=6, stride=1)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_guillotine_cut_is_accepted_and_any_loss_is_refused(data: st.DataObject) -> None:
    boxes = [Box(0, 0, 40, 25)]
    for _ in range(data.draw(st.integers(0, 8))):
        boxes += cut(boxes.pop(data.draw(st.integers(0, len(boxes) - 1))), data)
    tiles = [Tile(box, 0, 0.0, 0.5) for box in boxes]
    whole = plan(*tiles, width=25, height=40, stride=1)
    assert sum(t.box.area for t in whole.tiles) == 1000
    tiles.pop(data.draw(st.integers(0, len(tiles) - 1)))
    with pytest.raises(ValueError, match="lies in no tile"):
        plan(*tiles, width=25, height=40, stride=1)


def cut(box: Box, data: st.DataObject) -> list[Box]:
    if box.height > 1 and data.draw(st.booleans()):
        y = data.draw(st.integers(box.top + 1, box.bottom - 1))
        return [replace(box, bottom=y), replace(box, top=y)]
    if box.width > 1:
        x = data.draw(st.integers(box.left + 1, box.right - 1))
        return [replace(box, right=x), replace(box, left=x)]
    return [box]


@pytest.mark.parametrize("denoise", [-0.01, 1.01, float("nan")])
def test_strengths_outside_their_range_are_refused(denoise: float) -> None:
    with pytest.raises(ValueError, match="denoise"):
        tile(0, 0, 1, 1, denoise)


def test_negative_depth_is_refused() -> None:
    with pytest.raises(ValueError, match="depth"):
        Tile(Box(0, 0, 1, 1), -1, 0.0, 0.5)


@pytest.mark.parametrize(
    "change", [{"width": 0}, {"height": 0}, {"stride": 0}, {"scale": 0.0}, {"scale": float("nan")}]
)
def test_sizes_that_cannot_be_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        replace(plan(*HALVES), **change)


def test_dict_is_in_clipped_output_pixels() -> None:
    content = plan(*HALVES).to_dict()
    assert {name: content[name] for name in ("width", "height", "stride", "scale")} == {
        "width": 30,
        "height": 17,
        "stride": 8,
        "scale": 2.0,
    }
    assert content["tiles"] == [
        {"x": 0, "y": 0, "width": 16, "height": 17, "depth": 0, "detail": 0.01, "denoise": 0.25},
        {"x": 16, "y": 0, "width": 14, "height": 17, "depth": 0, "detail": 0.01, "denoise": 0.75},
    ]


def test_dict_survives_json_and_leads_back() -> None:
    halves = plan(*HALVES)
    assert TilePlan.from_dict(json.loads(json.dumps(halves.to_dict()))) == halves


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("stride", 0),
        ("stride", 2.5),
        ("width", None),
        ("width", True),
        ("width", 2**70),
        ("scale", "2"),
        ("tiles", 3),
    ],
)
def test_dicts_that_are_no_plan_are_refused(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=name):
        TilePlan.from_dict(plan(*HALVES).to_dict() | {name: value})


@pytest.mark.parametrize("name", ["x", "y", "width", "height", "depth"])
def test_numbers_of_a_tile_that_no_array_holds_are_refused(name: str) -> None:
    content = plan(*HALVES).to_dict()
    first, second = content["tiles"]
    with pytest.raises(ValueError, match=f"{name} must be at most"):
        TilePlan.from_dict(content | {"tiles": [first | {name: 2**70}, second]})


@pytest.mark.parametrize("change", [{"width": 17}, {"x": 1}, {"height": 16}, {"detail": "much"}])
def test_dicts_with_a_wrong_tile_are_refused(change: dict[str, object]) -> None:
    content = plan(*HALVES).to_dict()
    first, second = content["tiles"]
    with pytest.raises(ValueError, match=r"multiples of 8|lies in|detail"):
        TilePlan.from_dict(content | {"tiles": [first | change, second]})


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.floats(0, 0.2))
def test_the_grid_is_the_map_painted_tile_by_tile(width: int, height: int, limit: float) -> None:
    pixels = photograph(max(height // 2, 1), max(width // 2, 1))
    cuts = Cuts.of(width, height, stride=2, tile=64, min_tile=4)
    made = Forest.of(cuts.measured(pixels, "gradient"), cuts, 0.2, 0.8).plan(limit)
    np.testing.assert_array_equal(made.denoise_map(), by_cells.denoise_map(made))
    assert made.grid.values.size <= len(made.tiles) ** 2
