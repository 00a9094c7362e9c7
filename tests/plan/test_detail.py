"""The summed-area tables against loops over pixels."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from tileup.images.pixels import IntegerPixels
from tileup.plan.detail import LUMA, DetailMap
from tileup.settings.values import DETAIL_METRICS

Boxes = NDArray[np.float64]
SIZES = [(1, 1), (1, 9), (9, 1), (2, 2), (7, 5), (16, 23)]


def picture(height: int, width: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).random((height, width, 3), np.float32)


def boxes_in(height: int, width: int, count: int = 30) -> Boxes:
    """Random boxes with an area, not aligned with pixels; the whole picture among them."""
    rng = np.random.default_rng(1)
    y, x = np.sort(rng.random((count, 2)) * height), np.sort(rng.random((count, 2)) * width)
    random = np.stack([y[:, 0], x[:, 0], y[:, 1], x[:, 1]], axis=1)
    return np.concatenate([[[0, 0, height, width]], random])


def whole(pixels: NDArray[np.float32], metric: str) -> float:
    height, width = pixels.shape[:2]
    return float(DetailMap.of(pixels, metric).mean(np.array([[0.0, 0, height, width]]))[0])


def naive_mean(value: Callable[[int, int], float], box: NDArray[np.float64]) -> float:
    """Mean of a value per pixel over a box, each pixel weighted by the area it shares with it."""
    top, left, bottom, right = box.tolist()
    total = area = 0.0
    for y in range(math.floor(top), math.ceil(bottom)):
        for x in range(math.floor(left), math.ceil(right)):
            shared = (min(bottom, y + 1) - max(top, y)) * (min(right, x + 1) - max(left, x))
            total += shared * value(y, x)
            area += shared
    return total / area


def naive_gradient(pixels: NDArray[np.float32], y: int, x: int) -> float:
    """Magnitude from the mean squared step to the neighbours that there are, on each axis."""
    luma = pixels.astype(float) @ np.array(LUMA)
    squared = 0.0
    for neighbours in (((y - 1, x), (y + 1, x)), ((y, x - 1), (y, x + 1))):
        steps = [
            (luma[place] - luma[y, x]) ** 2
            for place in neighbours
            if 0 <= place[0] < luma.shape[0] and 0 <= place[1] < luma.shape[1]
        ]
        squared += sum(steps) / max(1, len(steps))
    return math.sqrt(squared)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_gradient_equals_a_loop_over_pixels(height: int, width: int) -> None:
    pixels, boxes = picture(height, width), boxes_in(height, width)
    expected = [naive_mean(lambda y, x: naive_gradient(pixels, y, x), box) for box in boxes]
    result = DetailMap.of(pixels, "gradient").mean(boxes)
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-7)
    assert max(expected) > 0.1 or height == width == 1


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_variance_equals_a_loop_over_pixels(height: int, width: int) -> None:
    pixels, boxes = picture(height, width), boxes_in(height, width)

    def variance(box: NDArray[np.float64], channel: int) -> float:
        values = pixels[..., channel].astype(float) * 255
        mean = naive_mean(lambda y, x: values[y, x], box)
        return naive_mean(lambda y, x: (values[y, x] - mean) ** 2, box)

    expected = [math.sqrt(sum(variance(box, channel) for channel in range(3))) for box in boxes]
    result = DetailMap.of(pixels, "variance").mean(boxes)
    np.testing.assert_allclose(result, expected, rtol=1e-7, atol=1e-4)
    assert max(expected) > 10 or height == width == 1


def test_gradient_of_a_ramp_is_its_slope() -> None:
    y, x = np.mgrid[:20, :30]
    ramp = np.repeat((0.003 * y + 0.004 * x)[..., None], 3, axis=2).astype(np.float32)
    result = DetailMap.of(ramp, "gradient").mean(boxes_in(20, 30))
    np.testing.assert_allclose(result, 0.005, rtol=1e-4)


def test_gradient_sees_a_pattern_of_single_pixels() -> None:
    checks = np.repeat((np.indices((12, 12)).sum(0) % 2)[..., None], 3, axis=2).astype(np.float32)
    assert whole(checks, "gradient") == pytest.approx(math.sqrt(2))


def test_variance_of_two_colours_is_known() -> None:
    pixels = np.zeros((10, 10, 3), np.float32)
    pixels[:, 5:] = (0.2, 0.4, 0.4)
    # Half of the pixels differ by s: variance s^2 / 4.
    assert whole(pixels, "variance") == pytest.approx(255 * 0.6 / 2)


@pytest.mark.parametrize("metric", ["gradient", "variance"])
@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
def test_flat_pictures_have_no_detail(metric: str, level: float) -> None:
    flat = np.full((50, 70, 3), level, np.float32)
    assert DetailMap.of(flat, metric).mean(boxes_in(50, 70)).max() < 1e-4


@pytest.mark.parametrize("metric", ["gradient", "variance"])
def test_a_flat_box_beside_loud_ones_has_no_detail(metric: str) -> None:
    pixels = picture(300, 300)
    pixels[100:200, 100:200] = 0.5
    flat = np.array([[110.3, 110, 180, 180.7], [150, 150, 150.5, 150.5]])
    assert DetailMap.of(pixels, metric).mean(flat).max() < 1e-3


@pytest.mark.parametrize("metric", ["gradient", "variance"])
def test_mirrored_and_transposed_pictures_measure_the_same(metric: str) -> None:
    pixels, boxes = picture(9, 14), boxes_in(9, 14)
    expected = DetailMap.of(pixels, metric).mean(boxes)
    mirrored = np.stack([boxes[:, 0], 14 - boxes[:, 3], boxes[:, 2], 14 - boxes[:, 1]], axis=1)
    result = DetailMap.of(pixels[:, ::-1], metric).mean(mirrored)
    np.testing.assert_allclose(result, expected, rtol=1e-6)
    transposed = DetailMap.of(pixels.transpose(1, 0, 2), metric).mean(boxes[:, [1, 0, 3, 2]])
    np.testing.assert_allclose(transposed, expected, rtol=1e-6)


def test_size_is_that_of_the_picture() -> None:
    detail = DetailMap.of(picture(3, 8), "variance")
    assert (detail.height, detail.width, detail.metric) == (3, 8, "variance")


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 4), (0, 4, 3), (1, 4, 4, 3)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="shape"):
        DetailMap.of(np.zeros(shape, np.float32), "gradient")


def test_unknown_metrics_are_refused() -> None:
    with pytest.raises(ValueError, match="entropy"):
        DetailMap.of(picture(4, 4), "entropy")


@pytest.mark.parametrize("metric", ["gradient", "variance"])
@pytest.mark.parametrize("band", [1, 90, 1000])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 40), (40, 1), (2, 3), (37, 61)])
def test_neither_bands_nor_lines_change_a_bit(
    monkeypatch: pytest.MonkeyPatch, metric: str, band: int, height: int, width: int
) -> None:
    pixels = picture(height, width)
    whole = DetailMap.of(pixels, metric)
    monkeypatch.setattr("tileup.plan.detail.BAND", band)
    np.testing.assert_array_equal(DetailMap.of(pixels, metric).tables, whole.tables)
    rng = np.random.default_rng(0)
    y, x = (np.append(rng.random(6) * side, [0, side]) for side in (height, width))
    few = DetailMap.of(pixels, metric, y, x)
    assert few.tables.size <= whole.tables.size
    (top, bottom), (left, right) = (np.sort(rng.choice(each, (9, 2))).T for each in (y, x))
    boxes = np.stack([top, left, bottom, right], axis=1)[(top < bottom) & (left < right)]
    np.testing.assert_array_equal(few.mean(boxes), whole.mean(boxes))


@pytest.mark.parametrize("metric", ["gradient", "variance"])
def test_boxes_between_edges_measure_as_each_alone(metric: str) -> None:
    """To the bit, wherever the edges lie."""
    detail = DetailMap.of(picture(9, 14), metric)
    y, x = np.array([0, 0.3, 2, 2.5, 8.9, 9]), np.array([0, 5.25, 6, 13.99, 14])
    boxes = [(y[i], x[j], y[i + 1], x[j + 1]) for i in range(5) for j in range(4)]
    expected = detail.mean(np.array(boxes)).reshape(5, 4)
    np.testing.assert_array_equal(detail.between(y, x), expected)


@pytest.mark.parametrize("height", [1, 2, 3, 40])
def test_gradients_are_those_of_double_precision(height: int) -> None:
    """To 1e-7, of a picture that no band begins alike."""
    pixels = picture(height, 31)
    luma = pixels.astype(np.float64) @ np.array(LUMA)
    squares = np.zeros_like(luma)
    for axis in (0, 1):
        steps = np.square(np.diff(luma, axis=axis))
        if steps.size:
            ends = [steps.take([0], axis), steps, steps.take([-1], axis)]
            both = np.concatenate(ends, axis)
            size = luma.shape[axis]
            squares += (both.take(range(size), axis) + both.take(range(1, size + 1), axis)) / 2
    expected = np.sqrt(squares)
    edges = np.arange(height + 1.0), np.arange(32.0)
    for band in (1, 62, 100, 2**16):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("tileup.plan.detail.BAND", band)
            found = DetailMap.of(pixels, "gradient").between(*edges)
        np.testing.assert_allclose(found, expected, atol=1.5e-7, rtol=0)


@pytest.mark.parametrize("metric", DETAIL_METRICS)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_whole_numbers_measure_as_what_they_stand_for(
    metric: str, channels: int, dtype: type[np.uint8] | type[np.uint16]
) -> None:
    """To the bit, so that a file that is decoded in bands has the plan of one in memory."""
    most = np.iinfo(dtype).max
    numbers = np.random.default_rng(3).integers(0, most + 1, (40, 31, channels), dtype)
    floats = np.repeat(numbers, 3 // channels, axis=2).astype(np.float32) / np.float32(most)
    found, wanted = (DetailMap.of(each, metric) for each in (IntegerPixels(numbers), floats))
    np.testing.assert_array_equal(found.tables, wanted.tables)
