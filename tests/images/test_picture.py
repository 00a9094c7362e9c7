"""A picture checks its arrays where it is born."""

from __future__ import annotations

import numpy as np
import pytest

from tileup.images.picture import Picture


def test_width_and_height_are_those_of_the_array() -> None:
    picture = Picture(pixels=np.zeros((2, 5, 3), np.float32))
    assert (picture.width, picture.height) == (5, 2)


@pytest.mark.parametrize("shape", [(2, 5), (2, 5, 4), (3, 2, 5), (0, 5, 3), (2, 0, 3)])
def test_pixels_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="shape"):
        Picture(pixels=np.zeros(shape, np.float32))


def test_pixels_of_another_type_are_refused() -> None:
    with pytest.raises(ValueError, match="float32"):
        Picture(pixels=np.zeros((2, 5, 3)))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("alpha", [np.zeros((5, 2), np.float32), np.zeros((2, 5))])
def test_alpha_that_does_not_fit_is_refused(alpha: np.ndarray) -> None:
    with pytest.raises(ValueError, match="alpha"):
        Picture(pixels=np.zeros((2, 5, 3), np.float32), alpha=alpha)
