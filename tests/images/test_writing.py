"""Writing: round trips, determinism, and files that are whole or not there."""

from __future__ import annotations

import errno
import os
from contextlib import nullcontext
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from tests.images.pictures import (
    PILLOW,
    RICH,
    SIZES,
    noise,
    random_picture,
    smooth,
    some_metadata,
    srgb_profile,
    swapped_profile,
)
from tileup.errors import OutputError, OutputExistsError, UsageError
from tileup.images.calibration import as_light, as_srgb
from tileup.images.colour import in_srgb
from tileup.images.metadata import read_metadata
from tileup.images.picture import Picture
from tileup.images.planes import to_image
from tileup.images.reading import open_picture
from tileup.images.writing import resolve_format, save_picture

LOSSLESS = ("png", "tif", "jp2")


def written(picture: Picture, format: str, **options: object) -> bytes:
    stream = BytesIO()
    save_picture(picture, stream, format, **options)
    return stream.getvalue()


def told(picture: Picture, format: str, **options: object) -> tuple[str, ...]:
    return save_picture(picture, BytesIO(), format, **options)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [None, 3, 4])
@pytest.mark.parametrize("format", LOSSLESS)
def test_a_round_trip_is_exact(format: str, channels: int | None, size: tuple[int, int]) -> None:
    picture = open_picture(noise(*size, channels))
    again = open_picture(written(picture, format))
    assert_array_equal(again.pixels, picture.pixels)
    assert (again.alpha is None) == (picture.alpha is None) == (channels != 4)
    if picture.alpha is not None:
        assert_array_equal(again.alpha, picture.alpha)
    assert (again.grey, again.format) == (channels is None, format)


@pytest.mark.parametrize("format", ["jpg", "webp", "avif"])
def test_a_lossy_round_trip_is_near_and_quality_matters(format: str) -> None:
    picture = open_picture(smooth(60, 40))
    best, worst = (written(picture, format, quality=quality) for quality in (95, 5))
    assert len(worst) < len(best)
    assert_allclose(open_picture(best).pixels, picture.pixels, atol=0.05)
    assert not np.allclose(open_picture(worst).pixels, picture.pixels, atol=0.05)


@pytest.mark.parametrize("deep", [False, True])
def test_compression_changes_the_size_of_a_png_and_nothing_else(deep: bool) -> None:
    picture = replace(open_picture(smooth(200, 150)), deep=deep)
    plain, usual, small = (written(picture, "png", compression=level) for level in (0, 4, 9))
    assert len(plain) > 200 * 150 * 3 * (1 + deep) > len(usual) > len(small)
    assert usual == written(picture, "png")
    for each in (plain, small):
        assert_array_equal(open_picture(each).pixels, open_picture(usual).pixels)


def test_noise_at_full_quality_fits_the_encoders_buffers() -> None:
    picture = open_picture(noise(700, 500))
    assert open_picture(written(picture, "jpg", quality=100)).width == 700


def test_values_are_rounded_to_the_nearest_and_clipped() -> None:
    levels = np.array([-1, 0, 0.49, 0.51, 1.5, 2.5, 254.4, 254.6, 255, 300], np.float32) / 255
    picture = Picture(pixels=np.repeat(levels[None, :, None], 3, axis=2))
    expected = [0, 0, 0, 1, 2, 2, 254, 255, 255, 255]
    assert np.asarray(to_image(picture))[0, :, 1].tolist() == expected


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("clear", [False, True])
def test_modes(grey: bool, clear: bool) -> None:
    alpha = np.full((21, 33), 0.5, np.float32) if clear else None
    picture = random_picture(grey=grey, alpha=alpha)
    image = to_image(picture)
    assert image.mode == {(0, 0): "RGB", (0, 1): "RGBA", (1, 0): "L", (1, 1): "LA"}[grey, clear]
    if grey:
        mean = np.rint(picture.pixels.astype(np.float64).mean(axis=2) * 255)
        assert_array_equal(np.asarray(image).reshape(21, 33, -1)[..., 0], mean)
        assert np.ptp(picture.pixels, axis=2).max() > 0.5, "the channels differ"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["pixels", "alpha"])
