"""Sixteen bits in and out, held against other programs' readers and writers."""

from __future__ import annotations

from io import BytesIO

import imagecodecs
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image

from tests.images.pictures import SIZES, some_metadata, srgb_profile
from tileup.images.deep import turned
from tileup.images.metadata import read_metadata
from tileup.images.picture import Picture
from tileup.images.reading import _UPRIGHT, open_picture
from tileup.images.writing import save_picture

DECODE = {"png": imagecodecs.png_decode, "tif": imagecodecs.tiff_decode}


def words(width: int, height: int, channels: int) -> np.ndarray:
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.random.default_rng(3).integers(0, 65536, shape, dtype=np.uint16)


def written(picture: Picture, format: str, **options: object) -> bytes:
    stream = BytesIO()
    save_picture(picture, stream, format, **options)
    return stream.getvalue()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("format", ["png", "tif"])
def test_every_word_comes_back(format: str, channels: int, size: tuple[int, int]) -> None:
    given = words(*size, channels)
    picture = open_picture(imagecodecs.png_encode(given))
    assert picture.deep
    assert picture.grey == (channels < 3)
    data = written(picture, format, metadata=some_metadata())
    if format == "tif" and channels == 2:
        given = given[..., [0, 0, 0, 1]]  # as RGBA, because few programs read the other
    assert_array_equal(np.squeeze(DECODE[format](data)), np.squeeze(given))
    again = open_picture(data)
    assert (again.deep, again.format) == (True, format)
    assert_array_equal(again.pixels, picture.pixels)


@pytest.mark.parametrize("compression", ["none", "lzw", "deflate"])
def test_tiffs_of_other_programs(compression: str) -> None:
    given = words(33, 21, 3)
    data = imagecodecs.tiff_encode(given, compression=compression)
    picture = open_picture(data)
    assert picture.deep
    assert_array_equal(np.rint(picture.pixels * 65535).astype(np.uint16), given)


@pytest.mark.parametrize("format", ["png", "tif"])
def test_profile_exif_and_settings_are_carried(format: str, tmp_path: object) -> None:
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    picture = Picture(
        pixels=np.full((5, 7, 3), 0.3, np.float32),
        deep=True,
        icc=srgb_profile(),
        exif=exif.tobytes(),
        dpi=(300, 300),
    )
    path = tmp_path / f"a.{format}"  # type: ignore[operator]
    save_picture(picture, path, format, metadata=some_metadata())
    again = open_picture(path)
    assert (again.icc, again.deep) == (picture.icc, True)
    assert again.dpi == pytest.approx((300, 300), abs=0.1)
    with Image.open(path) as image:
        assert image.size == (7, 5)
        assert image.getexif()[0x010F] == "Maker"
    assert "Steps: 8" in read_metadata(path)["parameters"]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turning_is_that_of_pillow(orientation: int) -> None:
    image = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4))
    expected = image.transpose(_UPRIGHT[orientation]) if orientation > 1 else image
    found = turned(np.asarray(image).astype(np.uint16), orientation)
    assert_array_equal(found, np.asarray(expected))


def test_damage_is_a_refusal_or_a_picture() -> None:
    from tileup.errors import InputError

    data = imagecodecs.png_encode(words(30, 20, 3))
    for cut in range(60, len(data), 97):
        with pytest.raises(InputError):
            open_picture(data[:cut])
