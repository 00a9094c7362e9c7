"""Readers fed with damaged real files: a picture, or a sentence; never anything else.

`make fuzz` runs this with many more examples (FUZZ=number) that are new each time. What it finds
is kept as an @example.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.images.pictures import smooth, srgb_profile
from tileup.errors import InputError, UsageError
from tileup.images.formats import avif
from tileup.images.formats import jpeg2000 as jp2
from tileup.images.metadata import read_metadata
from tileup.images.picture import Picture
from tileup.images.reading import open_picture
from tileup.images.writing import save_picture
from tileup.settings.layers import resolve
from tileup.settings.yaml_files import read_config

often = settings(
    max_examples=int(os.environ.get("FUZZ", "40")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


SAMPLES = Path(__file__).parent / "images" / "samples"


def files() -> dict[str, bytes]:
    """A small file of every format, with what a camera and other programs put into it."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    extra = {"exif": exif.tobytes(), "icc_profile": srgb_profile()}
    image = Image.fromarray(smooth(40, 30))
    made: dict[str, bytes] = {}
    for format in ("PNG", "JPEG", "WEBP", "TIFF", "AVIF", "BMP", "GIF", "JPEG2000"):
        stream = BytesIO()
        image.save(stream, format, **(extra if format not in ("BMP", "GIF", "JPEG2000") else {}))
        made[format] = stream.getvalue()
    stream = BytesIO()
    frames = [image.rotate(90 * turn) for turn in range(3)]
    frames[0].save(stream, "PNG", save_all=True, append_images=frames[1:])
    made["APNG"] = stream.getvalue()
    stream = BytesIO()
    image.convert("CMYK").save(stream, "JPEG")
    made["CMYK"] = stream.getvalue()
    words = (smooth(40, 30).astype(np.uint16)) * 257
    made["PNG16"] = bytes(imagecodecs.png_encode(words))
    made["AVIF10"] = avif.encode(words >> 6, 90, icc=srgb_profile(), xmp=b"<x/>")
    made["JP2"] = jp2.encode(words, icc=srgb_profile(), exif=exif.tobytes(), xmp=b"<x/>")
    picture = Picture(
        pixels=np.float32(words) / 65535, exif=exif.tobytes(), iptc=b"\x1c\2\x78\0\1x"
    )
    for name, deep in (("JXL", False), ("JXL16", True)):
        stream = BytesIO()
        save_picture(replace(picture, deep=deep), stream, "jxl", quality=90)
        made[name] = stream.getvalue()
    made["PPM16"] = b"P6 40 30 65535\n" + words.astype(">u2").tobytes()
    stream = BytesIO()
    image.save(stream, "TGA")
    made["TGA"] = stream.getvalue()
    made["HEIC"] = (SAMPLES / "turned.heic").read_bytes()
    stream = BytesIO()
    save_picture(picture, stream, "jpg")
    made["IPTC"] = stream.getvalue()
    made["TIFF16"] = bytes(imagecodecs.tiff_encode(words, compression="lzw"))
    return made


FILES = files()
_EDIT = st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=4), st.booleans())


def damaged(data: bytes, edits: list[tuple[float, bytes, bool]], keep: float) -> bytes:
    """The file with bytes replaced or put in, most of them near its head, and then cut."""
    result = bytearray(data)
    for where, piece, put_in in edits:
        at = int(where**3 * len(result))
        result[at : at if put_in else at + len(piece)] = piece
    return bytes(result[: max(1, int(keep * len(result)))])


@pytest.mark.parametrize("name", FILES)
@often
@example(edits=[(0.9609375, b"\0", True)], keep=1)  # AVIF: a plane that cannot be decoded
@example(edits=[(0.53125, b"\0", False)], keep=1)  # AVIF: an item that is empty
@given(edits=st.lists(_EDIT, max_size=6), keep=st.sampled_from([1, 1, 1, 0.9, 0.5, 0.1]))
def test_pictures(name: str, edits: list[tuple[float, bytes, bool]], keep: float) -> None:
    data = damaged(FILES[name], edits, keep)
    try:
        picture = open_picture(data, max_pixels=10**6)
    except InputError:
        return
    assert picture.pixels.dtype == np.float32
    assert np.isfinite(picture.pixels).all()


def test_undamaged_files_are_read() -> None:
    for name, data in FILES.items():
        assert min(open_picture(data).pixels.shape[:2]) == (32 if name == "HEIC" else 30), name


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "file"


@pytest.mark.parametrize("name", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF10", "JP2", "JXL16", "IPTC"])
@often
@given(edits=st.lists(_EDIT, max_size=4))
def test_metadata(name: str, edits: list[tuple[float, bytes, bool]], path: Path) -> None:
    path.write_bytes(damaged(FILES[name], edits, 1))
    with contextlib.suppress(InputError):
        read_metadata(path)


CONFIG = "scale: 2\nmin-denoise: 0.2\nsampler: euler\nsize: 40x30\nmask: m.png\n"
_VALUE = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@often
@given(edits=st.lists(_EDIT, max_size=6))
@example(edits=[(0.0, b"a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", True)])
@example(edits=[(0.0, b"[" * 5000, True)])
@example(edits=[(0.0, b"!!python/object/apply:os.system [id]\n", True)])
@example(edits=[(0.0, b"? {a: 1}\n: 2\n", True)])
@example(edits=[(0.0, b"scale: 1e999999\n", True)])
@example(edits=[(0.0, b"seed: " + b"9" * 5000 + b"\n", True)])
@example(edits=[(0.0, b"mask: 2001-99-99\n", True)])
@example(edits=[(0.0, b"scale: 1:99:99.5\n", True)])
def test_configs(edits: list[tuple[float, bytes, bool]], path: Path) -> None:
    path.write_bytes(damaged(CONFIG.encode(), edits, 1))
    _config_is_read_or_refused(path)


@often
@given(name=st.sampled_from(["scale", "size", "seed", "mask", "metadata", "x"]), value=_VALUE)
def test_configs_of_wrong_types(name: str, value: object, path: Path) -> None:
    path.write_text(yaml.safe_dump({name: value}), encoding="utf-8")
    _config_is_read_or_refused(path)


def _config_is_read_or_refused(path: Path) -> None:
    with contextlib.suppress(UsageError):
        read_config(path)
        resolve(config=path)
