"""The quadtree against a recursive one, and `auto` against trying every threshold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tileup.plan.detail import DetailMap
from tileup.plan.quadtree import NOISE_FLOOR, Cuts, Forest
from tileup.plan.tiles import TilePlan

Leaf = tuple[int, int, int, int, int, float]
"""Top, left, bottom, right in cells, depth, detail."""


@dataclass(frozen=True, eq=False)
class Job:
    """One plan of a `Forest`, and the recursive tree for it, written from its description."""

    detail: DetailMap
    width: int
    height: int
    stride: int = 2
    tile: int = 64
    min_tile: int = 8
    least: float = 0.2
    most: float = 0.8

    def plan(self, threshold: float | str = "auto", noise_floor: float | None = None) -> TilePlan:
        cuts = Cuts.of(self.width, self.height, self.stride, self.tile, self.min_tile)
        return Forest.of(self.detail, cuts, self.least, self.most, noise_floor).plan(threshold)

    @property
    def root(self) -> int:
        return max(1, int(self.tile / self.stride + 0.5))

    @property
    def depth(self) -> int:
        depth, side = 0, self.root
        while side // 2 >= max(1, int(self.min_tile / self.stride + 0.5)):
            depth, side = depth + 1, side // 2
        return depth

    def denoise(self, depth: int) -> float:
        part = depth / self.depth if self.depth else 1.0
        return self.least + (self.most - self.least) * part

    @cache  # noqa: B019 - a job lives as long as its test
    def measure(self, top: int, left: int, bottom: int, right: int) -> float:
        y = self.detail.height / self.height
        x = self.detail.width / self.width
        box = (
            top * self.stride * y,
            left * self.stride * x,
            min(bottom * self.stride, self.height) * y,
            min(right * self.stride, self.width) * x,
        )
        return round(float(self.detail.mean(np.array([box]))[0]), 6)

    def leaves(self, threshold: float) -> list[Leaf]:
        roots = (
            leaf
            for top in range(0, -(-self.height // self.stride), self.root)
            for left in range(0, -(-self.width // self.stride), self.root)
            for leaf in self.below(top, left, self.root, self.root, 0, threshold)
        )
        return sorted(roots)

    def below(
        self, top: int, left: int, height: int, width: int, depth: int, threshold: float
    ) -> Iterator[Leaf]:
        rows, columns = -(-self.height // self.stride), -(-self.width // self.stride)
        if top >= rows or left >= columns:
            return
        bottom, right = min(top + height, rows), min(left + width, columns)
        value = self.measure(top, left, bottom, right)
        if depth == self.depth or value <= threshold:
            yield top, left, bottom, right, depth, value
            return
        h, w = -(-height // 2), -(-width // 2)
        for y, dy in ((top, h), (top + h, height - h)):
            for x, dx in ((left, w), (left + w, width - w)):
                yield from self.below(y, x, dy, dx, depth + 1, threshold)

    def pixels(self, leaf: Leaf) -> int:
        rows = min(leaf[2] * self.stride, self.height) - leaf[0] * self.stride
        return rows * (min(leaf[3] * self.stride, self.width) - leaf[1] * self.stride)


def textured(height: int, width: int, seed: int = 0) -> NDArray[np.float32]:
    """Noise whose strength differs from block to block, so that detail comes in all sizes."""
    rng = np.random.default_rng(seed)
    strength = np.ones((1, 1))
    for side in (32, 8):
        blocks = rng.random((height // side + 1, width // side + 1)) ** 3
        strength = strength * np.kron(blocks, np.ones((side, side)))[:height, :width]
    noise = strength[..., None] * rng.normal(size=(height, width, 3))
    return np.clip(0.5 + noise, 0, 1).astype(np.float32)


def gradient(height: int, width: int, seed: int = 0) -> DetailMap:
    return DetailMap.of(textured(height, width, seed), "gradient")


def as_leaves(plan: TilePlan) -> list[Leaf]:
    return [
        (t.box.top, t.box.left, t.box.bottom, t.box.right, t.depth, t.detail) for t in plan.tiles
    ]


# Against the recursion


@pytest.mark.parametrize("threshold", [0.0, 0.01, 0.05, 0.1, 9.0])
@pytest.mark.parametrize("metric", ["gradient", "variance"])
def test_equals_the_recursive_tree(threshold: float, metric: str) -> None:
    scale = 1.0 if metric == "gradient" else 300.0
    job = Job(DetailMap.of(textured(90, 110), metric), width=220, height=180, tile=100)
    plan = job.plan(threshold * scale)
    assert as_leaves(plan) == job.leaves(threshold * scale)
    assert plan.threshold == threshold * scale


def test_equals_the_recursive_tree_where_the_axes_differ_in_scale() -> None:
    job = Job(gradient(50, 110), width=333, height=77, stride=3, tile=60, min_tile=6)
    plan = job.plan(0.05)
    assert as_leaves(plan) == job.leaves(0.05)
    assert len({t.depth for t in plan.tiles}) > 2


@settings(max_examples=150, deadline=None)
@given(
    long=st.integers(1, 5000),
    short=st.integers(1, 17),
    upright=st.booleans(),
    scale=st.floats(1, 8),
    stride=st.integers(1, 16),
    smallest=st.integers(1, 40),
    ratio=st.floats(1, 40),
    threshold=st.one_of(st.just("auto"), st.floats(0, 0.5)),
    strengths=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
@example(1, 1, False, 1.0, 1, 1, 1.0, "auto", (0.2, 0.8))
@example(1, 1, False, 4.0, 16, 40, 8.0, "auto", (0.2, 0.8))
@example(5000, 17, False, 2.0, 8, 32, 8.0, "auto", (0.0, 1.0))
@example(5000, 17, True, 2.0, 8, 4, 3.0, "auto", (0.5, 0.5))
def test_every_size_gives_a_sound_plan(
    long: int,
    short: int,
    upright: bool,
    scale: float,
    stride: int,
    smallest: int,
    ratio: float,
    threshold: float | str,
    strengths: tuple[float, float],
) -> None:
    assume(long * short / min(max(smallest, stride), short) / max(smallest, stride) < 1000)
    width, height = (short, long) if upright else (long, short)
    detail = gradient(max(1, round(height / scale)), max(1, round(width / scale)))
    least, most = sorted(round(strength, 6) for strength in strengths)
    job = Job(detail, width, height, stride, round(smallest * ratio), smallest, least, most)
    plan = job.plan(threshold)
    assert as_leaves(plan) == job.leaves(plan.threshold)
    assert sum(plan.pixel_box(tile).area for tile in plan.tiles) == width * height
    assert all(tile.denoise == round(job.denoise(tile.depth), 6) for tile in plan.tiles)
    assert all(least <= tile.denoise <= most for tile in plan.tiles)
    assert TilePlan.from_dict(plan.to_dict()) == plan


# Shape


def test_tiles_are_small_where_there_is_texture_and_whole_where_it_is_flat() -> None:
    pixels = np.full((128, 256, 3), 0.5, np.float32)
    pixels[:, 128:] = np.random.default_rng(0).random((128, 128, 3))
    plan = Job(DetailMap.of(pixels, "gradient"), width=512, height=256).plan(0.05)
    flat = [t for t in plan.tiles if plan.pixel_box(t).right <= 256 - 64]
    busy = [t for t in plan.tiles if plan.pixel_box(t).left >= 256]
    assert {(t.box.width, t.denoise) for t in flat} == {(32, 0.2)}
    assert {(t.box.width, t.denoise) for t in busy} == {(4, 0.8)}


@pytest.mark.parametrize("metric", ["gradient", "variance"])
@pytest.mark.parametrize("noise", [0.0, 0.001])
def test_a_flat_picture_stays_whole(metric: str, noise: float) -> None:
    pixels = np.random.default_rng(0).normal(0.4, noise, (96, 160, 3)).astype(np.float32)
    plan = Job(DetailMap.of(pixels, metric), width=320, height=192).plan()
    assert len(plan.tiles) == 15
    assert {tile.denoise for tile in plan.tiles} == {0.2}
    assert plan.threshold == NOISE_FLOOR[metric]


def test_tiles_come_row_by_row() -> None:
    corners = [(t.box.top, t.box.left) for t in Job(gradient(90, 110), 220, 180).plan().tiles]
    assert corners == sorted(corners)
    assert len(corners) > 100


def test_odd_sizes_are_halved_to_whole_cells() -> None:
    plan = Job(gradient(40, 40), width=70, height=70, stride=10, tile=70, min_tile=10).plan(0.0)
    assert sorted({t.box.width for t in plan.tiles}) == [1, 2]
    assert {t.depth for t in plan.tiles} == {2}
    assert {t.denoise for t in plan.tiles} == {0.8}


def test_strength_rises_with_depth_between_fixed_anchors() -> None:
    job = Job(gradient(128, 128), width=256, height=256)
    by_depth = {tile.depth: tile.denoise for tile in job.plan().tiles}
    assert by_depth == {0: 0.2, 1: 0.4, 2: 0.6, 3: 0.8}


def test_a_single_depth_has_max_denoise() -> None:
    job = Job(gradient(64, 64), width=128, height=128, tile=32, min_tile=32)
    for threshold in ("auto", 0.0, 9.0):
        assert {tile.denoise for tile in job.plan(threshold).tiles} == {0.8}


def test_anchors_do_not_depend_on_the_depth_that_the_picture_reaches() -> None:
    job = Job(gradient(128, 128), width=256, height=256)
    values = sorted({leaf[5] for leaf in job.leaves(9.0)})
    plan = job.plan(values[-2])
    assert max(tile.denoise for tile in plan.tiles) in (0.4, 0.6, 0.8)
    assert plan.tiles[0].denoise == 0.2
    assert job.plan(values[-1]).strengths == (0.2,)


@pytest.mark.parametrize("threshold", ["auto", 0.05])
def test_a_mirrored_or_transposed_picture_gives_a_mirrored_or_transposed_plan(
    threshold: float | str,
) -> None:
    pixels = textured(128, 192)

    def strengths(pixels: NDArray[np.float32]) -> NDArray[np.float64]:
        height, width = pixels.shape[:2]
        detail = DetailMap.of(pixels, "gradient")
        return Job(detail, 2 * width, 2 * height).plan(threshold).denoise_map()

    expected = strengths(pixels)
    assert len(np.unique(expected)) == 4
    np.testing.assert_array_equal(strengths(pixels[:, ::-1]), expected[:, ::-1])
    np.testing.assert_array_equal(strengths(pixels[::-1]), expected[::-1])
    np.testing.assert_array_equal(strengths(pixels.transpose(1, 0, 2)), expected.T)


def test_more_threshold_never_makes_a_cell_stronger() -> None:
    job = Job(gradient(90, 110), 220, 180)
    maps = [job.plan(threshold).denoise_map() for threshold in np.linspace(0, 0.3, 12)]
    assert all((weaker <= stronger).all() for stronger, weaker in pairwise(maps))
    assert maps[0].mean() > maps[5].mean() > maps[-1].mean()


# The automatic threshold


def strength_of_quarter(job: Job, boxes: list[Leaf], strengths: list[float]) -> float:
    """Mean strength of the most detailed quarter of the area, the last box counted in part."""
    left = whole = job.width * job.height / 4
    total = 0.0
    for box, strength in sorted(zip(boxes, strengths, strict=True), key=lambda pair: -pair[0][5]):
        part = min(left, job.pixels(box))
        total, left = total + part * strength, left - part
    return total / whole


def best_threshold(job: Job, floor: float) -> float:
    """The largest threshold that reaches the target both ways, by trying all that can differ."""
    everything = {leaf[:4]: leaf for depth in range(job.depth + 1) for leaf in grid(job, depth)}
    finest = list(grid(job, job.depth))
    target = job.least + 0.87 * (job.most - job.least) - 1e-9
    for threshold in sorted({leaf[5] for leaf in everything.values()}, reverse=True):
        if threshold <= floor:
            break
        tiles = job.leaves(threshold)
        owner = np.zeros((job.height, job.width))
        for top, left, bottom, right, depth, _ in tiles:
            owner[top:bottom, left:right] = round(job.denoise(depth), 6)
        of_finest = [float(owner[leaf[0], leaf[1]]) for leaf in finest]
        of_tiles = [round(job.denoise(leaf[4]), 6) for leaf in tiles]
        if (
            strength_of_quarter(job, finest, of_finest) >= target
            and strength_of_quarter(job, tiles, of_tiles) >= target
        ):
            return threshold
    return floor


def grid(job: Job, depth: int) -> Iterator[Leaf]:
    """All boxes that the tree could have at one depth; sides must be powers of two."""
    side = job.root >> depth
    rows, columns = -(-job.height // job.stride), -(-job.width // job.stride)
    for top in range(0, rows, side):
        for left in range(0, columns, side):
            box = top, left, min(top + side, rows), min(left + side, columns)
            yield *box, depth, job.measure(*box)


@pytest.mark.parametrize("seed", [0, 2, 8, 11, 20])
@pytest.mark.parametrize("tile", [32, 64])
@pytest.mark.parametrize("strengths", [(0.2, 0.8), (0.0, 1.0)])
def test_auto_is_the_largest_threshold_that_reaches_its_target(
    seed: int, tile: int, strengths: tuple[float, float]
) -> None:
    least, most = strengths
    job = Job(gradient(117, 130, seed), 260, 234, 2, tile, 16, least, most)
    plan = job.plan()
    best = best_threshold(job, NOISE_FLOOR["gradient"])
    assert plan.threshold > NOISE_FLOOR["gradient"]
    assert as_leaves(plan) == job.leaves(best)
    assert plan.threshold <= best


def test_auto_reaches_its_target_among_the_plans_own_tiles_too() -> None:
    reached = 0
    for seed in range(40):
        job = Job(gradient(57, 70, seed), 140, 114, min_tile=16)
        plan = job.plan()
        strengths = [tile.denoise for tile in plan.tiles]
        strength = strength_of_quarter(job, as_leaves(plan), strengths)
        if plan.threshold > NOISE_FLOOR["gradient"]:
            assert strength >= 0.2 + 0.87 * 0.6 - 1e-9
            reached += 1
    assert reached >= 30


def test_auto_never_goes_below_the_floor() -> None:
    job = Job(gradient(64, 64), 128, 128)
    free = job.plan().threshold
    assert free > 0.01
    assert job.plan(noise_floor=free + 0.01).threshold == free + 0.01
    assert job.plan(noise_floor=0.0).threshold == free


def test_auto_takes_the_floor_when_too_little_of_the_picture_has_detail() -> None:
    pixels = np.full((128, 128, 3), 0.5, np.float32)
    pixels[:32, :32] = np.random.default_rng(0).random((32, 32, 3))
    plan = Job(DetailMap.of(pixels, "gradient"), 256, 256).plan()
    assert plan.threshold == NOISE_FLOOR["gradient"]
    corner = [t for t in plan.tiles if t.box.bottom <= 32 and t.box.right <= 32]
    assert {tile.denoise for tile in corner} == {0.8}
    far = [t for t in plan.tiles if t.box.top >= 64 or t.box.left >= 64]
    assert {tile.denoise for tile in far} == {0.2}


def test_auto_with_equal_strengths_leaves_the_roots_whole() -> None:
    plan = Job(gradient(64, 64), 128, 128, least=0.5, most=0.5).plan()
    assert len(plan.tiles) == 4


def test_the_chosen_threshold_given_by_hand_gives_the_same_plan() -> None:
    job = Job(gradient(90, 110), 220, 180)
    plan = job.plan()
    assert job.plan(float(str(plan.threshold))) == plan


def test_the_noise_floors_of_both_metrics_are_the_same_noise() -> None:
    noise = np.random.default_rng(0).normal(0.5, 0.0022, (300, 300, 3)).astype(np.float32)
    everywhere = np.array([[0.0, 0, 300, 300]])
    for metric, floor in NOISE_FLOOR.items():
        value = DetailMap.of(noise, metric).mean(everywhere)[0]
        assert value == pytest.approx(floor, rel=0.05)


# Refusals


@pytest.mark.parametrize(
    "change",
    [
        {"width": 0},
        {"height": 0},
        {"stride": 0},
        {"tile": 0},
        {"min_tile": 0},
        {"least": -0.1},
        {"most": 1.1},
        {"least": 0.9},
    ],
)
def test_values_that_cannot_be_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"at least 1|strengths must rise"):
        Job(**{"detail": gradient(8, 8), "width": 16, "height": 16} | change).plan()


def test_words_other_than_auto_are_refused() -> None:
    with pytest.raises(ValueError, match="'often'"):
        Job(gradient(8, 8), 16, 16).plan("often")


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 130), (97, 61), (201, 333), (64, 65)])
def test_detail_at_the_cuts_alone_gives_the_plan_of_all_lines(width: int, height: int) -> None:
    pixels = textured(max(height * 2 // 3, 1), max(width * 2 // 3, 1))
    cuts = Cuts.of(width, height, stride=2, tile=64, min_tile=8)
    everywhere = Forest.of(DetailMap.of(pixels, "gradient"), cuts, 0.2, 0.8)
    at_cuts = Forest.of(cuts.measured(pixels, "gradient"), cuts, 0.2, 0.8)
    for threshold in ("auto", 0.0, 0.02, 9.0):
        assert at_cuts.plan(threshold) == everywhere.plan(threshold)


@pytest.mark.parametrize("metric", NOISE_FLOOR)
def test_at_the_highest_detail_roots_are_whole(metric: str) -> None:
    cuts = Cuts.of(256, 192, stride=2, tile=64, min_tile=8)
    forest = Forest.of(cuts.measured(textured(96, 128), metric), cuts, 0.2, 0.8)
    assert forest.highest == max(tile.detail for tile in forest.plan(0.0).tiles)
    assert {tile.depth for tile in forest.plan(forest.highest).tiles} == {0}
