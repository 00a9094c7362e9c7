"""XMP: a small packet of ours, built as text and found again without parsing foreign XML."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import unescape
from xml.sax.saxutils import escape

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
"""IPTC's word for a picture that a generative model has worked on in part."""

_PACKET = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
    xmlns:tileup="https://github.com/tileup/tileup/ns/1.0/">
   <Iptc4xmpExt:DigitalSourceType>{source_type}</Iptc4xmpExt:DigitalSourceType>
{properties}  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>"""
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold, not even escaped."""

_THUMBNAILS = re.compile(r"<xmp:Thumbnails>.*?</xmp:Thumbnails>", re.DOTALL)
_OWN = re.compile(
    r"<rdf:Description(?:(?!</rdf:Description>).)*?xmlns:tileup=.*?</rdf:Description>\s*", re.DOTALL
)


def packet(properties: Mapping[str, str]) -> str:
    """An XMP packet with the IPTC source type and properties of our own namespace."""
    lines = (
        f"   <tileup:{name}>{escape(_ILLEGAL.sub('', text))}</tileup:{name}>\n"
        for name, text in properties.items()
    )
    return _PACKET.format(source_type=SOURCE_TYPE, properties="".join(lines))


def merged(foreign: str | None, width: int, height: int, ours: str | None) -> str | None:
    """An input's packet brought up to date, with what ours says put into it.

    Sizes and orientation are corrected, thumbnails and what an earlier run said are dropped.

    Args:
        foreign: packet of the input.
        width, height: of the output, pixels.
        ours: from `packet`; None to say nothing of our own.
    """
    if foreign is None or "</rdf:RDF>" not in foreign:
        return ours
    text = _OWN.sub("", _THUMBNAILS.sub("", foreign))
    for names, value in (
        ("tiff:Orientation", 1),
        ("tiff:ImageWidth|exif:PixelXDimension", width),
        ("tiff:ImageLength|exif:PixelYDimension", height),
    ):
        text = re.sub(rf'((?:{names})\s*(?:=\s*["\']|>))\s*\d+', rf"\g<1>{value}", text)
    if ours is None:
        return text
    block = ours[ours.index("<rdf:Description") : ours.index("</rdf:RDF>")]
    at = text.rindex("</rdf:RDF>")
    return text[:at] + block + text[at:]


def found(xmp: str, name: str) -> str | None:
    """Text of one of our properties in a packet; None where it is absent."""
    match = re.search(f"<tileup:{name}>([^<]*)</tileup:{name}>", xmp)
    return unescape(match[1]) if match else None


def packet_of(info: Mapping[str | tuple[int, int], object]) -> str:
    """The packet among what Pillow found in a file (`Image.info`); empty where there is none."""
    raw = info.get("xmp", info.get("XML:com.adobe.xmp", ""))
    return raw.decode("utf-8", "replace") if isinstance(raw, bytes) else str(raw)
