"""Large pictures that are decoded band by band against the same files decoded as a whole."""

from __future__ import annotations

import importlib
import pickle
import threading
import tracemalloc
import zlib
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from tests.doubles import photograph, spec
from tests.images.pictures import noise, random_picture
from tests.images.test_bands import picture, saved
from tileup.errors import InputError
from tileup.images import png_rows, reading
from tileup.images.ahead import ahead
from tileup.images.picture import Picture
from tileup.images.pixels import IntegerPixels
from tileup.images.reading import open_picture
from tileup.images.writing import save_picture
from tileup.plan.detail import DetailMap
from tileup.plan.planning import plan_picture
from tileup.settings.values import Settings


@pytest.fixture(autouse=True)
def small_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tileup.images.pixels.BAND", 600)
    monkeypatch.setattr("tileup.images.png_rows.BAND", 600)
    monkeypatch.setattr("tileup.images.png_rows._CHUNK", 700)
    monkeypatch.setattr("tileup.images.from_top._ABOVE", 3)


def both_ways(file: bytes) -> tuple[Picture, Picture]:
    """Decoded band by band where that can be, and as a whole."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tileup.images.reading.BANDED", 1)
        rows = open_picture(file)
    return rows, open_picture(file)


def check(file: bytes, *, banded: bool = True) -> None:
    rows, whole = both_ways(file)
    assert isinstance(rows.pixels, IntegerPixels) == banded
    assert not isinstance(whole.pixels, IntegerPixels)
    np.testing.assert_array_equal(rows.whole, whole.whole)
    assert (rows.alpha is None) == (whole.alpha is None)
    for name in ("grey", "deep", "neutral", "origin", "icc", "exif", "xmp", "text", "warnings"):
        assert getattr(rows, name) == getattr(whole, name), name


@pytest.mark.parametrize("size", [(1, 1), (61, 47), (900, 5), (3, 400)], ids=str)
@pytest.mark.parametrize("deep", [0, 1])
@pytest.mark.parametrize("grey", [0, 1])
@pytest.mark.parametrize("format", ["png", "tif"])
def test_the_numbers_are_those_of_the_whole(
    format: str, grey: int, deep: int, size: tuple[int, int]
) -> None:
    """Of files that libpng and Pillow wrote."""
    check(saved(picture(*size, grey, deep, 0), format, banded=False))


@pytest.mark.parametrize("format", ["png", "tif"])
@pytest.mark.parametrize("deep", [0, 1])
def test_transparency_is_looked_for(format: str, deep: int) -> None:
    """Where all is opaque the picture needs no memory; else it is read at once."""
    given = random_picture(61, 47, deep=bool(deep), alpha=np.ones((47, 61), np.float32))
    check(saved(given, format, banded=False))
    given.alpha[46, 60] = 0.2  # type: ignore[index]
    check(saved(given, format, banded=False), banded=False)


def written(mode: str, **options: object) -> bytes:
    stream = BytesIO()
    Image.fromarray(noise(61, 47)).convert(mode).save(stream, "PNG", **options)
    return stream.getvalue()


@pytest.mark.parametrize("mode", ["1", "P"])
def test_palettes_and_bits_are_read_at_once(mode: str) -> None:
    check(written(mode), banded=False)


def test_one_transparent_colour_and_turned_pictures_are_read_at_once() -> None:
    check(written("RGB", transparency=(1, 2, 3)), banded=False)
    turned = Image.Exif()
    turned[0x0112] = 6
    check(written("RGB", exif=turned), banded=False)


TIFFS = {
    "strips": {"rowsperstrip": 7},
    "tiles": {"tile": (16, 32)},
    "one strip": {},
    "lzw": {"rowsperstrip": 5, "compression": "lzw", "predictor": True},
    "deflate": {"tile": (32, 16), "compression": "deflate", "predictor": True},
    "zstd": {"rowsperstrip": 9, "compression": "zstd"},
    "packbits": {"rowsperstrip": 9, "compression": "packbits"},
    "big endian": {"byteorder": ">", "rowsperstrip": 6},
    "big": {"bigtiff": True, "tile": (16, 16), "compression": "deflate"},
}


def tiff(values: NDArray[np.generic], **options: object) -> bytes:
    stream = BytesIO()
    kind = "rgb" if values.ndim == 3 else "minisblack"
    tifffile.imwrite(stream, values, photometric=kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("kind", TIFFS)
@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("channels", [None, 3])
def test_tiffs_of_another_program(kind: str, deep: bool, channels: int | None) -> None:
    values = noise(61, 47, channels)
    check(tiff(values.astype(np.uint16) * 253 if deep else values, **TIFFS[kind]))


def test_a_tiff_of_jpegs_is_read_at_once() -> None:
    stream = BytesIO()
    Image.fromarray(noise(61, 47)).save(stream, "TIFF", compression="jpeg")
    check(stream.getvalue(), banded=False)


@pytest.mark.parametrize("format", ["png", "tif"])
@pytest.mark.parametrize("part", [0.3, 0.9, 0.995])
def test_a_file_that_is_cut_is_told_so(
    format: str, part: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tileup.images.reading.BANDED", 1)
    data = saved(picture(61, 470, 0, 0, 0), format, banded=False)
    path = tmp_path / f"cut.{format}"
    path.write_bytes(data[: int(part * len(data))])
    with pytest.raises(InputError, match=f"cut.{format} is broken or cut short"):
        open_picture(path).whole  # noqa: B018


def test_damage_in_the_last_bytes_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the checksum behind all pixels."""
    monkeypatch.setattr("tileup.images.reading.BANDED", 1)
    data = bytearray(saved(picture(61, 47, 0, 0, 0), "png", banded=False))
    data[-20] ^= 1
    with pytest.raises(InputError, match="broken"):
        open_picture(bytes(data)).whole  # noqa: B018


