"""Reading against Pillow, and every refusal."""

from __future__ import annotations

import logging
import os
import struct
import warnings
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image, ImageOps, PngImagePlugin

from tests.images.pictures import (
    FORMATS,
    PILLOW,
    SIZES,
    encoded,
    noise,
    png,
    smooth,
    srgb_profile,
)
from tileup.errors import InputError
from tileup.images import reading
from tileup.images.picture import Picture
from tileup.images.pixels import unit
from tileup.images.reading import open_picture

LOSSLESS = {"png": {}, "tif": {}, "webp": {"lossless": True, "exact": True}}


def refusal(source: object, *words: str, **options: object) -> str:
    """The message of the refusal, which has all `words` and nothing of a traceback."""
    with pytest.raises(InputError) as caught:
        open_picture(source, **options)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert len(message) < 600
    assert not any(word in message for word in ("Traceback", "<_io", "PIL.", "object at", "\n"))
    return message


def bytes_of(picture: Picture) -> np.ndarray:
    return np.rint(picture.pixels * 255).astype(np.uint8)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("format", LOSSLESS)
def test_rgb_is_what_pillow_reads(format: str, size: tuple[int, int]) -> None:
    image = Image.fromarray(noise(*size))
    picture = open_picture(encoded(image, format, **LOSSLESS[format]))
    assert_array_equal(picture.pixels, np.asarray(image, np.float32) / np.float32(255))
    assert (picture.alpha, picture.grey, picture.format) == (None, False, format)
    assert (picture.icc, picture.exif, picture.text) == (None, None, {})


def test_jpeg_is_what_pillow_decodes() -> None:
    data = encoded(Image.fromarray(smooth(33, 21)), "jpg")
    with Image.open(BytesIO(data)) as image:
        assert_array_equal(bytes_of(open_picture(data)), np.asarray(image))


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "RGB", "RGBA", "P+index", "P+bytes", "RGB+key", "L+key", "1+key"]
)
@pytest.mark.parametrize("format", ["png", "tif"])
def test_modes(mode: str, format: str) -> None:
    """All modes and kinds of transparency against Pillow's conversion to RGBA."""
    base, _, kind = mode.partition("+")
    if kind and format == "tif":
        pytest.skip("TIFF has neither colour keys nor transparent palettes")
    image = Image.fromarray(noise(12, 10, 4 if "A" in base else 3)).convert(base)
    corner = image.getpixel((0, 0))
    keys = {"index": corner, "bytes": bytes(range(256)), "key": corner}
    options = {"transparency": keys[kind]} if kind else {}
    data = encoded(image, format, **options)
    picture = open_picture(data)
    with Image.open(BytesIO(data)) as opened:
        expected = np.asarray(opened.convert("RGBA"))
    alpha = np.full((10, 12), 1.0) if picture.alpha is None else picture.alpha
    assert_array_equal(bytes_of(picture), expected[..., :3])
    assert_array_equal(np.rint(alpha * 255), expected[..., 3])
    assert (picture.alpha is not None) == bool(kind or "A" in base)
    assert picture.grey == (base in ("1", "L", "LA"))


def test_alpha_that_is_opaque_everywhere_is_none() -> None:
    array = noise(5, 4, 4)
    array[..., 3] = 255
    assert open_picture(encoded(Image.fromarray(array), "png")).alpha is None
    array[0, 0, 3] = 254
    assert open_picture(encoded(Image.fromarray(array), "png")).alpha is not None


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", FORMATS)
def test_every_orientation_gives_the_same_upright_picture(format: str, orientation: int) -> None:
    """Pillow turns a picture that is stored in orientation k upright: `exif_transpose`."""
    stored = Image.fromarray(smooth(24, 16))
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "Maker"
    data = encoded(stored, format, exif=exif, **LOSSLESS.get(format, {}))
    with Image.open(BytesIO(data)) as image:
        image.load()
        expected = np.asarray(ImageOps.exif_transpose(image))
    picture = open_picture(data)
    assert_array_equal(bytes_of(picture), expected)
    assert (picture.width > picture.height) == (orientation < 5)
    assert picture.exif is not None
    kept = Image.Exif()
    kept.load(picture.exif)
    assert kept.get(0x0112, 1) == 1
    again = encoded(Image.fromarray(bytes_of(picture)), format, exif=picture.exif)
    assert open_picture(again).width == picture.width