def test_what_is_no_number_is_never_written(tmp_path: Path, bad: float, where: str) -> None:
    picture = random_picture(alpha=np.ones((21, 33), np.float32) / 2)
    broken = getattr(picture, where).copy()
    broken[3, 4] = bad
    with pytest.raises(OutputError, match="no numbers"):
        save_picture(replace(picture, **{where: broken}), tmp_path / "out.png", "png")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", ["jpg", "bmp"])
def test_where_there_is_no_transparency_it_is_laid_over_white(
    format: str,
) -> None:
    pixels = np.zeros((16, 32, 3), np.float32)
    alpha = np.ones((16, 32), np.float32)
    alpha[:, 16:] = 0
    picture = Picture(pixels=pixels, alpha=alpha)
    again = open_picture(written(picture, format))
    assert_allclose(again.pixels[:, :8], 0, atol=0.03)
    assert_allclose(again.pixels[:, 24:], 1, atol=0.03)
    (sentence,) = told(picture, format)
    assert "transparency (the picture is laid over white)" in sentence


@pytest.mark.parametrize("format", RICH)
@pytest.mark.parametrize("grey", [False, True])
def test_profile_and_exif_survive(format: str, grey: bool) -> None:
    source = Image.Exif()
    source[0x010F], source[0x013B] = "Maker", "José".encode()
    source[0x8769] = {0x9003: "2020:01:02 03:04:05", 0xA002: 1, 0xA003: 1}
    picture = random_picture(icc=srgb_profile(), exif=source.tobytes(), grey=grey)
    for metadata in (None, some_metadata()):
        again = open_picture(written(picture, format, metadata=metadata))
        assert again.icc == picture.icc
        assert again.exif is not None
        exif = Image.Exif()
        exif.load(again.exif)
        assert exif[0x010F] == "Maker"
        assert exif[0x013B].encode("latin-1").decode() == "José"
        assert exif[0x0131].startswith("tileup ")
        detail = exif.get_ifd(0x8769)
        assert (detail[0x9003], detail[0xA002], detail[0xA003]) == ("2020:01:02 03:04:05", 33, 21)


@pytest.mark.parametrize("format", RICH)
def test_without_exif_and_metadata_the_file_is_plain(format: str) -> None:
    again = open_picture(written(random_picture(), format))
    assert (again.icc, again.exif, again.text) == (None, None, {})


def test_a_large_profile_fits_into_jpeg() -> None:
    profile = noise(500, 800, None).tobytes()
    assert open_picture(written(random_picture(icc=profile), "jpg")).icc == profile


@pytest.mark.parametrize(("size", "said"), [(2**20, False), (2**20 + 1, True)])
def test_a_profile_that_pillow_does_not_read_in_a_png_is_told(
    tmp_path: Path, size: int, said: bool
) -> None:
    """Pillow itself says where its limit lies, and that TIFF and JPEG have none."""
    picture = random_picture(icc=noise(1, size, None).tobytes())
    assert told(picture, "tif") == told(picture, "jpg") == ()
    sentences = save_picture(picture, tmp_path / "out.png", "png")
    assert [
        f"{tmp_path / 'out.png'}: its colour profile has 1.0 MB" in each for each in sentences
    ] == ([True] * said)
    with pytest.raises(ValueError, match="MAX_TEXT_CHUNK") if said else nullcontext():
        assert (
            Image.open(BytesIO((tmp_path / "out.png").read_bytes())).info["icc_profile"]
            == picture.icc
        )
    for format in ("tif", "jpg"):
        assert Image.open(BytesIO(written(picture, format))).info["icc_profile"] == picture.icc


def test_what_a_jpeg_cannot_hold_is_left_out(tmp_path: Path) -> None:
    long = some_metadata(prompt="x" * 40_000, source_parameters="y" * 70_000)
    path = tmp_path / "out.jpg"
    (sentence,) = save_picture(random_picture(), path, "jpg", metadata=long)
    assert sentence == f"{path}: JPEG cannot hold more than 64 kB of EXIF, and of XMP"
    assert read_metadata(path) == {}
    save_picture(random_picture(), tmp_path / "out.webp", "webp", metadata=long)
    assert len(read_metadata(tmp_path / "out.webp")["parameters"]) > 40_000