def test_rows_may_be_asked_for_in_any_order_and_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tileup.images.reading.BANDED", 1)
    data = saved(picture(61, 200, 0, 0, 0), "png", banded=False)
    (tmp_path / "in.png").write_bytes(data)
    for given in (tmp_path / "in.png", data, BytesIO(data)):
        rows = open_picture(given)
        whole = np.array(rows.whole)
        for top, bottom in ((0, 9), (7, 30), (29, 29), (150, 200), (149, 151), (20, 21), (0, 200)):
            np.testing.assert_array_equal(rows.pixels[top:bottom], whole[top:bottom])
        again = pickle.loads(pickle.dumps(rows))
        np.testing.assert_array_equal(again.pixels[40:50], whole[40:50])


def test_the_limit_is_ten_times_as_high(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody has said how high it is."""
    png, laced = saved(picture(60, 50, 0, 0, 0), "png", banded=False), written("P")
    monkeypatch.setattr(reading, "MAX_PIXELS", 300)
    open_picture(png, max_pixels=300)
    with pytest.raises(InputError, match="above the limit"):
        open_picture(laced, max_pixels=300)
    with pytest.raises(InputError, match="60x50 pixels, above the limit"):
        open_picture(png, max_pixels=2999)
    monkeypatch.setattr(reading, "MAX_PIXELS", 299)
    with pytest.raises(InputError, match="60x50 pixels, above the limit"):
        open_picture(png, max_pixels=299)


@pytest.mark.parametrize("metric", ["gradient", "variance"])
def test_the_plan_is_the_same(metric: str) -> None:
    pixels = photograph(150, 110)
    settings = Settings(tile=64, min_tile=16, detail_metric=metric)
    plans = [
        plan_picture(each, spec(), settings).plan
        for each in both_ways(saved(Picture(pixels), "png", banded=False))
    ]
    assert plans[0] == plans[1]


def test_damage_by_jpeg_is_found_in_the_same_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """With windows smaller than the picture; and the file is decoded once."""
    monkeypatch.setattr("tileup.plan.blocks.WINDOW", 64)
    stream = BytesIO()
    Image.fromarray((255 * photograph(300, 260)).astype(np.uint8)).save(stream, "JPEG", quality=20)
    pixels = np.asarray(Image.open(stream)) / np.float32(255)
    rows, whole = both_ways(saved(Picture(pixels), "png", banded=False))
    begun = list[int]()
    begin = rows.pixels.numbers._begin  # type: ignore[union-attr]
    rows.pixels.numbers._begin = lambda: (begun.append(1), begin())[1]  # type: ignore[union-attr]
    deblocking = replace(spec(), deblocks=True)
    found = [plan_picture(each, deblocking, Settings(tile=64)) for each in (rows, whole)]
    assert found[0].deblock
    assert found[0].plan == found[1].plan
    assert len(begun) <= 1


def test_neither_reading_nor_writing_holds_the_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A picture of 1.2 megapixels, which are 14 MB in memory: what is held at most is a fifth."""
    monkeypatch.setattr("tileup.images.reading.BANDED", 1)
    monkeypatch.setattr("tileup.images.writing.BANDED", 1)
    for module in ("images.pixels", "images.png_rows", "plan.detail"):
        monkeypatch.setattr(f"tileup.{module}.BAND", 2**13)
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (2000, 600, 3), np.uint8)).save(
        tmp_path / "in.png", compress_level=0
    )
    lines = np.arange(0.0, 600.0, 50.0)
    open_picture(tmp_path / "in.png").pixels[:1]  # what that imports is not counted
    tracemalloc.start()
    try:
        given = open_picture(tmp_path / "in.png")
        DetailMap.of(given.pixels, "gradient", lines, lines)
        for name in ("out.png", "out.tif", "out.jpg"):
            save_picture(given, tmp_path / name, name[-3:])
        held = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert held < 2_900_000
    np.testing.assert_array_equal(open_picture(tmp_path / "out.png").whole, given.whole)


