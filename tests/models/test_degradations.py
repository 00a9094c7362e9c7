"""How small pictures come about: how often what happens, and that a number decides it."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from models.training import degradations
from models.training.degradations import (
    BLOCK,
    QUALITY,
    QUALITY_BEFORE,
    compressed,
    compressed_elsewhere,
    degraded,
    noisy,
    sharpened,
    softened,
)
from models.training.samples import Pictures, Recipe, sample

COUNT = 400


@pytest.fixture(scope="module")
def crop(pictures: Pictures) -> Image.Image:
    return pictures["plant"][0].convert("RGB").crop((0, 0, 64, 64))


def test_half_are_shrunk_cleanly_and_the_others_are_not(crop: Image.Image) -> None:
    clean = np.asarray(crop.resize((32, 32), Image.Resampling.BICUBIC))
    found = [degraded(crop, 32, np.random.default_rng(number)) for number in range(COUNT)]
    assert all(each.size == (32, 32) for each in found)
    share = np.mean([np.array_equal(np.asarray(each), clean) for each in found])
    assert share == pytest.approx(degradations.CLEAN, abs=0.08)


@pytest.mark.parametrize("clean", [0.0, 0.2, 1.0])
def test_the_share_of_clean_ones_is_the_asked_one(crop: Image.Image, clean: float) -> None:
    plain = np.asarray(crop.resize((32, 32), Image.Resampling.BICUBIC))
    found = [degraded(crop, 32, np.random.default_rng(number), clean) for number in range(COUNT)]
    share = np.mean([np.array_equal(np.asarray(each), plain) for each in found])
    assert share == pytest.approx(clean, abs=0.08)


def test_the_number_decides_everything(pictures: Pictures) -> None:
    recipe = Recipe(crop=32, soft=0.5)
    for number in range(20):
        one, two = (sample(pictures, 5, number, recipe) for _ in range(2))
        assert np.array_equal(one, two)
    assert not np.array_equal(sample(pictures, 5, 0, recipe), sample(pictures, 6, 0, recipe))


def test_jpeg_has_the_whole_range_of_qualities_and_some_were_compressed_before(
    crop: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[int] = []
    original = Image.Image.save

    def spy(
        self: Image.Image, fp: io.BytesIO, format_: str, quality: int, subsampling: str
    ) -> None:
        saved.append(quality)
        original(self, fp, format_, quality=quality, subsampling=subsampling)

    monkeypatch.setattr(Image.Image, "save", spy)
    times: list[int] = []
    last: list[int] = []
    first: list[int] = []
    for number in range(3 * COUNT):
        saved.clear()
        degraded(crop, 16, np.random.default_rng(number))
        times.append(len(saved))
        last += [saved[-1]] if saved else []
        first += [saved[0]] if len(saved) == 2 else []
    assert (min(last), max(last)) == QUALITY
    assert min(first) >= QUALITY_BEFORE[0]
    compressed_ = np.mean([each > 0 for each in times])
    share = degradations.COMPRESSED * (1 - degradations.CLEAN)
    assert compressed_ == pytest.approx(share, abs=0.04)
    twice = np.mean([each == 2 for each in times])
    assert twice == pytest.approx(share * degradations.TWICE, abs=0.03)


def edges(pixels: np.ndarray, offset: int) -> float:
    """Mean step between rows where blocks of a grid at an offset meet, against other rows."""
    steps = np.abs(np.diff(pixels.astype(float), axis=0)).mean(axis=(1, 2))
    meet = (np.arange(len(steps)) + 1 - offset) % BLOCK == 0
    return float(steps[meet].mean() / (steps[~meet].mean() + 0.01))


def test_blocks_of_the_first_compression_lie_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(degradations, "QUALITY_BEFORE", (8, 8))
    rows, columns = np.mgrid[:64, :64]
    noise = np.random.default_rng(0).normal(0, 6, (64, 64))
    grey = np.rint(60 + rows + 0.7 * columns + noise).clip(0, 255).astype(np.uint8)
    picture = Image.fromarray(grey).convert("RGB")
    here = np.asarray(compressed(picture, np.random.default_rng(1), (8, 8)))
    assert int(np.argmax([edges(here, offset) for offset in range(BLOCK)])) == 0
    seen = set()
    for seed in range(20):
        found = np.asarray(compressed_elsewhere(picture, np.random.default_rng(seed)))
        shift = int(np.random.default_rng(seed).integers(0, BLOCK, 2)[0])
        assert int(np.argmax([edges(found, offset) for offset in range(BLOCK)])) == -shift % BLOCK
        seen.add(shift)
    assert len(seen) > 5


def test_sharpening_overshoots_on_both_sides_of_an_edge() -> None:
    pixels = np.full((32, 32, 3), 80, dtype=np.uint8)
    pixels[:, 16:] = 170
    found = np.asarray(sharpened(Image.fromarray(pixels), np.random.default_rng(3))).astype(int)
    assert found[:, 12:16].min() < 80
    assert found[:, 16:20].max() > 170
    assert (found[:, :4] == 80).all()
    assert (found[:, 28:] == 170).all()


def test_noise_has_no_mean_and_is_between_a_third_and_five() -> None:
    grey = Image.new("RGB", (64, 64), (128, 128, 128))
    deviations = []
    for seed in range(30):
        found = np.asarray(noisy(grey, np.random.default_rng(seed))).astype(float) - 128
        assert abs(found.mean()) < 0.2
        deviations.append(found.std())
    assert min(deviations) < 1.2
    assert 4 < max(deviations) < 5.2


def test_soft_truths_are_soft_and_their_size_stays(crop: Image.Image) -> None:
    def energy(image: Image.Image) -> float:
        grey = np.asarray(image.convert("L")).astype(float)
        return float(np.square(np.diff(grey, axis=0)).mean())

    for seed in range(20):
        soft = softened(crop, np.random.default_rng(seed))
        assert soft.size == crop.size
        assert energy(soft) < 0.95 * energy(crop)


def test_a_recipe_says_how_many_truths_are_soft(pictures: Pictures) -> None:
    sharp, soft = Recipe(crop=32, soft=0.0), Recipe(crop=32, soft=1.0)
    energies = np.zeros((2, 60))
    for row, recipe in enumerate((sharp, soft)):
        for number in range(60):
            truth = sample(pictures, 3, number, recipe)[0].astype(float)
            energies[row, number] = np.square(np.diff(truth, axis=0)).mean()
    assert energies[1].mean() < 0.8 * energies[0].mean()
