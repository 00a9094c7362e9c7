"""JPEG XL as other encoders may write them, made by hand from ISO/IEC 18181-1 and -2."""

from __future__ import annotations

import struct
from importlib.util import find_spec
from pathlib import Path

import pytest
from numpy.testing import assert_array_equal

from tileup.images.boxes import box, boxes
from tileup.images.reading import open_picture

SAMPLES = Path(__file__).parent / "samples"
FRONT = box(b"JXL ", b"\r\n\x87\n") + box(b"ftyp", b"jxl \0\0\0\0jxl ")
LAST = 2**31


def bare(data: bytes) -> bytes:
    """The code stream of a sample, which lies in one box, or in none."""
    return next((content for kind, content in boxes(data) if kind == b"jxlc"), data)


def in_parts(data: bytes, *cuts: int) -> bytes:
    """The same picture, its code stream cut into boxes at these bytes; others stay before it."""
    stream = bare(data)
    kept = b"".join(box(kind, each) for kind, each in boxes(data) if kind in (b"jbrd", b"jxll"))
    ends = [*cuts, len(stream)]
    parts = [
        box(b"jxlp", struct.pack(">L", number | LAST * (end == len(stream))) + stream[start:end])
        for number, (start, end) in enumerate(zip([0, *cuts], ends, strict=True))
    ]
    return FRONT + kept + b"".join(parts)


@pytest.mark.parametrize("cuts", [(), (2,), (1, 4, 9), (0, 40, 41)])
@pytest.mark.parametrize("name", ["deep_profile", "lossy_profile", "lossy_primaries"])
def test_a_code_stream_in_several_boxes_is_one(name: str, cuts: tuple[int, ...]) -> None:
    """The header may end in any of them."""
    if name == "deep_profile" and find_spec("pylibjxl") is None:
        pytest.skip("pylibjxl is not installed")
    data = (SAMPLES / f"{name}.jxl").read_bytes()
    whole, cut = open_picture(data), open_picture(in_parts(data, *cuts))
    assert_array_equal(cut.whole, whole.whole)
    assert (cut.icc, cut.deep, cut.warnings) == (whole.icc, whole.deep, whole.warnings)


def with_depth_in_full(stream: bytes, bits: int) -> bytes:
    """The same picture of 24x16 pixels with loss, its depth by a number of six bits in place of
    the two that stand for 8, and its height by one of 13 bits: two bytes longer, so that what
    follows lies at whole bytes as before."""
    text = "".join(f"{byte:08b}"[::-1] for byte in stream[2:])
    small, tall, ratio, usual, extra, floats, depth, rest = (
        *(text[:1], text[1:6], text[6:9], text[9], text[10], text[11], text[12:14], text[14:]),
    )
    assert (small, tall[::-1], ratio[::-1]) == ("1", f"{16 // 8 - 1:05b}", f"{4:03b}")
    assert (usual, extra, floats, depth) == ("0", "0", "0", "00")
    height, full = f"{16 - 1:013b}"[::-1], f"{bits - 1:06b}"[::-1]
    made = f"0{'10'}{height}{ratio}{usual}{extra}{floats}11{full}{rest}"
    return stream[:2] + int(made[::-1], 2).to_bytes(len(made) // 8, "little")


@pytest.mark.parametrize("bits", [8, 5, 1])
def test_a_depth_in_full_changes_no_picture_with_loss(bits: int) -> None:
    """It is what decoders round to, of numbers that have no depth."""
    stream = bare((SAMPLES / "lossy_profile.jxl").read_bytes())
    longer = with_depth_in_full(stream, bits)
    assert len(longer) == len(stream) + 2
    assert_array_equal(open_picture(longer).pixels, open_picture(stream).pixels)
