"""Pictures that are encoded band by band against the same ones encoded as a whole."""

from __future__ import annotations

import errno
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from tests.doubles import photograph
from tests.images.pictures import noise, some_metadata, srgb_profile
from tileup.enlarge.lanczos import enlarge
from tileup.errors import OutputError
from tileup.images.formats.known import FORMATS
from tileup.images.picture import Picture
from tileup.images.pixels import IntegerPixels
from tileup.images.planes import to_image
from tileup.images.reading import open_picture
from tileup.images.writing import save_picture

BANDED = [each.name for each in FORMATS if each.write_bands]
KINDS = [(grey, deep, clear) for grey in (0, 1) for deep in (0, 1) for clear in (0, 1)]


def picture(width: int, height: int, grey: int, deep: int, clear: int) -> Picture:
    """Half noise and half a photograph, so that every filter and code is met."""
    pixels = photograph(height, width)
    pixels[::2] = noise(width, len(pixels[::2])) / np.float32(255)
    pixels = np.repeat(pixels[..., :1], 3, axis=2) if grey else pixels
    alpha = noise(width, height, None) / np.float32(255) if clear else None
    rest = {"icc": None if grey else srgb_profile(), "dpi": (72.0, 72.0), "text": {"Comment": "ü"}}
    return Picture(pixels, alpha, grey=bool(grey), deep=bool(deep), **rest)


def saved(given: Picture, format: str, *, banded: bool, band: int = 1000, **way: object) -> bytes:
    stream = BytesIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tileup.images.writing.BANDED", 1 if banded else 10**9)
        patch.setattr("tileup.images.pixels.BAND", band)
        save_picture(given, stream, format, metadata=some_metadata(), **way)
    return stream.getvalue()


@pytest.mark.parametrize("size", [(1, 1), (7, 501), (150, 140)], ids=str)
@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("format", BANDED)
def test_band_by_band_it_is_the_same_picture(
    format: str, kind: tuple[int, int, int], size: tuple[int, int]
) -> None:
    """Pillow decodes the whole file, pixels and all that stands beside them."""
    given = picture(*size, *kind)
    whole, rows = (open_picture(saved(given, format, banded=each)) for each in (False, True))
    np.testing.assert_array_equal(rows.whole, whole.whole)
    assert (rows.alpha is None) == (whole.alpha is None)
    if whole.alpha is not None:
        np.testing.assert_array_equal(rows.alpha, whole.alpha)
    bare = {"pixels": np.zeros((1, 1, 3), np.float32), "alpha": None}
    assert replace(rows, **bare).text == replace(whole, **bare).text
    for name in ("exif", "xmp", "icc", "dpi", "grey", "deep", "origin"):
        assert getattr(rows, name) == getattr(whole, name), name


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("big", [False, True])
def test_a_tiff_is_the_one_that_pillow_writes(
    kind: tuple[int, int, int], big: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if big:
        monkeypatch.setattr("tileup.images.formats.tiff._CLASSIC", 0)
    given = picture(61, 47, *kind)
    made = saved(given, "tif", banded=True)
    assert made == saved(given, "tif", banded=False)
    assert made[2] == (43 if big else 42)


def test_a_tiff_of_more_than_four_gigabytes_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its header: the rows themselves are left out."""
    monkeypatch.setattr("tileup.images.formats.tiff.number_bands", lambda *_: iter(()))
    shape = (2**16 + 5, 22_000, 3)
    huge = Picture(IntegerPixels(np.broadcast_to(np.uint8(7), shape)))
    image = TiffImageFile(BytesIO(saved(huge, "tif", banded=True)))
    assert image.size == (22_000, 2**16 + 5)
    tags = image.tag_v2
    assert (tags[278], tags[279]) == (2**16 + 5, (22_000 * 3 * (2**16 + 5),))
    assert tags[279][0] > 2**32


def test_a_png_is_as_small_as_that_of_pillow() -> None:
    """On a photograph that was enlarged, at the same level."""
    given = enlarge(Picture(photograph(160, 240)), 480, 320)
    theirs = BytesIO()
    to_image(given).save(theirs, "PNG", compress_level=4)
    made = saved(given, "png", banded=True)
    assert made == saved(given, "png", banded=False)
    assert len(made) <= 1.03 * len(theirs.getvalue())
    none, fast, small = (len(saved(given, "png", banded=True, compression=n)) for n in (0, 1, 9))
    assert small < len(made) < none
    assert fast <= 1.1 * len(made)


@pytest.mark.parametrize("format", BANDED)
@pytest.mark.parametrize("quality", [60, 95])
def test_how_much_is_in_a_band_changes_no_byte(format: str, quality: int) -> None:
    given = picture(70, 300, 0, 0, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tileup.images.png_rows._CHUNK", 500)
        made = [saved(given, format, banded=True, quality=quality)]
        patch.setattr("tileup.images.formats.jpeg._ROWS", 256)
        made.append(saved(given, format, banded=True, quality=quality, band=10**9))
    assert made[0] == made[1]


@pytest.mark.parametrize("level", range(10))
def test_at_every_level_a_png_is_the_same_whatever_its_bands(
    level: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tileup.images.png_rows._PIECE", 30_000)
    monkeypatch.setattr("tileup.images.png_rows._CHUNK", 20_000)
    given = picture(150, 400, 0, 0, 0)
    bands = (150, 7 * 150, 10**9)  # a row, some, all
    made = {saved(given, "png", banded=True, compression=level, band=band) for band in bands}
    assert len(made) == 1
    found = Image.open(BytesIO(made.pop()))
    np.testing.assert_array_equal(np.asarray(found), np.rint(255 * given.whole))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("format", BANDED)
def test_whole_numbers_give_the_bytes_that_floats_give(format: str, bits: int) -> None:
    """So that a picture whose finished rows lie in a file is written as one in memory."""
    numbers = noise(40, 90).astype(np.uint8 if bits == 8 else np.uint16) * (1 if bits == 8 else 257)
    one = Picture(IntegerPixels(numbers), deep=bits == 16)
    other = replace(one, pixels=one.whole)
    assert saved(one, format, banded=True) == saved(other, format, banded=True)
    assert saved(one, format, banded=False) == saved(other, format, banded=False)


class Full(BytesIO):
    """A disk that is full after some bytes."""

    def write(self, data: bytes) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        if self.tell() + len(data) > 3000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


@pytest.mark.parametrize("format", BANDED)
def test_a_full_disk_is_told_as_such_and_leaves_nothing(
    format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tileup.images.writing.BANDED", 1)
    monkeypatch.setattr(Path, "open", lambda *_: Full())
    with pytest.raises(OutputError, match="No space left"):
        save_picture(picture(90, 90, 0, 0, 0), tmp_path / f"out.{format}", format)
    assert list(tmp_path.iterdir()) == []


def bad(values: NDArray[np.float32]) -> NDArray[np.float32]:
    values[-1, -1] = np.nan
    return values


@pytest.mark.parametrize("format", BANDED)
def test_what_is_no_number_is_not_written(
    format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tileup.images.writing.BANDED", 1)
    given = Picture(bad(photograph(40, 30)))
    with pytest.raises(OutputError, match="no numbers"):
        save_picture(given, tmp_path / f"out.{format}", format)
    assert list(tmp_path.iterdir()) == []


def test_small_pictures_are_encoded_as_before() -> None:
    given = picture(61, 47, 0, 0, 0)
    stream = BytesIO()
    save_picture(given, stream, "png", metadata=some_metadata())
    assert stream.getvalue() == saved(given, "png", banded=False)
    assert Image.open(stream).size == (61, 47)
