"""Tones of the source, against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tests.images.pictures import SIZES, random_picture
from tileup.images.color_fix import RADII, color_fix, color_fix_bands

METHODS = ("wavelet", "adain")


@pytest.mark.parametrize("size", [*SIZES, (2, 2), (64, 48)])
@pytest.mark.parametrize("method", METHODS)
def test_a_constant_cast_goes_away(size: tuple[int, int], method: str) -> None:
    source = random_picture(*size).pixels
    drawn = source + np.float32([0.1, -0.2, 0.05])
    result = color_fix(drawn, source, method)
    assert result.shape == source.shape
    assert result.dtype == np.float32
    assert_allclose(result, source, atol=2e-6)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("method", METHODS)
def test_a_picture_like_its_source_is_unchanged(size: tuple[int, int], method: str) -> None:
    source = random_picture(*size).pixels
    assert_allclose(color_fix(source.copy(), source, method), source, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_what_is_given_is_left_alone(method: str) -> None:
    source = random_picture().pixels
    drawn = source[::-1] ** 2
    given = drawn.copy(), source.copy()
    assert not np.array_equal(color_fix(drawn, source, method), drawn)
    assert_array_equal(drawn, given[0])
    assert_array_equal(source, given[1])


def test_none_changes_nothing() -> None:
    drawn = random_picture().pixels
    assert color_fix(drawn, drawn[::-1].copy(), "none") is drawn


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("period", [2, 5, 16, 60, 400, 3000])
def test_wavelet_removes_a_wave_by_the_response_of_its_kernels(period: int, axis: int) -> None:
    """Taps 1/4, 1/2, 1/4 at distance r pass cos²(w r / 2) of a wave; what passes is removed."""
    omega = 2 * np.pi / period
    wave = 0.2 * np.sin(omega * np.arange(1000, dtype=np.float64))[:, None, None]
    wave = np.swapaxes(np.broadcast_to(wave, (1000, 3, 3)), 0, axis).astype(np.float32)
    source = np.full_like(wave, 0.5)
    result = color_fix(source + wave, source, "wavelet")
    passed = np.prod([np.cos(omega * radius / 2) ** 2 for radius in RADII])
    inside = np.s_[sum(RADII) : -sum(RADII)]
    expected = 0.5 + (1 - passed) * np.swapaxes(wave, 0, axis)[inside]
    assert_allclose(np.swapaxes(result, 0, axis)[inside], expected, atol=1e-6)
    if period < 10 or period > 300:
        assert passed < 0.01 if period < 10 else passed > 0.9


def test_wavelet_keeps_the_detail_and_takes_the_tones() -> None:
    """Means over blocks become those of the source, differences between neighbours stay."""
    rng = np.random.default_rng(0)
    source = random_picture(256, 192).pixels * 0.1 + np.linspace(0.2, 0.8, 256)[:, None]
    source = source.astype(np.float32)
    drawn = rng.random(source.shape, dtype=np.float32) * 0.4
    result = color_fix(drawn, source, "wavelet")
    blocks = [each.reshape(3, 64, 4, 64, 3).mean(axis=(1, 3)) for each in (drawn, source, result)]
    assert np.abs(blocks[0] - blocks[1]).max() > 0.4
    assert np.abs(blocks[2] - blocks[1]).max() < 0.02
    assert_allclose(np.diff(result, axis=1), np.diff(drawn, axis=1), atol=0.02)
    assert np.diff(drawn, axis=1).std() > 0.1


def test_adain_gives_each_channel_the_moments_of_the_source() -> None:
    rng = np.random.default_rng(0)
    drawn, source = rng.random((2, 33, 21, 3), dtype=np.float32)
    drawn = drawn * np.float32([0.1, 0.5, 1]) + np.float32([0.5, 0.2, 0])
    result = color_fix(drawn, source, "adain")
    assert_allclose(result.mean(axis=(0, 1)), source.mean(axis=(0, 1)), atol=1e-5)
    assert_allclose(result.std(axis=(0, 1)), source.std(axis=(0, 1)), atol=1e-5)
    for channel in range(3):
        alike = np.corrcoef(result[..., channel].ravel(), drawn[..., channel].ravel())[0, 1]
        assert alike > 1 - 1e-6


def test_adain_shifts_a_flat_channel() -> None:
    source = random_picture().pixels
    result = color_fix(np.full_like(source, 0.3), source, "adain")
    assert_allclose(result, np.broadcast_to(source.mean(axis=(0, 1)), source.shape), atol=1e-6)


@pytest.mark.parametrize("method", [*METHODS, "none"])
@pytest.mark.parametrize("height", [1, 5, 40])
def test_in_bands_it_is_the_same_to_the_bit(method: str, height: int) -> None:
    drawn, source = np.random.default_rng(0).random((2, 97, 21, 3), dtype=np.float32)
    given = (drawn[top : top + height] for top in range(0, 97, height))
    found = list(color_fix_bands(given, lambda top, end: source[top:end], method, 97, 4))
    np.testing.assert_array_equal(
        np.concatenate([band for _, band, _ in found]), color_fix(drawn, source, method)
    )
    np.testing.assert_array_equal(np.concatenate([given for _, _, given in found]), source)
    assert all(top % 4 == 0 for top, _, _ in found)


@pytest.mark.parametrize("method", METHODS)
def test_a_mirrored_picture_gives_the_mirrored_result(method: str) -> None:
    drawn, source = np.random.default_rng(0).random((2, 33, 21, 3), dtype=np.float32)
    mirrored = color_fix(drawn[::-1, ::-1].copy(), source[::-1, ::-1].copy(), method)
    assert_allclose(mirrored[::-1, ::-1], color_fix(drawn, source, method), atol=1e-6)


def test_what_cannot_be_meant_is_refused() -> None:
    pixels = random_picture().pixels
    with pytest.raises(ValueError, match="shapes differ"):
        color_fix(pixels, pixels[1:], "wavelet")
    with pytest.raises(ValueError, match="'hsv' is not known; use wavelet, adain or none"):
        color_fix(pixels, pixels, "hsv")
