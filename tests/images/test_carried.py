"""One table over all formats: what is carried, and what is told to be lost.

And one over orientation, format, depth and alpha: the same scene, however it is stored.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace
from io import BytesIO

import imagecodecs
import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from PIL import Image, IptcImagePlugin

from tests.images.pictures import PILLOW, smooth, some_metadata, srgb_profile
from tileup.images import iptc, jpegxl_header, xmp
from tileup.images.exif import has_comment, loaded
from tileup.images.formats import jpeg2000 as jp2
from tileup.images.formats.known import FORMATS
from tileup.images.picture import Picture
from tileup.images.reading import open_picture, opened
from tileup.images.writing import save_picture

PROFILE = srgb_profile()
WRITTEN = [each.name for each in FORMATS if each.write]
DEEP = {"png": 16, "tif": 16, "jp2": 16, "jxl": 16, "avif": 10}
WORDS = "Scanned from slide 12, box 4"


def records(**texts: str) -> bytes:
    """IPTC with a caption, keywords and a name."""
    fields = {"caption": 120, "keyword": 25, "name": 80}
    return b"".join(
        struct.pack(">BBBH", 0x1C, 2, fields[name.rstrip("2")], len(text)) + text.encode()
        for name, text in texts.items()
    )


IPTC = records(caption="A hill", keyword="hill", keyword2="summer", name="Ann")
XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-'
    'syntax-ns#"><rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" '
    'xmp:Rating="4"/></rdf:RDF></x:xmpmeta>'
)


def some_exif(comment: bool = True) -> bytes:
    exif = Image.Exif()
    exif[0x010F], exif[0x8298] = "Maker", "(c) someone"
    exif[0x8769] = {0x9003: "2019:05:04 10:11:12"}
    if comment:
        exif[0x8769][0x9286] = b"ASCII\0\0\0" + WORDS.encode()
    return exif.tobytes()


def everything(**fields: object) -> Picture:
    alpha = np.linspace(0.2, 1, 24 * 16, dtype=np.float32).reshape(16, 24)
    return Picture(
        **(
            {
                "pixels": np.float32(smooth(24, 16)) / 255,
                "alpha": alpha,
                "deep": True,
                "icc": PROFILE,
                "exif": some_exif(),
                "xmp": XMP,
                "iptc": IPTC,
                "text": {"Comment": "plain comment", "Author": "José", "Source": "an attic"},
                "format": "png",
            }
            | fields
        )
    )


def saved(picture: Picture, format: str, **options: object) -> tuple[Picture, tuple[str, ...]]:
    stream = BytesIO()
    told = save_picture(picture, stream, format, **options)
    return open_picture(stream.getvalue()), told


LOST = {
    "png": [],
    "jpg": ["transparency", "8 bits per channel", "Source"],
    "webp": ["8 bits per channel", "Comment, Source"],
    "tif": ["Comment, Source"],
    "avif": ["10 bits per channel", "Comment, Source"],
    "jp2": ["Comment, Source"],
    "jxl": ["Comment, Source"],
    "bmp": ["transparency", "colour profile", "8 bits", "EXIF", "XMP", "IPTC", "Author, Comment"],
}
"""What each format cannot hold of a picture that has everything. The user comment is taken."""


@pytest.mark.parametrize("format", WRITTEN)
def test_what_cannot_be_carried_is_told_in_one_sentence(format: str) -> None:
    _, told = saved(everything(), format)
    assert len(told) == (1 if LOST[format] else 0)
    for words in LOST[format]:
        assert words in told[0]
    listed = told[0].count(",") if told else 0
    assert listed <= len(LOST[format]) + 6, told


@pytest.mark.parametrize("format", [name for name in WRITTEN if name != "bmp"])
@pytest.mark.parametrize("metadata", [None, some_metadata()])
def test_everything_else_is_carried(format: str, metadata: object) -> None:
    again, _ = saved(everything(), format, metadata=metadata, quality=100)
    lost = " ".join(LOST[format])
    assert (again.alpha is not None) == ("transparency" not in lost)
    assert again.deep == (format in DEEP)
    assert (again.icc == PROFILE) == ("profile" not in lost)
    exif = loaded(again.exif)
    assert exif[0x8298] == b"(c) someone"
    if format == "png":
        assert again.text["Author"] == "José"
    else:
        assert exif[0x013B].decode() == "José"
    detail = exif.get_ifd(0x8769)
    assert detail[0x9003] == "2019:05:04 10:11:12"
    assert detail[0x9286] == b"ASCII\0\0\0" + WORDS.encode(), "a person's words stay"
    assert again.xmp is not None
    assert 'Rating="4"' in again.xmp
    if "iptc" in next(each for each in FORMATS if each.name == format).holds:
        assert again.iptc == IPTC
    else:
        assert all(word in again.xmp for word in ("A hill", "summer", ">Ann<"))
    assert ("Comment" in again.text) == ("Comment" not in lost)
    assert again.text.get("Source") == ("an attic" if format == "png" else None)


@pytest.mark.parametrize("format", [name for name in WRITTEN if name != "bmp"])
def test_a_comment_finds_a_place(format: str) -> None:
    """In the user comment, where the format has no other."""
    picture = everything(exif=some_exif(comment=False), text={"Comment": "plain ☃"})
    again, told = saved(picture, format, metadata=some_metadata())
    own = again.text.get("Comment")
    words = "plain ☃".encode("utf-16-be")
    other = loaded(again.exif).get_ifd(0x8769).get(0x9286) == b"UNICODE\0" + words
    assert (own == "plain ☃") or other
    assert not any("Comment" in each for each in told)


def test_iptc_is_what_pillow_reads() -> None:
    expected = {(2, 120): b"A hill", (2, 25): [b"hill", b"summer"], (2, 80): b"Ann"}
    for format in ("jpg", "tif"):
        stream = BytesIO()
        save_picture(everything(), stream, format)
        with Image.open(BytesIO(stream.getvalue())) as image:
            assert IptcImagePlugin.getiptcinfo(image) == expected


def test_iptc_becomes_the_xmp_that_the_iptc_names() -> None:
    lists = iptc.as_xmp(IPTC)
    text = xmp.with_lists(XMP, lists)
    assert "Rating" in text
    for name, kind in (("description", "Alt"), ("subject", "Bag"), ("creator", "Seq")):
        assert f":{name}>" in text
        assert f"<rdf:{kind}>" in text
    assert xmp.with_lists(text, lists).count(">hill<") == 1, "what is there stays as it is"


# --- orientation -----------------------------------------------------------------------------


def stored(scene: NDArray[np.uint16], orientation: int) -> NDArray[np.uint16]:
    """The pixels of a scene as a file of this orientation has them."""
    turns = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }
    return np.ascontiguousarray(turns[orientation](scene))


def a_scene(alpha: bool, grey: bool) -> NDArray[np.uint16]:
    colours = smooth(24, 16).astype(np.uint16) * 257
    colours = colours[..., :1] if grey else colours
    clear = (20000 + 40000 * np.linspace(0, 1, 24 * 16)).astype(np.uint16).reshape(16, 24, 1)
    return np.concatenate([colours, clear], axis=2) if alpha else colours


def tag_of(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "Maker"
    return exif.tobytes()


def tiff16(words: NDArray[np.uint16], orientation: int) -> bytes:
    """An uncompressed TIFF of 16 bits with an orientation."""
    height, width, channels = words.shape
    data, behind = words.astype("<u2").tobytes(), 8 + 2 + 12 * 12 + 4
    alpha = channels in (2, 4)
    entries = [
        *((256, 4, 1, width), (257, 4, 1, height)),
        (258, 3, channels, behind if channels > 2 else 16 * (1 + (65536 if channels == 2 else 0))),
        *((259, 3, 1, 1), (262, 3, 1, 2 if channels > 2 else 1), (273, 4, 1, behind + 8)),
        *((274, 3, 1, orientation), (277, 3, 1, channels), (278, 4, 1, height)),
        *((279, 4, 1, len(data)), (284, 3, 1, 1), (338, 3, int(alpha), 2)),
    ]
    body = b"".join(struct.pack("<HHLL", *entry) for entry in entries)
    head = b"II*\0" + struct.pack("<LH", 8, len(entries)) + body + bytes(4)
    return head + struct.pack("<4H", 16, 16, 16, 16) + data


def png16(words: NDArray[np.uint16], orientation: int) -> bytes:
    made = bytes(imagecodecs.png_encode(words))
    chunk = b"eXIf" + tag_of(orientation).removeprefix(b"Exif\0\0")
    whole = struct.pack(">L", len(chunk) - 4) + chunk + struct.pack(">L", zlib.crc32(chunk))
    return made[:33] + whole + made[33:]


def by_pillow(format: str) -> object:
    def made(words: NDArray[np.uint16], orientation: int) -> bytes:
        stream, data = BytesIO(), np.squeeze((words >> 8).astype(np.uint8))
        options = {
            "webp": {"lossless": True, "exact": True},
            "jpg": {"subsampling": 0},
            "avif": {"subsampling": "4:4:4"},
        }.get(format, {})
        image = Image.fromarray(data)
        image.save(stream, PILLOW[format], exif=tag_of(orientation), quality=100, **options)
        return stream.getvalue()

    return made


def jp2_16(words: NDArray[np.uint16], orientation: int) -> bytes:
    return jp2.encode(words, exif=tag_of(orientation))


def jxl(bits: int) -> object:
    """A bare code stream of libjxl without loss, told to be turned by its header.

    ISO/IEC 18181-1, annex D: with `extra_fields` come three bits of orientation, three flags, and
    later one that the tones are the usual ones.
    """

    def made(words: NDArray[np.uint16], orientation: int) -> bytes:
        most, deep = (65535, True) if bits == 16 else (255, False)
        planes = (words if deep else words >> 8).astype(np.float32) / most
        colours = planes[..., :1] if planes.shape[2] < 3 else planes[..., :3]
        picture = Picture(
            pixels=np.ascontiguousarray(np.broadcast_to(colours, (*planes.shape[:2], 3))),
            alpha=planes[..., -1] if planes.shape[2] in (2, 4) else None,
            grey=planes.shape[2] < 3,
            deep=deep,
        )
        stream = BytesIO()
        save_picture(picture, stream, "jxl", lossless=True)
        bare = stream.getvalue().split(b"jxlc", 1)[1]
        number = int.from_bytes(bare[2:], "little")
        found, header = jpegxl_header._Bits(bare[2:]), jpegxl_header.JxlHeader(1, 1)
        jpegxl_header._read_size(found)
        assert not found.flag()
        extra_at = found.at
        assert not found.flag()
        jpegxl_header._read_depth(found)
        found.flag()
        for _ in range(found.choice((0, 0), (0, 1), (4, 2), (12, 1))):
            jpegxl_header._read_extra(found)
        found.flag()
        jpegxl_header._read_colours(found, header)
        end = found.at
        text = "".join(str(number >> at & 1) for at in range(end + 3))
        turned = f"{orientation - 1:03b}"[::-1]
        whole = f"{text[:extra_at]}1{turned}000{text[extra_at + 1 : end]}1{text[end:]}"
        whole = whole.ljust(-(-len(whole) // 8) * 8, "0")
        rest = bare[2 + -(-(end + 3) // 8) :]
        return bare[:2] + int(whole[::-1], 2).to_bytes(len(whole) // 8, "little") + rest

    return made


KINDS = {
    "png 8": by_pillow("png"),
    "jpg 8": by_pillow("jpg"),
    "webp 8": by_pillow("webp"),
    "tif 8": by_pillow("tif"),
    "avif 8": by_pillow("avif"),
    "png 16": png16,
    "tif 16": tiff16,
    "jp2 16": jp2_16,
    "jxl 8": jxl(8),
    "jxl 16": jxl(16),
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_one_scene_however_it_is_stored(
    kind: str, grey: bool, alpha: bool, orientation: int
) -> None:
    if kind == "jpg 8" and alpha:
        pytest.skip("JPEG has no alpha")
    scene = a_scene(alpha, grey)
    data = KINDS[kind](stored(scene, orientation), orientation)  # type: ignore[operator]
    with opened(data) as (found, _):
        assert found.head.upright == (24, 16), "named and sized as it is seen"
    picture = open_picture(data)
    deep = kind.endswith("16")
    expected = (scene if deep else scene >> 8) / (65535 if deep else 255)
    near = 0.03 if kind in ("jpg 8", "avif 8") else 1e-6
    colours = expected[..., :1] if grey else expected[..., :3]
    assert_allclose(picture.pixels, np.broadcast_to(colours, (16, 24, 3)), atol=near)
    assert (picture.alpha is not None) == alpha
    if picture.alpha is not None:
        assert_allclose(picture.alpha, expected[..., -1], atol=near)
    assert picture.deep == deep
    assert picture.neutral == grey


def plain(format: str) -> object:
    """Of a format that knows no turns: by Pillow."""

    def made(words: NDArray[np.uint16]) -> bytes:
        stream = BytesIO()
        Image.fromarray(np.squeeze((words >> 8).astype(np.uint8))).save(stream, format)
        return stream.getvalue()

    return made


def deep_ppm(words: NDArray[np.uint16]) -> bytes:
    height, width, channels = words.shape
    head = b"P%d %d %d 65535\n" % (5 if channels == 1 else 6, width, height)
    return head + words.astype(">u2").tobytes()


def tga_from_below(words: NDArray[np.uint16]) -> bytes:
    """Rows from the bottom to the top, as most are stored; 24 or 32 bits, or grey of 8."""
    height, width, channels = words.shape
    kind = 3 if channels == 1 else 2
    head = struct.pack("<BBB5xHHHHBB", 0, 0, kind, 0, 0, width, height, 8 * channels,
                       8 if channels == 4 else 0)  # fmt: skip
    order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[channels]
    return head + (words >> 8).astype(np.uint8)[::-1][..., order].tobytes()


def gif(words: NDArray[np.uint16]) -> bytes:
    """As many colours as a palette holds, and one of them clear where there is alpha."""
    stream, colours = BytesIO(), (words >> 8).astype(np.uint8)
    image = Image.fromarray(np.squeeze(colours[..., :3] if colours.shape[2] > 3 else colours))
    image.convert("RGB").quantize(256).save(stream, "GIF", comment=b"a word")
    return stream.getvalue()


UNTURNED = {
    "bmp": (plain("BMP"), False, True),
    "ppm": (plain("PPM"), False, True),
    "ppm 16": (deep_ppm, False, True),
    "tga": (plain("TGA"), True, True),
    "tga from below": (tga_from_below, True, True),
    "gif": (gif, False, False),
}
"""Formats that have no orientation: what makes one, whether it has alpha, whether it is exact."""
ELSEWHERE = {"heic": "tests/images/test_kinds.py, from samples: nothing here writes it"}


def test_the_tables_are_over_all_formats() -> None:
    here = {kind.split()[0] for kind in (*KINDS, *UNTURNED)}
    assert here | ELSEWHERE.keys() == {each.name for each in FORMATS}
    assert LOST.keys() == set(WRITTEN)


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("kind", UNTURNED)
def test_one_scene_in_formats_that_know_no_turns(kind: str, grey: bool, alpha: bool) -> None:
    make, clear, exact = UNTURNED[kind]
    if alpha and not (clear and (not grey or kind == "tga")):
        pytest.skip("there is no such file")
    scene = a_scene(alpha, grey)
    picture = open_picture(make(scene))  # type: ignore[operator]
    deep = kind.endswith("16")
    expected = (scene if deep else scene >> 8) / (65535 if deep else 255)
    colours = expected[..., :1] if grey else expected[..., :3]
    near = 1e-6 if exact else 0.05
    assert_allclose(picture.pixels, np.broadcast_to(colours, (16, 24, 3)), atol=near)
    assert (picture.alpha is not None) == alpha
    if picture.alpha is not None:
        assert_allclose(picture.alpha, expected[..., -1], atol=near)
    assert (picture.deep, picture.neutral) == (deep, grey)
    assert picture.text.get("Comment") == ("a word" if kind == "gif" else None)


# --- loss ------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["webp", "avif", "jxl"])
@pytest.mark.parametrize("deep", [False, True])
def test_without_loss_every_number_comes_back_and_stays(format: str, deep: bool) -> None:
    most = 255 if not deep or format == "webp" else 2 ** DEEP[format] - 1
    numbers = np.random.default_rng(1).integers(0, most + 1, (16, 24, 3))
    pixels = (numbers / most).astype(np.float32)
    picture = Picture(pixels=pixels, deep=deep, alpha=everything().alpha)
    first, _ = saved(picture, format, lossless=True)
    assert_allclose(first.pixels, pixels, atol=1e-6)
    assert first.lossless
    again, _ = saved(first, format, quality=50)
    assert_allclose(again.pixels, pixels, atol=1e-6)
    lossy, _ = saved(first, format, quality=50, lossless=False)
    assert np.abs(lossy.pixels - pixels).max() > 0.05
    assert not lossy.lossless


def test_where_no_pixel_can_be_kept_it_is_told() -> None:
    _, told = saved(replace(everything(), alpha=None, deep=False, text={}), "jpg", lossless=True)
    assert "every pixel" in told[0]


def test_a_blank_user_comment_is_none() -> None:
    exif = Image.Exif()
    exif[0x8769] = {0x9286: b"ASCII\0\0\0" + b" " * 40 + b"\0"}
    assert not has_comment(exif.tobytes())
    assert has_comment(some_exif())
    assert not has_comment(None)
