"""Sixteen bits in and out, held against other programs' readers and writers."""

from __future__ import annotations

from io import BytesIO

import imagecodecs
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image, ImageOps

from tests.images.pictures import SIZES, smooth, some_metadata, srgb_profile
from tileup.images.boxes import box, boxes, inside
from tileup.images.formats.avif import with_extras
from tileup.images.metadata import read_metadata
from tileup.images.picture import Picture
from tileup.images.reading import _TURNS, open_picture
from tileup.images.writing import save_picture

DECODE = {
    "png": imagecodecs.png_decode,
    "tif": imagecodecs.tiff_decode,
    "jp2": imagecodecs.jpeg2k_decode,
}


def words(width: int, height: int, channels: int) -> np.ndarray:
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.random.default_rng(3).integers(0, 65536, shape, dtype=np.uint16)


def written(picture: Picture, format: str, **options: object) -> bytes:
    stream = BytesIO()
    save_picture(picture, stream, format, **options)
    return stream.getvalue()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("format", ["png", "tif", "jp2"])
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


@pytest.mark.parametrize("format", ["png", "tif", "jp2", "avif"])
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
    assert again.dpi == (None if format == "avif" else pytest.approx((300, 300), abs=0.1))
    with Image.open(path) as image:
        assert image.size == (7, 5)
        if format != "jp2":  # where Pillow does not look for it
            assert image.getexif()[0x010F] == "Maker"
    assert "Steps: 8" in read_metadata(path)["parameters"]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turning_is_that_of_pillow(orientation: int) -> None:
    image = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4))
    found = _TURNS[orientation](np.asarray(image).astype(np.uint16))
    image.getexif()[0x0112] = orientation
    expected = ImageOps.exif_transpose(image)
    assert_array_equal(found, np.asarray(expected))


def test_damage_is_a_refusal_or_a_picture() -> None:
    from tileup.errors import InputError

    data = imagecodecs.png_encode(words(30, 20, 3))
    for cut in range(60, len(data), 97):
        with pytest.raises(InputError):
            open_picture(data[:cut])


AVIF = {"pixelformat": "444", "level": 100, "numthreads": 1}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_ten_bits_of_avif_come_in_and_go_out(channels: int, size: tuple[int, int]) -> None:
    given = words(*size, channels) >> 6
    options = AVIF | ({"pixelformat": "400"} if channels < 3 else {})
    picture = open_picture(imagecodecs.avif_encode(given, bitspersample=10, **options))
    assert picture.deep
    assert picture.grey == (channels < 3)
    planes = [picture.pixels if channels > 2 else picture.pixels[..., :1]]
    if picture.alpha is not None:
        planes.append(picture.alpha[..., None])
    found = np.rint(np.concatenate(planes, axis=2) * 1023).astype(np.uint16)
    assert_array_equal(np.squeeze(found), np.squeeze(given))
    out = imagecodecs.avif_decode(written(picture, "avif", quality=100, metadata=some_metadata()))
    assert out.dtype == np.uint16
    # RGB turns into YCbCr of ten bits and back.
    error = np.abs(np.squeeze(out).astype(int) - np.squeeze(given))
    assert error.max() <= (2 if channels > 2 else 0)
    assert_array_equal(np.squeeze(written_words(picture)) >> 6, np.squeeze(given))


def written_words(picture: Picture) -> np.ndarray:
    return imagecodecs.png_decode(written(picture, "png"))


def test_twelve_bits_of_avif_are_kept_in_a_png() -> None:
    given = words(33, 21, 3) >> 4
    picture = open_picture(imagecodecs.avif_encode(given, bitspersample=12, **AVIF))
    assert picture.deep
    assert_array_equal(written_words(picture) >> 4, given)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_avif_is_made_upright(orientation: int) -> None:
    """Pillow writes a turn as properties of the picture, which the deep file is given too."""
    shallow = smooth(40, 30)
    deep = shallow.astype(np.uint16) << 2
    stream = BytesIO()
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(shallow).save(stream, "AVIF", exif=exif.tobytes(), quality=100)
    turns = [
        box(kind, content)
        for kind, content in boxes(inside(stream.getvalue(), b"meta", b"iprp", b"ipco"))
        if kind in (b"irot", b"imir")
    ]
    assert (orientation == 1) == (turns == [])
    data = with_extras(imagecodecs.avif_encode(deep, bitspersample=10, **AVIF), turns, [])
    found, expected = open_picture(data), open_picture(stream.getvalue())
    assert found.deep
    assert not expected.deep
    assert found.pixels.shape == expected.pixels.shape
    assert np.abs(found.pixels - expected.pixels).max() < 0.02


@pytest.mark.parametrize("bits", [9, 12, 16])
@pytest.mark.parametrize("channels", [1, 3])
def test_deep_jpeg_2000_of_other_programs(bits: int, channels: int) -> None:
    given = words(33, 21, channels) >> (16 - bits)
    options = {"level": 0, "reversible": True, "bitspersample": bits}
    for form in ("jp2", "j2k"):
        picture = open_picture(imagecodecs.jpeg2k_encode(given, codecformat=form, **options))
        assert picture.deep
        found = np.rint(picture.pixels[..., :channels] * (2**bits - 1)).astype(np.uint16)
        assert_array_equal(np.squeeze(found), given)


def test_sixteen_bits_that_become_ten_are_told() -> None:
    picture = open_picture(imagecodecs.png_encode(words(8, 8, 3)))
    (sentence,) = save_picture(picture, BytesIO(), "avif")
    assert "AVIF cannot hold more than 10 bits" in sentence