@pytest.mark.parametrize("format", RICH)
def test_the_same_picture_gives_the_same_bytes(format: str) -> None:
    picture = random_picture(icc=srgb_profile(), text={"workflow": "{}"})
    data = [written(picture, format, metadata=some_metadata()) for _ in range(2)]
    assert data[0] == data[1]
    assert data[0] != written(picture, format, metadata=some_metadata(seed=6))


@pytest.mark.parametrize("format", RICH)
def test_files_and_streams_agree_and_folders_are_made(format: str, tmp_path: Path) -> None:
    target = tmp_path / "new" / "deep" / f"out.{format}"
    save_picture(random_picture(), target, format)
    assert target.read_bytes() == written(random_picture(), format)
    assert [path.name for path in target.parent.iterdir()] == [target.name]
    with Image.open(target) as image:
        assert image.format == PILLOW[format]
    plain = tmp_path / "plain"
    plain.touch()
    assert target.stat().st_mode == plain.stat().st_mode, "permissions follow the umask"


def test_a_stream_need_not_be_seekable() -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as stream:
        save_picture(random_picture(), stream, "tif")
    with os.fdopen(reading, "rb") as stream:
        assert open_picture(stream).width == 33


def test_a_file_that_exists_is_kept_unless_told_otherwise(tmp_path: Path) -> None:
    target = tmp_path / "out.png"
    target.write_bytes(b"mine")
    with pytest.raises(OutputExistsError, match="--overwrite"):
        save_picture(random_picture(), target, "png")
    assert target.read_bytes() == b"mine"
    save_picture(random_picture(), target, "png", overwrite=True)
    assert open_picture(target).width == 33
    assert list(tmp_path.iterdir()) == [target]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real.png", tmp_path / "link.png"
    link.symlink_to(real)
    save_picture(random_picture(), link, "png")
    assert link.is_symlink()
    assert open_picture(real).width == 33
    with pytest.raises(OutputExistsError):
        save_picture(random_picture(), link, "png")


def test_what_a_link_points_to_is_replaced_and_the_link_stays(tmp_path: Path) -> None:
    """As `cp` and programs that write pictures do it; also one that leads nowhere yet."""
    (tmp_path / "elsewhere").mkdir()
    real, link = tmp_path / "elsewhere" / "real.png", tmp_path / "link.png"
    real.write_bytes(b"another's")
    link.symlink_to(Path("elsewhere") / "real.png")
    with pytest.raises(OutputExistsError, match="--overwrite"):
        save_picture(random_picture(), link, "png")
    assert real.read_bytes() == b"another's"
    save_picture(random_picture(), link, "png", overwrite=True)
    assert link.readlink() == Path("elsewhere") / "real.png"
    assert open_picture(real).width == 33
    assert {*tmp_path.rglob("*")} == {real.parent, real, link}


@pytest.mark.parametrize("overwrite", [False, True])
def test_devices_and_folders_are_not_replaced(tmp_path: Path, overwrite: bool) -> None:
    for target in (tmp_path, Path("/dev/null")):
        with pytest.raises(OutputError, match="no file"):
            save_picture(random_picture(), target, "png", overwrite=overwrite)


def test_a_name_as_long_as_names_can_be(tmp_path: Path) -> None:
    target = tmp_path / ("n" * 251 + ".png")
    save_picture(random_picture(), target, "png")
    assert open_picture(target).width == 33
    with pytest.raises(OutputError, match="cannot be written"):
        save_picture(random_picture(), tmp_path / ("n" * 252 + ".png"), "png")


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file"):
        save_picture(random_picture(), tmp_path / "file" / "out.png", "png")


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError, match="permission"):
            save_picture(random_picture(), tmp_path / "out.png", "png")
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize("step", ["os.fsync", "pathlib.Path.replace"])
@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), OutputError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
@pytest.mark.parametrize("before", [None, b"mine"])
def test_a_save_that_fails_midway_leaves_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    error: BaseException,
    raised: type[BaseException],
    before: bytes | None,
) -> None:
    seen: list[int] = []

    def fail(*_: object) -> None:
        seen.extend(path.stat().st_size for path in tmp_path.glob(".tileup-*"))
        raise error

    target = tmp_path / "out.png"
    if before is not None:
        target.write_bytes(before)
    monkeypatch.setattr(step, fail)
    with pytest.raises(raised) as caught:
        save_picture(random_picture(), target, "png", overwrite=True)
    assert seen, "the temporary file was there"
    assert seen[0] > 500
    if raised is OutputError:
        assert "No space left" in str(caught.value)
        assert "out.png" in str(caught.value)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == (
        [] if before is None else [before]
    )


