"""EXIF: what is kept, what is dropped, and that broken EXIF does no harm."""

from __future__ import annotations

import struct

import pytest
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from tests.images.pictures import encoded, smooth
from tileup.images.exif import SOFTWARE, a1111_text, read_exif, stamped
from tileup.images.reading import open_picture

EXIF_IFD, GPS_IFD = 0x8769, 0x8825
ARTIST, MAKE, ORIENTATION, SOFTWARE_TAG, USER_COMMENT = 0x013B, 0x010F, 0x0112, 0x0131, 0x9286
TEXT = "a cat\nSteps: 20, Sampler: Euler"


def block(**exif_ifd: object) -> bytes:
    exif = Image.Exif()
    exif[MAKE], exif[ORIENTATION] = "Maker", 6
    exif[ARTIST] = "José ☃".encode()
    exif[EXIF_IFD] = {0x9003: "2020:01:02 03:04:05", 0x829A: 0.01} | {
        int(name[1:]): value for name, value in exif_ifd.items()
    }
    exif[GPS_IFD] = {1: "N", 2: (1.0, 2.0, 3.5)}
    return exif.tobytes()


def reread(data: bytes | None) -> Image.Exif:
    assert data is not None
    exif = Image.Exif()
    exif.load(data)
    return exif


def jpeg(exif: bytes) -> bytes:
    return encoded(Image.fromarray(smooth(8, 8)), "jpg", exif=exif)


def test_what_describes_the_picture_survives_reading_and_writing() -> None:
    kept = open_picture(jpeg(block())).exif
    for data in (kept, stamped(kept, 66, 42)):
        exif = reread(data)
        assert exif[MAKE] == "Maker"
        assert exif[ARTIST].encode("latin-1").decode() == "José ☃"
        assert exif[ORIENTATION] == 1
        assert exif.get_ifd(EXIF_IFD)[0x9003] == "2020:01:02 03:04:05"
        assert exif.get_ifd(EXIF_IFD)[0x829A] == 0.01
        assert exif.get_ifd(GPS_IFD) == {1: "N", 2: (1.0, 2.0, 3.5)}


def test_the_output_says_its_own_size_and_program() -> None:
    exif = reread(stamped(open_picture(jpeg(block(_40962=8, _40963=8))).exif, 66, 42))
    assert exif.get_ifd(EXIF_IFD)[0xA002] == 66
    assert exif.get_ifd(EXIF_IFD)[0xA003] == 42
    assert exif[SOFTWARE_TAG] == SOFTWARE


def test_the_thumbnail_is_dropped() -> None:
    data = bytearray(block())
    # The directory after the first is the thumbnail's: let it be the first once more.
    (count,) = struct.unpack_from(">H", data, 14)
    struct.pack_into(">L", data, 16 + 12 * count, 8)
    assert reread(bytes(data)).get_ifd(ExifTags.IFD.IFD1), "Pillow sees a thumbnail directory"
    kept = open_picture(jpeg(bytes(data))).exif
    assert not reread(kept).get_ifd(ExifTags.IFD.IFD1)
    assert reread(kept)[MAKE] == "Maker"


def test_nothing_to_say_says_nothing() -> None:
    assert stamped(None, 8, 8) is None
    only_orientation = Image.Exif()
    only_orientation[ORIENTATION] = 3
    assert open_picture(jpeg(only_orientation.tobytes())).exif is None


@pytest.mark.parametrize("order", [b"MM\0*\0\0\0\x08", b"II*\0\x08\0\0\0"])
def test_the_user_comment_has_the_type_of_the_standard(order: bytes) -> None:
    source = Image.Exif()
    source.endian = ">" if order[:1] == b"M" else "<"
    source[MAKE] = "Maker"
    data = stamped(source.tobytes(), 8, 8, TEXT)
    assert data is not None
    assert data[6:14] == order
    assert a1111_text(reread(data).get_ifd(EXIF_IFD)[USER_COMMENT]) == TEXT
    directory = ImageFileDirectory_v2(order, group=EXIF_IFD)
    with_offset = reread(data)
    with_offset.fp.seek(int(with_offset[EXIF_IFD]))
    directory.load(with_offset.fp)
    assert directory.tagtype[USER_COMMENT] == 7


def test_generation_parameters_become_text_and_leave_the_exif() -> None:
    picture = open_picture(jpeg(stamped(block(), 8, 8, TEXT) or b""))
    assert picture.text == {"parameters": TEXT}
    assert USER_COMMENT not in reread(picture.exif).get_ifd(EXIF_IFD)
    assert reread(picture.exif)[MAKE] == "Maker"


def test_another_user_comment_stays() -> None:
    comment = b"ASCII\0\0\0grandma's garden"
    picture = open_picture(jpeg(block(_37510=comment)))
    assert picture.text == {}
    assert reread(picture.exif).get_ifd(EXIF_IFD)[USER_COMMENT] == comment


@pytest.mark.parametrize(
    ("comment", "expected"),
    [
        (b"UNICODE\0" + TEXT.encode("utf-16-be"), TEXT),
        (b"UNICODE\0" + TEXT.encode("utf-16-le"), TEXT),
        (b"ASCII\0\0\0" + TEXT.encode(), TEXT),
        (b"UNICODE\0" + "a holiday".encode("utf-16-be"), None),
        (b"UNICODE\0\0", None),
        (b"", None),
        (None, None),
        (7, None),
    ],
)
def test_user_comments(comment: object, expected: str | None) -> None:
    assert a1111_text(comment) == expected


def test_any_damage_to_the_exif_leaves_the_picture() -> None:
    """Every byte of the block set to 255 in turn: the picture is read, upright or as it is."""
    whole = block()
    plain = open_picture(jpeg(b"")).pixels
    kept = 0
    for at in range(6, len(whole)):
        damaged = whole[:at] + b"\xff" + whole[at + 1 :]
        picture = open_picture(jpeg(damaged))
        assert picture.pixels.shape == plain.shape
        kept += picture.exif is not None
    assert 0 < kept < len(whole), "some damage costs the EXIF, and some does not"


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_broken_exif_counts_as_none() -> None:
    image = Image.fromarray(smooth(8, 8))
    image.info["exif"] = b"Exif\0\0MM\0*\0\0\xff\xff"
    assert read_exif(image).block is None
    assert read_exif(image).orientation == 1
