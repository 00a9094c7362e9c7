"""Colour under transparency, and what becomes of XMP."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from tests.images.pictures import random_picture
from tileup.enlarge.lanczos import enlarge
from tileup.images import xmp
from tileup.images.colour import spread
from tileup.images.picture import Picture


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (8, 8), (13, 7)])
def test_visible_colours_stay_and_hidden_ones_come_from_them(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.random((*size, 3), dtype=np.float32)
    alpha = (rng.random(size) > 0.6).astype(np.float32)
    alpha[0, 0] = 1
    filled = spread(pixels, alpha)
    assert_array_equal(filled[alpha > 0], pixels[alpha > 0])
    low, high = pixels[alpha > 0].min(), pixels[alpha > 0].max()
    assert (filled >= low - 1e-6).all()
    assert (filled <= high + 1e-6).all()
    garbage = np.where(alpha[..., None] > 0, pixels, 1 - pixels)
    assert_array_equal(spread(garbage, alpha), filled)


def test_a_cut_out_has_no_fringe() -> None:
    """White on transparent black: nothing but white may be seen, at any opacity."""
    alpha = np.zeros((20, 20), np.float32)
    alpha[5:15, 5:15] = 1
    pixels = np.repeat(alpha[..., None], 3, axis=2)
    large = enlarge(Picture(pixels=pixels, alpha=alpha), 50, 50)
    assert large.alpha is not None
    assert ((large.alpha > 0) & (large.alpha < 1)).any(), "there is an edge to look at"
    assert large.pixels[large.alpha > 0].min() > 0.999
    same = enlarge(Picture(pixels=pixels, alpha=alpha), 20, 20)
    assert same.pixels.min() == 1


def test_pictures_without_transparency_are_left_alone() -> None:
    picture = random_picture()
    assert enlarge(picture, picture.width, picture.height) is picture


FOREIGN = """<?xpacket begin="x" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"
 xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:exif="http://ns.adobe.com/exif/1.0/"
 xmlns:xmp="http://ns.adobe.com/xap/1.0/"
 tiff:ImageWidth="10"><dc:creator>Ann</dc:creator><exif:PixelXDimension>10</exif:PixelXDimension>
<xmp:Thumbnails>AAAA</xmp:Thumbnails></rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="r"?>"""


def test_foreign_xmp_is_kept_and_brought_up_to_date() -> None:
    packet, gone = xmp.cleaned(FOREIGN, turned=True)
    assert gone == ()
    text = xmp.merged(packet, 80, 64, {"settings": "new"})
    assert text is not None
    assert "Ann" in text
    assert 'tiff:Orientation="1"' in text
    assert 'tiff:ImageWidth="80"' in text
    assert "<exif:PixelXDimension>80</exif:PixelXDimension>" in text
    assert "Thumbnails" not in text
    assert xmp.found(text, "settings") == "new"
    again = xmp.merged(text, 160, 128, {"settings": "newer"})
    assert again is not None
    assert xmp.found(again, "settings") == "newer"
    assert again.count("tileup:settings>") == 2, "one opening and one closing tag"
    assert "Ann" in again
    without = xmp.merged(text, 160, 128, None)
    assert without is not None
    assert "tileup" not in without


def test_without_foreign_xmp_only_ours_is_there() -> None:
    ours = xmp.packet({"settings": "s"})
    assert xmp.merged(None, 1, 1, {"settings": "s"}) == ours
    assert xmp.merged("no packet", 1, 1, {"settings": "s"}) == ours
    assert xmp.merged(None, 1, 1, None) is None
