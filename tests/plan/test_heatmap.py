"""What a heatmap shows: sizes, colours in the order of strengths, a legend inside its strip."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tileup.contracts import Box
from tileup.plan import heatmap as module
from tileup.plan.heatmap import LONGEST, NARROWEST, SHORTEST, colours, heatmap
from tileup.plan.tiles import Tile, TilePlan


def striped(strengths: list[float], width: int = 800, height: int = 640) -> TilePlan:
    """Upright stripes of equal width, one for each strength."""
    edges = np.linspace(0, width, len(strengths) + 1).round().astype(int).tolist()
    tiles = [
        Tile(Box(0, left, height, right), 0, 0.0, strength)
        for left, right, strength in zip(edges, edges[1:], strengths, strict=False)
    ]
    return TilePlan(width, height, 1, 2.0, tuple(tiles), 0.0)


def checked(width: int, height: int, side: int) -> TilePlan:
    """Squares of `side` pixels, weak and strong in turn."""
    tiles = [
        Tile(Box(y, x, min(y + 1, -(-height // side)), x + 1), 0, 0.0, (0.2, 0.8)[(x + y) % 2])
        for y in range(-(-height // side))
        for x in range(-(-width // side))
    ]
    return TilePlan(width, height, side, 2.0, tuple(tiles), 0.0)


def grey(height: int = 64, width: int = 80, level: float = 0.5) -> NDArray[np.float32]:
    return np.full((height, width, 3), level, np.float32)


def drawn(plan: TilePlan, pixels: NDArray[np.float32] | None = None) -> NDArray[np.float64]:
    image = heatmap(grey() if pixels is None else pixels, plan, min_denoise=0.2, max_denoise=0.8)
    assert image.mode == "RGB"
    return np.asarray(image, np.float64)


def luminance(colour: NDArray[np.float64]) -> NDArray[np.float64]:
    """Linear light, 0-1, of sRGB in 0-255."""
    value = colour / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return linear @ np.array([0.2126, 0.7152, 0.0722])


def along_the_map(colour: NDArray[np.float64]) -> float:
    """Position on the map whose hue and saturation are nearest to a shaded colour's."""
    positions = np.linspace(0, 1, 201)
    candidates = colours(positions)
    cosine = candidates @ colour / np.linalg.norm(candidates, axis=1)
    return float(positions[cosine.argmax()])


# Sizes


@pytest.mark.parametrize(
    ("width", "height"),
    [
        pytest.param(1, 1, id="one pixel"),
        pytest.param(7, 5000, id="a thread"),
        pytest.param(5000, 7, id="a thread lying"),
        pytest.param(1, 30000, id="one pixel wide"),
        pytest.param(639, 100, id="a little too small"),
        pytest.param(640, 480, id="as it is"),
        pytest.param(1900, 2048, id="too high with its legend"),
        pytest.param(2049, 2049, id="a little too large"),
        pytest.param(8000, 8000, id="large"),
    ],
)
@pytest.mark.parametrize("strengths", [[0.2, 0.8], [0.0, 0.2]])
def test_pages_have_bounded_sizes(width: int, height: int, strengths: list[float]) -> None:
    plan = striped(strengths if width > 1 else strengths[:1], width, height)
    page = heatmap(grey(5, 9), plan, min_denoise=0.2, max_denoise=0.8)
    legend = module._legend(plan, module._Ends(0.2, 0.8), page.width)
    assert max(page.size) <= LONGEST
    assert max(page.width, page.height - legend.height) >= SHORTEST
    assert page.width >= NARROWEST
    assert page.height > legend.height


def test_middling_pictures_keep_their_size() -> None:
    assert drawn(striped([0.2, 0.8], 801, 643)).shape[1] == 801
    assert np.ptp(drawn(striped([0.2, 0.8], 801, 643))[642]) > 0


def test_small_pictures_are_enlarged_to_equal_squares() -> None:
    pixels = np.random.default_rng(0).random((4, 5, 3), np.float32)
    plan = striped([0.5], 5, 4)
    page = drawn(plan, pixels)[: 4 * 128]
    assert page.shape[1] == 5 * 128
    squares = page.reshape(4, 128, 5, 128, 3)
    assert (squares == squares[:, :1, :, :1]).all()


def test_any_size_of_picture_will_do() -> None:
    plan = checked(800, 640, 80)
    expected = drawn(plan, grey(1, 1))
    for size in ((640, 800), (64, 80), (1300, 1700)):
        np.testing.assert_array_equal(drawn(plan, grey(*size)), expected)


# Colours


def test_lightness_rises_evenly_along_the_map() -> None:
    light = luminance(colours(np.linspace(0, 1, 41)))
    steps = np.diff(116 * np.cbrt(light) - 16)
    assert steps.min() > 0
    assert steps.max() < 2.5 * steps.min()


def test_map_is_clamped_to_its_ends() -> None:
    np.testing.assert_array_equal(colours(np.array([-1.0, 2.0])), colours(np.array([0.0, 1.0])))


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_stronger_tiles_are_further_along_the_map(noise: float) -> None:
    strengths = [0.2, 0.35, 0.5, 0.65, 0.8]
    pixels = np.random.default_rng(0).normal(0.5, noise, (640, 800, 3)).astype(np.float32)
    page = drawn(striped(strengths), pixels)[:640]
    means = page.reshape(640, 5, 160, 3).mean((0, 2))
    assert (np.diff(luminance(means)) > 0).all()
    positions = [along_the_map(mean) for mean in means]
    assert positions == sorted(set(positions))
    np.testing.assert_allclose(positions, [0, 0.25, 0.5, 0.75, 1], atol=0.15)


