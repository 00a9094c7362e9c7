"""The packet is XML that other parsers read, and what was put in comes out."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from tileup.images import xmp

IPTC = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"
OURS = "{https://github.com/tileup/tileup/ns/1.0/}"


@pytest.mark.parametrize("text", ['{"a": "<b> & \\"c\\""}', "two\nlines", "☃ 𝄞", "]]>", "&amp;"])
def test_a_parser_finds_what_we_find(text: str) -> None:
    packet = xmp.packet({"settings": text})
    tree = ElementTree.fromstring(packet.encode())
    assert [node.text for node in tree.iter(f"{OURS}settings")] == [text]
    assert xmp.found(packet, "settings") == text
    assert xmp.found(packet, "parameters") is None


def test_the_source_type_is_iptcs() -> None:
    tree = ElementTree.fromstring(xmp.packet({}).encode())
    assert [node.text for node in tree.iter(f"{IPTC}DigitalSourceType")] == [xmp.SOURCE_TYPE]


def test_characters_that_xml_cannot_hold_are_left_out() -> None:
    packet = xmp.packet({"settings": "a\0b\x1bc\ufffed"})
    assert ElementTree.fromstring(packet.encode()).tag.endswith("xmpmeta")
    assert xmp.found(packet, "settings") == "abcd"


def test_foreign_packets_are_no_trouble() -> None:
    for info in ({}, {"xmp": b"\xff\xfe"}, {"xmp": "<rdf:RDF>"}, {"xmp": b"<tileup:settings>"}):
        assert xmp.found(xmp.packet_of(info), "settings") is None