def test_items_are_made_ahead_by_another_thread_and_no_more_than_a_few() -> None:
    made = list[tuple[int, int]]()

    def items() -> Iterator[int]:
        for number in range(20):
            made.append((number, threading.get_ident()))
            yield number

    found = ahead(items())
    assert next(found) == 0
    assert next(found) == 1
    found.close()
    assert 2 <= len(made) <= 6
    assert threading.get_ident() not in {thread for _, thread in made}
    assert list(ahead(items())) == list(range(20))


def test_what_goes_wrong_ahead_is_raised_where_it_is_asked_for() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise EOFError("too early")

    found = ahead(items())
    assert next(found) == 1
    with pytest.raises(EOFError, match="too early"):
        next(found)


def test_a_file_is_closed_when_its_rows_are_let_go() -> None:
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            yield from range(100)
        finally:
            closed.set()

    found = ahead(items())
    next(found)
    del found
    assert closed.is_set()


@pytest.mark.parametrize("library", ["isal.isal_zlib", "zlib_ng.zlib_ng"])
def test_either_library_unpacks_a_png_and_tells_damage(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of pixels whose chunk has the checksum of what is damaged: each bit of the first and the last
    bytes, the checksum of zlib among them, and a file that ends too early."""
    unpacks = importlib.import_module(library)
    monkeypatch.setattr(png_rows, "decompressobj", unpacks.decompressobj)
    monkeypatch.setattr(png_rows, "_DAMAGED", unpacks.error)
    numbers = (photograph(30, 20) * 255).astype(np.uint8)
    rows = np.pad(numbers.reshape(30, -1), ((0, 0), (1, 0)))
    packed = zlib.compress(rows.tobytes())

    def read(content: bytes) -> NDArray[np.uint8]:
        file = png_rows.SIGNATURE + png_rows.header(20, 30, 3, 8) + png_rows.chunk(b"IDAT", content)
        found = png_rows.read_rows(20, 30, 8, 2, lambda: BytesIO(file))
        return np.concatenate([*found])

    np.testing.assert_array_equal(read(packed), numbers)
    for at in (0, 1, *range(-4, 0)):
        for bit in range(8):
            damaged = bytearray(packed)
            damaged[at] ^= 1 << bit
            with pytest.raises((zlib.error, EOFError)):
                read(bytes(damaged))
    with pytest.raises(EOFError):
        read(packed[:-5])


@pytest.mark.parametrize("library", ["isal.isal_zlib", "zlib_ng.zlib_ng"])
def test_what_follows_packed_pixels_in_their_chunk_is_no_part_of_them(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As libpng, which passes over it; of a picture in two bands, where zlib-ng gives it back
    again and again."""
    unpacks = importlib.import_module(library)
    monkeypatch.setattr(png_rows, "decompressobj", unpacks.decompressobj)
    monkeypatch.setattr(png_rows, "_CHUNK", 2**20)
    width, height = png_rows.BAND // 3, 5
    numbers = np.random.default_rng(0).integers(0, 256, (height, width), dtype=np.uint8)
    packed = zlib.compress(np.pad(numbers, ((0, 0), (1, 0))).tobytes()) + b"more"
    head = png_rows.SIGNATURE + png_rows.header(width, height, 1, 8)
    file = head + png_rows.chunk(b"IDAT", packed) + png_rows.chunk(b"IDAT", b"and more")
    read = png_rows.read_rows(width, height, 8, 0, lambda: BytesIO(file))
    np.testing.assert_array_equal(np.concatenate([*read])[..., 0], numbers)
