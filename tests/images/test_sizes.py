"""Sizes in closed form."""

from __future__ import annotations

from math import isqrt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.images.pictures import SIZES
from tileup.errors import OutputError, UsageError
from tileup.images.sizes import check_format_limit, output_size, scale_label
from tileup.settings.values import Settings


@pytest.mark.parametrize(
    ("size", "settings", "expected"),
    [
        ((7, 501), {"scale": 1.0}, (7, 501)),
        ((7, 501), {"scale": 2.0}, (14, 1002)),
        ((7, 501), {"scale": 16.0}, (112, 8016)),
        ((5, 3), {"scale": 1.5}, (8, 5)),  # 7.5 and 4.5: half up, not half to even
        ((10, 30), {"scale": 1.15}, (12, 35)),  # 11.5 and 34.5 as decimals
        ((1, 1), {"scale": 1.4}, (1, 1)),
        ((300, 200), {"size": "640x480"}, (640, 480)),
        ((300, 200), {"size": "300x400"}, (300, 400)),
        ((300, 200), {"long_edge": 1000}, (1000, 667)),
        ((200, 300), {"long_edge": 1000}, (667, 1000)),
        ((300, 200), {"short_edge": 401}, (602, 401)),  # 601.5
        ((300, 200), {"long_edge": 300}, (300, 200)),
        ((1, 9), {"long_edge": 100}, (11, 100)),
        ((300, 200), {"size": "640x640", "fit": "stretch"}, (640, 640)),
        ((300, 200), {"size": "640x640", "fit": "inside"}, (640, 427)),  # 426.7
        ((300, 200), {"size": "640x640", "fit": "cover"}, (960, 640)),
        ((200, 300), {"size": "640x640", "fit": "inside"}, (427, 640)),
        ((200, 300), {"size": "640x640", "fit": "cover"}, (640, 960)),
        ((300, 200), {"size": "600x400", "fit": "inside"}, (600, 400)),
        ((300, 200), {"size": "600x400", "fit": "cover"}, (600, 400)),
        ((300, 200), {"size": "640x640", "fit": "inside", "max_pixels": 240_000}, (600, 400)),
        ((100, 100), {"scale": 4.0, "max_pixels": 40_000}, (200, 200)),
        ((100, 100), {"scale": 2.0, "max_pixels": 40_000}, (200, 200)),
        ((100, 100), {"scale": 4.0, "max_pixels": 10_000}, (100, 100)),
        ((100, 50), {"size": "200x200", "max_pixels": 10_000}, (100, 100)),
        # 66x14 has one pixel too many; 67x13 would fit, and be wider than asked for.
        ((39, 8), {"scale": 1.7, "max_pixels": 923}, (66, 13)),
    ],
)
def test_output_size(
    size: tuple[int, int], settings: dict[str, Any], expected: tuple[int, int]
) -> None:
    assert output_size(*size, Settings(**settings)) == expected


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"long_edge": 299}, ["300x200", "299"]),
        ({"short_edge": 100}, ["300x200", "150x100"]),
        ({"long_edge": 4801}, ["4801", "16"]),
        ({"size": "299x400"}, ["299x400"]),
        ({"size": "640x100", "fit": "inside"}, ["300x200", "150x100"]),
        ({"size": "640x3300"}, ["16.5"]),
        ({"scale": 1.0, "max_pixels": 59_999}, ["59999", "300x200", "60000"]),
        ({"size": "600x200", "max_pixels": 100_000}, ["100000", "120000"]),
    ],
)
def test_what_cannot_be_says_the_numbers(settings: dict[str, Any], named: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        output_size(300, 200, Settings(**settings))
    assert all(word in str(caught.value) for word in named), str(caught.value)


@given(
    st.integers(1, 3000),
    st.integers(1, 3000),
    st.floats(1, 16),
    st.floats(1, 300),
)
def test_max_pixels_lowers_as_little_as_it_can(
    width: int, height: int, scale: float, room: float
) -> None:
    limit = int(width * height * room)
    result = output_size(width, height, Settings(scale=scale, max_pixels=limit))
    free = output_size(width, height, Settings(scale=scale))
    assert result[0] * result[1] <= limit
    assert width <= result[0] <= free[0]
    assert height <= result[1] <= free[1]
    if result != free:
        factor = (limit / (width * height)) ** 0.5
        assert result[0] > width * factor - 1 - 1e-6 or result[0] == free[0]
        assert result[1] > height * factor - 1 - 1e-6 or result[1] == free[1]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scale", [1.0, 1.5, 2.0, 16.0])
def test_sides_are_within_half_a_pixel(size: tuple[int, int], scale: float) -> None:
    result = output_size(*size, Settings(scale=scale))
    assert all(-0.5 <= a * scale - b <= 0.5 for a, b in zip(size, result, strict=True))


@pytest.mark.parametrize(
    ("format", "longest"),
    [("jpg", 65500), ("webp", 16383), ("png", None), ("tif", None), ("avif", 32768)],
)
def test_formats_have_a_longest_side(format: str, longest: int | None) -> None:
    check_format_limit(longest or 10**6, 1, format)
    check_format_limit(1, longest or 10**6, format)
    if longest is not None:
        with pytest.raises(OutputError, match=str(longest)):
            check_format_limit(longest + 1, 1, format)
        with pytest.raises(OutputError, match=str(longest)):
            check_format_limit(1, longest + 1, format)


@pytest.mark.parametrize(("format", "most"), [("avif", 16384**2), ("bmp", 2**30)])
def test_formats_have_a_most_of_pixels(format: str, most: int) -> None:
    side = isqrt(most)
    check_format_limit(side, side, format)
    with pytest.raises(OutputError, match="png or tif"):
        check_format_limit(side, side + 1, format)


@pytest.mark.parametrize(
    ("scale", "label"), [(2.0, "2"), (1.5, "1.5"), (16.0, "16"), (1.25, "1.25")]
)
def test_scale_label(scale: float, label: str) -> None:
    assert scale_label(scale) == label
