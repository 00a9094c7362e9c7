"""Enlarging against what a linear, symmetric, separable filter must do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from tests.images.pictures import SIZES, random_picture
from tileup.enlarge.lanczos import enlarge, gradual
from tileup.images.picture import Picture


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scale", [1, 2, 2.5, 3])
def test_a_constant_stays_constant(size: tuple[int, int], scale: float) -> None:
    width, height = round(size[0] * scale), round(size[1] * scale)
    pixels = np.full((size[1], size[0], 3), [0.25, 0.5, 1.0], np.float32)
    result = enlarge(Picture(pixels=pixels), width, height)
    assert result.pixels.shape == (height, width, 3)
    assert result.pixels.dtype == np.float32
    assert_allclose(result.pixels, np.broadcast_to(pixels[0, 0], (height, width, 3)), atol=1e-6)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_ramp_stays_a_ramp_away_from_the_border(scale: int) -> None:
    """Pixel centres: output pixel i lies at (i + 0.5) / scale - 0.5 of the input.

    Lanczos with normalised weights keeps constants exactly and ramps nearly: 3e-3 of a pixel's
    step is what its side lobes leave.
    """
    step = 1 / 64
    ramp = (np.arange(48) * step).astype(np.float32)
    pixels = np.broadcast_to(ramp[None, :, None], (5, 48, 3)).copy()
    result = enlarge(Picture(pixels=pixels), 48 * scale, 5 * scale).pixels
    expected = ((np.arange(48 * scale) + 0.5) / scale - 0.5) * step
    inside = slice(4 * scale, -4 * scale)
    assert_allclose(result[0, inside, 0], expected[inside], atol=0.02 * step)
    assert np.ptp(result[0, inside, 0]) > 0.5


@pytest.mark.parametrize("size", SIZES)
def test_a_mirrored_input_gives_the_mirrored_output(size: tuple[int, int]) -> None:
    picture = random_picture(*size)
    width, height = size[0] * 3, size[1] * 2
    plain = enlarge(picture, width, height).pixels
    mirrored = replace(picture, pixels=picture.pixels[::-1, ::-1].copy())
    assert_allclose(enlarge(mirrored, width, height).pixels[::-1, ::-1], plain, atol=1e-6)


def test_eight_bit_enlarging_of_pillow_agrees_to_its_rounding() -> None:
    """Of low contrast: Pillow's bytes clip the overshoot between rows and columns."""
    noise = random_picture(40, 30).pixels
    picture = Picture(pixels=(0.4 + 0.2 * noise).astype(np.float32))
    eight_bit = Image.fromarray(np.rint(picture.pixels * 255).astype(np.uint8))
    theirs = np.asarray(eight_bit.resize((80, 60), Image.Resampling.LANCZOS)) / 255
    ours = enlarge(picture, 80, 60).pixels
    assert_allclose(ours, theirs, atol=2.5 / 255)
    assert not np.array_equal(ours, np.rint(ours * 255) / 255), "float precision is kept"


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (9, 70), (40, 3)])
@pytest.mark.parametrize("times", [(2, 2), (1, 3), (4, 1), (8, 5), (1.5, 2)])
def test_it_is_pillow_s_to_rounding(size: tuple[int, int], times: tuple[float, float]) -> None:
    """Also where kernels look beyond the edges, on both sides at once."""
    picture = random_picture(*size)
    width, height = int(np.ceil(size[0] * times[0])), int(size[1] * times[1])
    ours = enlarge(picture, width, height).pixels
    for channel in range(3):
        image = Image.fromarray(np.ascontiguousarray(picture.pixels[:][..., channel]))
        theirs = np.asarray(image.resize((width, height), Image.Resampling.LANCZOS))
        assert_allclose(ours[:][..., channel], theirs.clip(0, 1), atol=1e-6)


def test_the_same_size_gives_the_same_pixels() -> None:
    picture = random_picture(7, 501, alpha=np.full((501, 7), 0.3, np.float32))
    result = enlarge(picture, 7, 501)
    assert_array_equal(result.pixels, picture.pixels)
    assert result.alpha is not None
    assert picture.alpha is not None
    assert_array_equal(result.alpha, picture.alpha)


def test_overshoot_is_clipped() -> None:
    pixels = np.zeros((16, 16, 3), np.float32)
    pixels[:, 8:] = 1
    result = enlarge(Picture(pixels=pixels), 64, 64).pixels
    assert result.min() == 0
    assert result.max() == 1


def test_alpha_and_colour_do_not_see_each_other() -> None:
    one, other = random_picture(9, 7), random_picture(9, 7)
    alpha = np.random.default_rng(5).random((7, 9), dtype=np.float32)
    transparent = replace(one, alpha=alpha)
    dark = replace(transparent, pixels=np.zeros_like(other.pixels))
    result, result_dark = enlarge(transparent, 18, 14), enlarge(dark, 18, 14)
    assert_array_equal(result.pixels, enlarge(one, 18, 14).pixels)
    assert result.alpha is not None
    assert result_dark.alpha is not None
    assert_array_equal(result.alpha, result_dark.alpha)
    assert result.alpha.shape == (14, 18)
    assert np.ptp(result.alpha) > 0.5


def test_everything_else_is_carried_over() -> None:
    picture = random_picture(
        grey=True, icc=b"icc", exif=b"exif", format="tif", text={"prompt": "x"}
    )
    result = enlarge(picture, 66, 42)
    assert result == replace(picture, pixels=result.pixels)


@pytest.mark.parametrize("times", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("size", [(13, 9), (1, 140), (31, 2), (20, 57)])
def test_row_by_row_the_numbers_are_those_of_the_whole(size: tuple[int, int], times: int) -> None:
    picture = random_picture(*size)
    width, height = size[0] * 3, size[1] * times
    whole, rows = enlarge(picture, width, height), gradual(picture, width, height)
    assert rows is not None
    for step in (1, 5, 16, height):
        parts = [rows.rows(top, min(top + step, height)) for top in range(0, height, step)]
        assert_array_equal(np.concatenate(parts), whole.pixels)


def test_row_by_row_alpha_and_what_lies_under_it_are_those_of_the_whole() -> None:
    alpha = np.linspace(0, 1, 20, dtype=np.float32)[:, None].repeat(12, axis=1)
    picture = replace(random_picture(12, 20), alpha=np.maximum(alpha - 0.3, 0))
    whole, rows = enlarge(picture, 24, 40), gradual(picture, 24, 40)
    assert rows is not None
    carried = rows.carrying(rows.rows(0, 40))
    assert_array_equal(carried.pixels, whole.pixels)
    assert carried.alpha is not None
    assert whole.alpha is not None
    assert_array_equal(carried.alpha, whole.alpha)


@pytest.mark.parametrize("height", [30, 61, 50, 19, 10])
def test_other_factors_are_enlarged_as_a_whole(height: int) -> None:
    assert gradual(random_picture(10, 20), 30, height) is None