@pytest.mark.parametrize(("format", "side"), [("jpg", 65501), ("webp", 16384)])
def test_a_size_that_the_format_cannot_hold(tmp_path: Path, format: str, side: int) -> None:
    for width, height in ((side, 1), (1, side)):
        picture = Picture(pixels=np.zeros((height, width, 3), np.float32))
        with pytest.raises(OutputError, match="png or tif"):
            save_picture(picture, tmp_path / "out", format)
        inside = replace(picture, pixels=picture.pixels[: side - 1, : side - 1].copy())
        assert open_picture(written(inside, format)).width == inside.width
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("path", "wanted", "given", "expected"),
    [
        (None, None, None, "png"),
        (None, None, "jpg", "jpg"),
        (None, "jpeg", "png", "jpg"),
        ("out", None, "webp", "webp"),
        ("out.tiff", None, "webp", "tif"),
        ("OUT.JPEG", None, "png", "jpg"),
        ("out.jpg", "jpeg", "png", "jpg"),
        ("out", "tiff", "png", "tif"),
        ("out.AVIF", None, "png", "avif"),
        (None, None, "jp2", "jp2"),
        (None, None, "bmp", "bmp"),
        (None, None, "gif", "png"),
        (".hidden", None, "jpg", "jpg"),
    ],
)
def test_formats(path: str | None, wanted: str | None, given: str | None, expected: str) -> None:
    assert resolve_format(Path(path) if path else None, wanted, given) == expected


@pytest.mark.parametrize(
    ("path", "wanted", "words"),
    [
        ("out.pgn", None, ["out.pgn", "png"]),
        ("out.gif", None, ["gif", "webp"]),
        ("out.png", "jpg", ["out.png", "contradicts"]),
        (None, "gif", ["gif", "png"]),
    ],
)
def test_formats_that_cannot_be(path: str | None, wanted: str | None, words: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        resolve_format(Path(path) if path else None, wanted, "png")
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("grey", [False, True])
def test_bmp_keeps_every_byte(size: tuple[int, int], grey: bool) -> None:
    picture = open_picture(noise(*size, None if grey else 3))
    again = open_picture(written(picture, "bmp"))
    assert_array_equal(again.pixels, picture.pixels)
    assert (again.grey, again.format) == (grey, "bmp")


@pytest.mark.parametrize("deep", [False, True])
def test_where_there_is_no_profile_colours_are_converted(deep: bool) -> None:
    """A profile with red and blue exchanged, so that a conversion shows."""
    profile = swapped_profile()
    red = Picture(pixels=np.full((4, 4, 3), [0.9, 0.1, 0.1], np.float32), icc=profile, deep=deep)
    red = replace(red, exif=Image.Exif().tobytes())
    again = open_picture(written(red, "bmp"))
    assert again.icc is None
    assert_allclose(again.pixels[0, 0], [0.1, 0.1, 0.9], atol=0.02)
    (sentence,) = told(red, "bmp")
    assert "a colour profile (the picture was converted to sRGB)" in sentence
    assert "EXIF" in sentence


@pytest.mark.parametrize("format", ["bmp", "jxl"])
@pytest.mark.parametrize("colours", [False, True])
def test_a_profile_for_grey_takes_no_colours(format: str, colours: bool) -> None:
    """Of RGB, which some programs write with one: what it says is about grey alone."""
    grey = bytes(imagecodecs.cms_profile("gray", gamma=1.0))
    pixels = np.full((8, 8, 3), [0.9, 0.1, 0.2] if colours else 0.2, np.float32)
    picture = Picture(pixels, icc=grey)
    again = open_picture(written(picture, format, quality=100))
    expected = pixels if colours else as_srgb(pixels)
    assert again.icc is None
    assert_allclose(again.pixels, expected, atol=0.01)
    (sentence,) = told(picture, format)
    said = "colours may be off" if colours else "converted to sRGB"
    which = "a" if format == "bmp" else "this"  # as it holds others
    assert f"{which} colour profile ({'the picture was ' * (not colours)}{said})" in sentence


@pytest.mark.parametrize("format", ["avif", "jp2", "webp", "tif", "png", "jpg"])
def test_foreign_xmp_is_carried_with_the_new_size(format: str) -> None:
    packet = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-'
        'syntax-ns#"><rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:dc='
        '"http://purl.org/dc/elements/1.1/" rdf:about="" tiff:ImageWidth="10"><dc:creator>Ann'
        "</dc:creator></rdf:Description></rdf:RDF></x:xmpmeta>"
    )
    again = open_picture(written(random_picture(xmp=packet), format, metadata=some_metadata()))
    assert again.xmp is not None
    assert "Ann" in again.xmp
    assert 'tiff:ImageWidth="33"' in again.xmp


