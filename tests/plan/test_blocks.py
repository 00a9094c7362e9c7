"""JPEG's quantisation, told by pixels, against the tables that the encoder says it used."""

from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from tileup.images.pixels import IntegerPixels
from tileup.plan.blocks import COARSE, PLACES, looked_at, quantisation_step


def scenery(height: int = 320, width: int = 400, seed: int = 0) -> Image.Image:
    """Structure of all sizes, as photographs have."""
    rng = np.random.default_rng(seed)
    layers = [
        gaussian_filter(rng.normal(size=(height, width, 3)), (blur, blur, 0)) * blur
        for blur in (0.7, 2, 6, 20)
    ]
    picture = sum(layers[1:], layers[0])
    return Image.fromarray(np.clip(128 + 30 * picture, 0, 255).astype(np.uint8))


def compressed(image: Image.Image, quality: int, subsampling: str = "4:2:0") -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "jpeg", quality=quality, subsampling=subsampling)
    return Image.open(buffer)


def pixels(image: Image.Image) -> NDArray[np.float32]:
    return np.asarray(image.convert("RGB"), np.float32) / 255


def steps_in(image: Image.Image) -> float:
    """The median of what the file's own table says, which Pillow gives row by row."""
    table = np.reshape(image.quantization[0], (8, 8))  # type: ignore[attr-defined]
    return float(np.median([table[place] for place in PLACES]))


@pytest.mark.parametrize("quality", [30, 40, 50, 60, 70, 75, 80])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:0"])
def test_the_step_is_that_of_the_table_in_the_file(quality: int, subsampling: str) -> None:
    image = compressed(scenery(), quality, subsampling)
    assert quantisation_step(pixels(image)) == steps_in(image) > 4


@pytest.mark.parametrize("corner", [(0, 0), (3, 5), (7, 1)])
def test_it_is_found_wherever_the_picture_was_cut(corner: tuple[int, int]) -> None:
    image = compressed(scenery(), 50)
    cut = image.crop((*corner, image.width, image.height))
    assert quantisation_step(pixels(cut)) == steps_in(image)


def test_the_last_of_two_compressions_counts() -> None:
    again = compressed(compressed(scenery(), 40), 60)
    assert quantisation_step(pixels(again)) == steps_in(again)


def test_large_pictures_are_looked_at_in_places() -> None:
    image = compressed(scenery(1100, 1300), 55)
    assert quantisation_step(pixels(image)) == steps_in(image) > COARSE


@pytest.mark.parametrize("seed", range(3))
def test_a_picture_that_never_was_jpeg_has_no_step(seed: int) -> None:
    assert quantisation_step(pixels(scenery(seed=seed))) == 1
    noise = np.random.default_rng(seed).random((64, 80, 3)).astype(np.float32)
    assert quantisation_step(noise) == 1


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 500), (500, 1), (7, 9), (8, 8), (23, 24), (24, 24), (25, 2000)]
)
@pytest.mark.parametrize("value", [0.0, 0.5])
def test_small_thin_and_flat_pictures_have_none(shape: tuple[int, int], value: float) -> None:
    assert quantisation_step(np.full((*shape, 3), value, np.float32)) == 1


def test_pixel_art_and_text_have_none() -> None:
    """Few values and sharp edges, on a lattice of their own."""
    rng = np.random.default_rng(0)
    art = rng.choice([0.0, 0.25, 1.0], (40, 50, 3)).astype(np.float32)
    for size in (1, 3, 4, 8, 16):
        assert quantisation_step(art.repeat(size, 0).repeat(size, 1)) == 1, size


def test_enlarging_takes_the_blocks_to_other_places() -> None:
    image = compressed(scenery(), 50)
    enlarged = image.resize((600, 480), Image.Resampling.LANCZOS)
    assert quantisation_step(pixels(enlarged)) < COARSE


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("whole", [False, True])
def test_what_is_looked_at_on_the_way_tells_the_same(grey: bool, whole: bool) -> None:
    image = compressed(scenery(), 60)
    given = np.asarray(image.convert("L" if grey else "RGB"))
    given = given[..., None] if grey else given
    floats = np.repeat(given, 3, axis=2) if grey else given
    floats = floats.astype(np.float32) / np.float32(255)
    passed = looked_at(IntegerPixels(given) if whole else floats)
    rows = [passed[slice(top, top + 70)] for top in range(0, 320, 70)]
    np.testing.assert_array_equal(np.concatenate(rows), floats)
    assert quantisation_step(passed) == quantisation_step(floats) > 1