INVERSE = {2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}


@pytest.mark.parametrize("orientation", INVERSE)
def test_one_scene_stored_in_eight_ways_is_one_picture(orientation: int) -> None:
    scene = smooth(24, 16)
    turn = {
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(turn(scene)))
    assert not np.array_equal(np.asarray(stored), scene), "stored otherwise than it is seen"
    assert_array_equal(bytes_of(open_picture(encoded(stored, "png", exif=exif))), scene)


@pytest.mark.parametrize("format", FORMATS)
def test_the_profile_survives(format: str) -> None:
    profile = srgb_profile()
    data = encoded(Image.fromarray(smooth(8, 8)), format, icc_profile=profile)
    assert open_picture(data).icc == profile


def test_texts_are_kept_and_what_the_file_was_is_not() -> None:
    chunks = PngImagePlugin.PngInfo()
    kept = {"parameters": "cat\nSteps: 2", "prompt": '{"☃": 1}', "workflow": "{}"}
    kept |= {"Comment": "a hill", "Author": "José"}
    for name, value in {
        **kept,
        "exif:Orientation": "6",
        "Thumb::Size": "4",
        "tileup": "{}",
    }.items():
        chunks.add_text(name, value)
    data = encoded(Image.fromarray(smooth(8, 8)), "png", pnginfo=chunks)
    assert open_picture(data).text == kept


def test_all_kinds_of_sources_agree(tmp_path: Path) -> None:
    array = noise(6, 5)
    image = Image.fromarray(array)
    data = encoded(image, "png")
    path = tmp_path / "picture.dat"
    path.write_bytes(data)
    with path.open("rb") as stream:
        pictures = [open_picture(s) for s in (path, str(path), data, stream, image, array)]
    for picture in pictures:
        assert_array_equal(bytes_of(picture), array)
    assert [picture.format for picture in pictures] == ["png"] * 4 + [None] * 2


def test_a_pipe_can_be_read() -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as stream:
        stream.write(encoded(Image.fromarray(noise(6, 5)), "png"))
    with os.fdopen(reading, "rb") as stream:
        assert not stream.seekable()
        assert open_picture(stream).width == 6