@pytest.mark.parametrize("dpi", [(72.0, 300.0), (0.5, 2.54), (9600.0, 1200.0)])
def test_jpeg_2000_keeps_pixels_per_inch(dpi: tuple[float, float]) -> None:
    again = open_picture(written(random_picture(dpi=dpi), "jp2"))
    assert again.dpi == (None if min(dpi) < 1 else pytest.approx(dpi))


@pytest.mark.parametrize(
    ("format", "options", "said"),
    [
        *((each, {"quality": 80}, "quality has no effect in") for each in ("png", "tif", "bmp")),
        ("jp2", {"quality": 100}, "quality has no effect in JPEG 2000, which keeps every pixel"),
        ("webp", {"quality": 80, "lossless": True}, "quality has no effect in a WebP that"),
        *((each, {"compression": 9}, "compression has no effect in") for each in ("tif", "jpg")),
        *((each, {"quality": 80}, None) for each in ("jpg", "webp", "avif", "jxl")),
        ("webp", {"quality": 100, "lossless": True}, None),
        ("png", {"compression": 9}, None),
    ],
)
def test_what_has_no_effect_in_a_format_is_said(
    format: str, options: dict, said: str | None
) -> None:
    """The same for all pictures, so that a run says it once."""
    first, second = (
        save_picture(picture, BytesIO(), format, **options)
        for picture in (random_picture(), random_picture(9, 9))
    )
    assert first == second
    assert [said in each for each in first] == [True] if said else first == ()


@pytest.mark.parametrize("format", ["png", "avif"])
def test_numbers_for_colours_are_carried(format: str) -> None:
    """Display P3 without a profile, as phones and browsers write it."""
    picture = random_picture(cicp=(12, 13), format=format)
    for deep in (False, True):
        again = open_picture(written(replace(picture, deep=deep), format))
        assert (again.cicp, again.icc) == ((12, 13), None)
        plain = open_picture(written(replace(picture, deep=deep, cicp=None), format))
        assert plain.cicp is None
        assert not told(replace(picture, deep=deep), format)


@pytest.mark.parametrize("format", ["jpg", "webp", "tif", "jp2"])
def test_numbers_for_colours_become_a_profile(format: str) -> None:
    """littlecms turns a red of Display P3 into sRGB as the closed form does."""
    picture = replace(random_picture(cicp=(12, 13)), pixels=np.full((8, 8, 3), 0.5, np.float32))
    picture.pixels[..., 0] = 0.6
    assert not told(picture, format)
    again = open_picture(written(picture, format, quality=100))
    assert again.icc is not None
    converted = in_srgb(again)
    assert converted is not None
    light = as_light(picture.pixels[0, 0].astype(np.float64))
    matrix = [[1.2249, -0.2247, 0], [-0.042, 1.0419, 0], [-0.0197, -0.0786, 1.0979]]
    expected = as_srgb((np.array(matrix) @ light).astype(np.float32))
    assert_allclose(converted.pixels[4, 4], expected, atol=0.012)
    assert expected[0] > 0.615
    hdr = replace(picture, cicp=(9, 16))
    assert "CICP 9/16" in told(hdr, format)[0]