def test_kept_tiles_have_no_colour_and_others_do() -> None:
    page = drawn(striped([0.0, 0.2, 0.8]))[:640]
    saturation = np.ptp(page, axis=2)
    assert (saturation[:, :266] == 0).all()
    assert (saturation[:, 268:] > 30).all()
    assert len(np.unique(page[10:50, 10:50])) > 1, "not hatched"


def test_the_picture_shows_through() -> None:
    pixels = grey(640, 800)
    pixels[:320] = 0.2
    page = drawn(striped([0.0, 0.2, 0.8]), pixels)
    for column in (100, 400, 700):
        assert (
            luminance(page[500, column - 20 : column + 20]).mean()
            > luminance(page[100, column - 20 : column + 20]).mean()
        )


def test_equal_strengths_are_one_colour() -> None:
    page = heatmap(grey(), striped([0.5, 0.5]), min_denoise=0.5, max_denoise=0.5)
    inner = np.asarray(page)[5:600, 5:390]
    assert (inner == inner[0, 0]).all()
    assert along_the_map(inner[0, 0].astype(float)) == pytest.approx(1, abs=0.15)


def test_strengths_outside_the_given_ends_widen_the_map() -> None:
    page = drawn(striped([0.2, 1.0]))[:640]
    assert along_the_map(page[:, 410:].mean((0, 1))) == pytest.approx(1, abs=0.15)
    page = drawn(striped([0.05, 0.2]))[:640]
    low, above = along_the_map(page[:, :390].mean((0, 1))), along_the_map(page[300, 600])
    assert low < above


def test_borders_are_one_pixel_wide_and_darker() -> None:
    page = drawn(checked(800, 640, 80))[:640].sum(2)
    edges = np.arange(80, 800, 80)
    inside = np.setdiff1d(np.arange(800), edges)
    row = page[40]
    assert all(row[x] < 0.6 * max(row[x - 1], row[x + 1]) for x in edges)
    tiles = np.split(row[inside], np.cumsum([80] + [79] * 8))
    assert all(np.ptp(tile) == 0 for tile in tiles)


def test_borders_give_way_where_tiles_are_too_small_for_them() -> None:
    page = drawn(checked(800, 640, 4))[:640]
    assert len(np.unique(page.reshape(-1, 3), axis=0)) == 2


# The legend


@pytest.mark.parametrize("width", [NARROWEST, 640, 1201, LONGEST])
@pytest.mark.parametrize(
    "strengths",
    [
        pytest.param([0.5], id="one"),
        pytest.param([0.0], id="all kept"),
        pytest.param([0.2, 0.4, 0.6, 0.8], id="four"),
        pytest.param([0.0, 0.2, 0.21, 0.22, 0.8], id="close"),
        pytest.param([i / 300 for i in range(301)], id="301"),
    ],
)
def test_nothing_of_the_legend_touches_its_edges(width: int, strengths: list[float]) -> None:
    plan = striped(strengths, 1204, 640)
    strip = np.asarray(module._legend(plan, module._ends(plan, 0.2, 0.8), width), int)
    assert strip.shape[1] == width
    blank = np.abs(strip - strip[0, 0]).sum(2) == 0
    edge = 6
    assert blank[:edge].all()
    assert blank[-edge:].all()
    assert blank[:, :edge].all()
    assert blank[:, -edge:].all()
    assert (~blank).sum() > 1000


def test_shares_are_parts_of_the_picture_not_of_the_cells() -> None:
    tiles = Tile(Box(0, 0, 1, 1), 0, 0.0, 0.8), Tile(Box(0, 1, 1, 2), 0, 0.0, 0.2)
    plan = TilePlan(10, 8, 8, 1.0, tiles, 0.0)
    assert module._shares(plan) == {0.2: pytest.approx(0.2), 0.8: pytest.approx(0.8)}


def test_numbers_stand_apart_and_both_ends_are_named() -> None:
    kind = module._Type.of(LONGEST)
    strengths = {0.2 + i * 0.001: 1 / 601 for i in range(601)}
    marks = module._marks(strengths, module._Ends(0.2, 0.8), 50, 1950)
    shown = module._apart(marks, kind)
    assert {"0.20", "0.80"} <= {mark.strength for mark in shown}
    assert 5 < len(shown) < 40
    widest = kind.font.getbbox("100%")[2]
    places = sorted(mark.x for mark in shown)
    assert min(np.diff(places)) > widest


def test_ticks_stand_under_the_colour_of_their_strength() -> None:
    plan = striped([0.2, 0.4, 0.6, 0.8])
    strip = np.asarray(module._legend(plan, module._Ends(0.2, 0.8), 800), float)
    bottom = module._Type.of(800).bar[1]
    ticks = np.flatnonzero((strip[bottom + 2] == module._FAINT).all(1))
    assert len(ticks) == 4
    expected = colours(np.linspace(0, 1, 4))
    np.testing.assert_allclose(strip[bottom - 2, ticks], expected, atol=3)


def test_legend_is_written() -> None:
    kind = module._Type.of(800)
    strip = np.asarray(module._legend(striped([0.2, 0.8]), module._Ends(0.2, 0.8), 800), int)
    for top in (kind.margin, *kind.labels):
        assert np.ptp(strip[top : top + kind.size], axis=(0, 1)).max() > 100