@pytest.mark.parametrize("channels", [None, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
def test_arrays(channels: int | None, dtype: type) -> None:
    array = noise(6, 5, channels)
    given = array if dtype is np.uint8 else (array / 255).astype(dtype)
    picture = open_picture(given)
    assert_array_equal(bytes_of(picture)[..., 0], array if channels is None else array[..., 0])
    assert picture.grey == (channels is None)
    assert (picture.alpha is not None) == (channels == 4)
    assert picture.pixels.dtype == np.float32
    assert not np.shares_memory(picture.pixels, given)


@pytest.mark.parametrize(
    ("array", "word"),
    [
        (np.zeros((4, 4, 2)), "shape"),
        (np.zeros(4), "shape"),
        (np.zeros((3, 4, 4)), None),  # four channels of a 3x4 picture
        (np.zeros((0, 4)), "empty"),
        (np.zeros((4, 4), np.uint16), "uint16"),
        (np.zeros((4, 4), bool), "bool"),
        (np.full((4, 4), 200.0), "200"),
        (np.full((4, 4), -0.5), "-0.5"),
        (np.full((4, 4), np.nan), "nan"),
    ],
)
def test_arrays_that_are_no_pictures(array: np.ndarray, word: str | None) -> None:
    if word is None:
        assert open_picture(array).height == 3
    else:
        refusal(array, "array", word)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    refusal(tmp_path / "none.png", "none.png", "does not exist")
    refusal(str(tmp_path / "none.png"), "does not exist")
    refusal("", "the name of the picture is empty")
    refusal(None, "and no NoneType")  # as a name that nobody has given a value
    refusal(42, "and no int")
    refusal(tmp_path, "is a folder")
    refusal(tmp_path / ("x" * 300), "xxx")
    refusal("a\0b", "a")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission(tmp_path: Path) -> None:
    path = tmp_path / "secret.png"
    path.write_bytes(b"x")
    path.chmod(0)
    refusal(path, "secret.png", "permission")


def test_a_pipe_with_a_name_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    refusal(tmp_path / "pipe.png", "regular file")


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "0 bytes"),
        (b"\0", "not a picture"),
        (b"plain text that is called a picture", "not a picture"),
        (b"GIF89a" + bytes(20), "broken"),
        (b"BM" + bytes(20), "broken"),
        (b"\0\0\0\x20ftypavif" + bytes(20), "broken"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "broken"),
        (b"\x89PNG\r\n\x1a\n", "broken"),
        (b"\xff\xd8\xff", "broken"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "broken"),
        (b"II*\0\x08\0\0\0", "broken"),
    ],
)
def test_what_is_no_picture_of_ours(data: bytes, word: str, tmp_path: Path) -> None:
    refusal(data, "given data", word)
    (tmp_path / "x.jpg").write_bytes(data)
    refusal(tmp_path / "x.jpg", "x.jpg", word)


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_cut_anywhere_is_refused_in_words(format: str) -> None:
    data = encoded(Image.fromarray(noise(40, 30)), format, exif=bytes(Image.Exif().tobytes()))
    read = 0
    for length in range(1, len(data), max(1, len(data) // 60)):
        try:
            open_picture(data[:length])
            read += 1
        except InputError:
            refusal(data[:length])
    assert read <= 2, "only the last few bytes can be missed"


@pytest.mark.parametrize("format", FORMATS)
def test_damage_anywhere_gives_a_picture_or_a_refusal(format: str) -> None:
    image = Image.fromarray(smooth(40, 30))
    data = bytearray(encoded(image, format, icc_profile=srgb_profile()))
    random = np.random.default_rng(0)
    outcomes = set[bool]()
    for _ in range(150):
        damaged = bytearray(data)
        for at in random.integers(0, len(data) if _ % 2 else 64, 3):
            damaged[at] = random.integers(256)
        try:
            open_picture(bytes(damaged), max_pixels=10**6)
            outcomes.add(True)
        except InputError:
            outcomes.add(False)
    # The checksums of PNG let nothing pass; see the test of each byte.
    assert outcomes == ({False} if format == "png" else {True, False})


@pytest.mark.parametrize("banded", [1, 10**9])
def test_no_byte_of_a_png_changes_unseen(banded: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow leaves the checksums of the pixels alone, and takes what inflates."""
    monkeypatch.setattr(reading, "BANDED", banded)
    data = encoded(Image.fromarray(smooth(40, 30)), "png")
    assert_array_equal(open_picture(data).pixels[:], unit(smooth(40, 30), 255))
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 1 << at % 8
        with pytest.raises(InputError):
            np.asarray(open_picture(bytes(damaged)).pixels[:])


SAMPLES = {0: 1, 2: 3, 4: 2, 6: 4}


@pytest.mark.parametrize("colour", SAMPLES)
def test_png_of_eight_and_of_sixteen_bits(colour: int) -> None:
    for depth in (8, 16):
        row = b"\0" + bytes(range(5 * SAMPLES[colour] * depth // 8))
        picture = open_picture(png(5, 2, depth, colour, (b"IDAT", zlib.compress(row * 2))))
        assert (picture.width, picture.deep) == (5, depth == 16)
        first = int.from_bytes(row[1 : 1 + depth // 8], "big")
        assert picture.pixels[0, 0, 0] == np.float32(first) / np.float32(2**depth - 1)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_other_deep_pictures_are_refused(dtype: type) -> None:
    image = Image.fromarray(np.zeros((4, 5), dtype))
    refusal(encoded(image, "tif"), "more than 8 bits")
    refusal(image, "the image", "more than 8 bits")


def sixteen_bit_rgb_tiff() -> bytes:
    """Uncompressed, 2x1: what Pillow cannot write."""
    entries = [
        (256, 3, 1, 2), (257, 3, 1, 1), (258, 3, 3, 140), (259, 3, 1, 1), (262, 3, 1, 2),
        (273, 4, 1, 150), (277, 3, 1, 3), (278, 3, 1, 1), (279, 4, 1, 12),
    ]  # fmt: skip
    body = b"".join(struct.pack("<HHLL", *entry) for entry in entries)
    head = b"II*\0" + struct.pack("<LH", 8, len(entries)) + body + bytes(4)
    return head.ljust(140, b"\0") + struct.pack("<HHH", 16, 16, 16) + bytes(4 + 12)


def test_sixteen_bit_rgb_tiff() -> None:
    picture = open_picture(sixteen_bit_rgb_tiff())
    assert (picture.width, picture.height, picture.deep) == (2, 1, True)


@pytest.mark.parametrize("format", ["jpg", "tif"])
def test_cmyk_without_a_profile_is_a_guess_and_says_so(format: str) -> None:
    picture = open_picture(encoded(Image.new("CMYK", (4, 4), (0, 255, 255, 0)), format))
    assert_allclose(picture.pixels[0, 0], [1, 0, 0], atol=0.05)
    assert "a guess" in picture.warnings[0]
    odd = encoded(Image.new("CMYK", (4, 4)), format, icc_profile=srgb_profile())
    assert open_picture(odd).icc is None, "a profile of another kind of colours is none"


@pytest.mark.parametrize("format", ["png", "webp", "tif", "gif"])
def test_of_animations_and_pages_the_first_is_taken_with_a_warning(format: str) -> None:
    frames = [Image.fromarray(noise(8, 8, None, seed=seed)) for seed in range(3)]
    stream = BytesIO()
    frames[0].save(stream, PILLOW.get(format, "GIF"), save_all=True, append_images=frames[1:])
    picture = open_picture(stream.getvalue())
    assert picture.warnings[0].endswith("holds 3 pictures; the first one is taken")
    if format != "webp":
        assert_array_equal(np.rint(picture.pixels[..., 0] * 255), np.asarray(frames[0]))


@pytest.mark.parametrize("format", ["AVIF", "BMP", "JPEG2000", "GIF"])
def test_formats_that_are_only_read(format: str) -> None:
    stream = BytesIO()
    Image.fromarray(smooth(40, 30)).save(stream, format)
    picture = open_picture(stream.getvalue())
    assert_allclose(picture.pixels, smooth(40, 30) / 255, atol=0.35 if format == "GIF" else 0.1)
    assert picture.format in ("avif", "bmp", "jp2", "gif")


def test_the_first_picture_of_a_phones_mpo_is_read() -> None:
    stream = BytesIO()
    frames = [Image.fromarray(smooth(8, 8)), Image.fromarray(smooth(4, 4))]
    frames[0].save(stream, "MPO", save_all=True, append_images=frames[1:])
    with Image.open(BytesIO(stream.getvalue())) as image:
        assert image.format == "MPO"
        assert open_picture(image).width == 8
    picture = open_picture(stream.getvalue())
    assert (picture.width, picture.format) == (8, "jpg")


@pytest.mark.parametrize("format", FORMATS)
def test_size_is_checked_against_the_header(format: str) -> None:
    data = encoded(Image.fromarray(smooth(20, 10)), format)
    refusal(data, "20x10", "--max-input-pixels", max_pixels=199)
    assert open_picture(data, max_pixels=200).width == 20


def test_a_bomb_is_refused_before_it_is_decoded() -> None:
    refusal(png(2 * 10**9, 2 * 10**9, 8, 2, (b"IDAT", b"")), "2000000000x2000000000")
    refusal(noise(20, 10), "20x10", "--max-input-pixels", max_pixels=199)
    refusal(Image.new("1", (20, 10)), "20x10", "--max-input-pixels", max_pixels=199)


def test_our_limit_stands_in_for_pillows() -> None:
    """A limit below or above Pillow's own, which is left as it was."""
    before = Image.MAX_IMAGE_PIXELS
    data = encoded(Image.fromarray(smooth(20, 10)), "webp")
    try:
        Image.MAX_IMAGE_PIXELS = 50
        assert open_picture(data).width == 20
        assert Image.MAX_IMAGE_PIXELS == 50
        refusal(data, "--max-input-pixels", max_pixels=10)
        assert Image.MAX_IMAGE_PIXELS == 50
    finally:
        Image.MAX_IMAGE_PIXELS = before


@pytest.mark.parametrize("late", [False, True])
def test_a_text_bomb_is_refused(late: bool) -> None:
    bomb = (b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2**21)))
    image = (b"IDAT", zlib.compress(bytes(4 * 13)))
    data = png(4, 4, 8, 2, *([image, bomb] if late else [bomb, image]))
    refusal(data, "text chunks")
    assert open_picture(png(4, 4, 8, 2, image)).width == 4


def test_reading_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    damaged = encoded(Image.fromarray(smooth(8, 8)), "jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\xff")
    transparent = Image.fromarray(noise(8, 8, None)).convert("P")
    sources = [damaged, encoded(transparent, "png", transparency=bytes(range(256)))]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for source in sources:
            open_picture(source)
    assert not caught
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("tileup").handlers == []
