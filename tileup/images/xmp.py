"""XMP: packets of other programs brought up to date, and what we say put into them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from html import unescape
from typing import Any
from xml.dom import minidom
from xml.dom.minidom import Document, Element
from xml.parsers.expat import ExpatError

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
"""IPTC's word for a picture that a generative model has worked on in part."""
_WHOLLY = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""Its word for a picture that such a model has made, which ours would belittle."""

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_IPTC_EXT = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_OURS = "https://github.com/tileup/tileup/ns/1.0/"
_TIFF, _EXIF = "http://ns.adobe.com/tiff/1.0/", "http://ns.adobe.com/exif/1.0/"
_XAP, _PANORAMA = "http://ns.adobe.com/xap/1.0/", "http://ns.google.com/photos/1.0/panorama/"
_REGIONS = "http://www.metadataworkinggroup.com/schemas/regions/"
_DIMENSIONS = "http://ns.adobe.com/xap/1.0/sType/Dimensions#"
DC, PHOTOSHOP = "http://purl.org/dc/elements/1.1/", "http://ns.adobe.com/photoshop/1.0/"
"""Namespaces of what IPTC says."""
_NAMESPACE = "http://www.w3.org/2000/xmlns/"

_EMPTY = f"""<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="{_RDF}">
 </rdf:RDF>
</x:xmpmeta>"""
_OPENING = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
_CLOSING = '\n<?xpacket end="r"?>'
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold, not even escaped."""

_GONE = (
    ("http://ns.adobe.com/hdr-gain-map/", "", "its gain map"),
    ("http://ns.apple.com/HDRGainMap/", "", "its gain map"),
    ("http://ns.apple.com/pixeldatainfo/", "", "its gain map"),
    ("http://ns.google.com/photos/1.0/camera/", "M", "its video"),  # MicroVideo, MotionPhoto
    ("http://ns.google.com/photos/1.0/container/", "", "its video or gain map"),
    ("http://ns.google.com/photos/1.0/depthmap/", "", "its depth map"),
    ("http://ns.google.com/photos/1.0/image/", "", "a second picture in it"),
    ("http://ns.google.com/photos/1.0/audio/", "", "its sound"),
    ("http://ns.google.com/photos/dd/", "", "its depth map"),
    ("http://ns.adobe.com/xmp/note/", "HasExtendedXMP", "the rest of its XMP"),
    ("http://purl.org/dc/terms/", "provenance", "its content credentials"),
    (_XAP, "Thumbnails", ""),
)
"""Properties about what an output does not hold: how their namespace and their name begin, and
what is told."""
_MEASURING = (
    (_PANORAMA, "", "its panorama"),
    (_REGIONS, "Regions", "its regions"),
    (_IPTC_EXT, "ImageRegion", "its regions"),
    (_EXIF, "Subject", ""),
)
"""Properties that are places in the picture as it was stored, of no use once it is turned."""


def _parsed(packet: str) -> Document | None:
    """A packet as a tree; None where it is none."""
    start, end = packet.find("<"), packet.rfind(">")
    if start < 0 or "<!DOCTYPE" in packet:
        return None
    try:
        tree = minidom.parseString(packet[start : end + 1].encode("utf-8", "replace"))
    except (ExpatError, ValueError, RecursionError):
        return None
    if not tree.getElementsByTagNameNS(_RDF, "RDF"):
        return None
    _keep_lines(tree)
    return tree


def _keep_lines(tree: Document) -> None:
    """Properties of several lines as elements: as attributes they would be written as one."""
    for description in _descriptions(tree):
        for space, _, node in list(_properties(description)):
            if not isinstance(node, Element) and "\n" in _text(node):
                _remove(description, node)
                name = str(getattr(node, "name", ""))
                _append(tree, description, name, space, _text(node))


def _written(tree: Document) -> str:
    root = tree.documentElement
    assert root is not None
    return f"{_OPENING}{root.toxml()}{_CLOSING}"


def _descriptions(tree: Document) -> Iterator[Element]:
    root = tree.getElementsByTagNameNS(_RDF, "RDF")[0]
    for node in list(root.childNodes):
        if isinstance(node, Element) and node.localName == "Description":
            yield node


def _properties(description: Element) -> Iterator[tuple[str, str, object]]:
    """Namespace, name and node of each property: an attribute, or an element."""
    for at in range(description.attributes.length):
        node = description.attributes.item(at)
        if node is None or not node.namespaceURI or node.namespaceURI in (_RDF, _NAMESPACE):
            continue
        yield node.namespaceURI, node.localName or "", node
    for child in description.childNodes:
        if isinstance(child, Element) and child.namespaceURI:
            yield child.namespaceURI, child.localName or "", child


def _removed(tree: Document, rules: tuple[tuple[str, str, str], ...]) -> list[str]:
    """Take properties away; what they were about, in words."""
    told: list[str] = []
    for description in _descriptions(tree):
        for space, name, node in list(_properties(description)):
            for start, begins, words in rules:
                if space.startswith(start) and name.startswith(begins):
                    _remove(description, node)
                    told.append(words)
                    break
        if not list(_properties(description)) and description.parentNode is not None:
            description.parentNode.removeChild(description)
    return [each for each in dict.fromkeys(told) if each]


def _remove(description: Element, node: object) -> None:
    if isinstance(node, Element):
        description.removeChild(node)
    else:
        description.removeAttributeNode(node)  # pyright: ignore[reportArgumentType]


def cleaned(packet: str, turned: bool) -> tuple[str | None, tuple[str, ...]]:
    """A packet without what is not true of a picture that was read alone.

    Args:
        packet: of the input.
        turned: whether its pixels have been turned.

    Returns:
        The packet, None where it cannot be read; and what was left out, in words.
    """
    tree = _parsed(packet)
    if tree is None:
        return None, ("XMP that is damaged",)
    gone = _removed(tree, _GONE)
    gone += _removed(tree, _MEASURING) if turned else []
    return _written(tree), tuple(f"XMP about {each}" for each in gone)


def merged(
    foreign: str | None,
    width: int,
    height: int,
    ours: Mapping[str, str] | None,
    growth: tuple[float, float] = (1.0, 1.0),
) -> str | None:
    """An input's packet brought up to date, with what ours says put into it.

    Sizes, places and orientation are corrected, what an earlier run said is dropped.

    Args:
        foreign: packet of the input.
        width, height: of the output, pixels.
        ours: properties of our own namespace, beside the source type; None to say nothing.
        growth: by how much the picture has grown, across and down.
    """
    tree = None if foreign is None else _parsed(foreign)
    if tree is None:
        return None if ours is None else packet(ours)
    _drop_ours(tree)
    _update(tree, width, height, growth)
    if ours is not None:
        _add_ours(tree, ours)
    return _written(tree)


def packet(properties: Mapping[str, str]) -> str:
    """An XMP packet with the IPTC source type and properties of our own namespace."""
    tree = _parsed(_EMPTY)
    assert tree is not None
    _add_ours(tree, properties)
    return _written(tree)


def _drop_ours(tree: Document) -> None:
    """Take away what an earlier run said, and nothing that other programs put beside it."""
    for description in _descriptions(tree):
        found = list(_properties(description))
        if not any(space == _OURS for space, _, _ in found) and not _declares_ours(description):
            continue
        for space, name, node in found:
            source = (space, name) == (_IPTC_EXT, "DigitalSourceType")
            if space == _OURS or (source and _text(node).strip() == SOURCE_TYPE):
                _remove(description, node)
        for attribute in [*description.attributes.values()]:
            if attribute.value == _OURS:
                description.removeAttributeNode(attribute)
    _removed(tree, ())


def _declares_ours(description: Element) -> bool:
    return any(each.value == _OURS for each in description.attributes.values())


def _add_ours(tree: Document, properties: Mapping[str, str]) -> None:
    wholly = False
    for description in _descriptions(tree):
        for space, name, node in list(_properties(description)):
            if (space, name) == (_IPTC_EXT, "DigitalSourceType"):
                wholly |= _WHOLLY in _text(node)
                _remove(description, node)
    source = _WHOLLY if wholly else SOURCE_TYPE
    block = _described(tree, {"Iptc4xmpExt": _IPTC_EXT, "tileup": _OURS})
    _append(tree, block, "Iptc4xmpExt:DigitalSourceType", _IPTC_EXT, source)
    for name, text in properties.items():
        _append(tree, block, f"tileup:{name}", _OURS, text)


def _text(node: object) -> str:
    if isinstance(node, Element):
        own = [each.data for each in node.childNodes if isinstance(each, minidom.Text)]
        return "".join(own) + node.getAttributeNS(_RDF, "resource")
    return str(getattr(node, "value", ""))


def _described(tree: Document, spaces: Mapping[str, str]) -> Element:
    """A new description in a packet."""
    root = tree.getElementsByTagNameNS(_RDF, "RDF")[0]
    made = tree.createElementNS(_RDF, f"{root.prefix or 'rdf'}:Description")
    made.setAttributeNS(_RDF, f"{root.prefix or 'rdf'}:about", "")
    for prefix, space in spaces.items():
        made.setAttributeNS(_NAMESPACE, f"xmlns:{prefix}", space)
    root.appendChild(made)
    return made


def _append(tree: Document, parent: Element, name: str, space: str, text: str = "") -> Element:
    made = tree.createElementNS(space, name)
    if text:
        made.appendChild(tree.createTextNode(_ILLEGAL.sub("", text)))
    parent.appendChild(made)
    return made


def with_lists(foreign: str | None, more: Mapping[tuple[str, str, str], list[str]]) -> str:
    """A packet with further properties, where it does not have them.

    Args:
        foreign: packet of the input.
        more: values by namespace (DC or PHOTOSHOP), name, and kind of list: Alt, Bag or Seq; empty
            for one value.
    """
    tree = _parsed(foreign or _EMPTY) or _parsed(_EMPTY)
    assert tree is not None
    there = {(s, n) for each in _descriptions(tree) for s, n, _ in _properties(each)}
    for (space, name, kind), values in more.items():
        if (space, name) not in there:
            _append_list(tree, space, name, kind, values)
    return _written(tree)


def _append_list(tree: Document, space: str, name: str, kind: str, values: list[str]) -> None:
    prefix = "dc" if space == DC else "photoshop"
    block = _described(tree, {prefix: space})
    root = block.prefix
    if not kind:
        _append(tree, block, f"{prefix}:{name}", space, values[0])
        return
    items = _append(tree, _append(tree, block, f"{prefix}:{name}", space), f"{root}:{kind}", _RDF)
    for value in values[:1] if kind == "Alt" else values:
        item = _append(tree, items, f"{root}:li", _RDF, value)
        if kind == "Alt":
            item.setAttribute("xml:lang", "x-default")


def _update(tree: Document, width: int, height: int, growth: tuple[float, float]) -> None:
    """Correct what the packet says in pixels."""
    fixed = {
        (_TIFF, "Orientation"): 1,
        **{(_TIFF, "ImageWidth"): width, (_EXIF, "PixelXDimension"): width},
        **{(_TIFF, "ImageLength"): height, (_EXIF, "PixelYDimension"): height},
        **{(_DIMENSIONS, "w"): width, (_DIMENSIONS, "h"): height},
    }
    for node in _values(tree):
        key = node.namespaceURI or "", node.localName or ""
        if key in fixed and (key[0] != _DIMENSIONS or _is_of_regions(node)):
            _set(node, str(fixed[key]))
        elif (factor := _factor(*key, growth)) != 1:
            _set(node, _scaled(_text(node), factor))


def _values(tree: Document) -> Iterator[Any]:
    """Every attribute, and every element without elements in it."""
    for element in tree.getElementsByTagNameNS("*", "*"):
        yield from (element.attributes.item(at) for at in range(element.attributes.length))
        if not any(isinstance(each, Element) for each in element.childNodes):
            yield element


def _is_of_regions(node: Any) -> bool:  # noqa: ANN401
    """Whether dimensions are those that regions apply to."""
    owner = node.parentNode if isinstance(node, Element) else node.ownerElement
    while owner is not None:
        if (owner.namespaceURI, owner.localName) == (_REGIONS, "AppliedToDimensions"):
            return True
        owner = owner.parentNode
    return False


_ACROSS = re.compile(r"(Width|Left)\w*|FocalPlaneXResolution")
_DOWN = re.compile(r"(Height|Top)\w*|FocalPlaneYResolution")


def _factor(space: str, name: str, growth: tuple[float, float]) -> float:
    """By how much a number has to grow with the picture."""
    focal = space == _EXIF and name.startswith("FocalPlane")
    if space != _PANORAMA and not focal:
        return 1
    return growth[0] if _ACROSS.search(name) else growth[1] if _DOWN.search(name) else 1


def _scaled(text: str, factor: float) -> str:
    """A whole number, or one over another, times a factor; other text as it is."""
    match = re.fullmatch(r"\s*(\d+)(/\d+)?\s*", text)
    return f"{round(int(match[1]) * factor)}{match[2] or ''}" if match else text


def _set(node: Any, text: str) -> None:  # noqa: ANN401
    if not isinstance(node, Element):
        node.value = text
        return
    for child in list(node.childNodes):
        node.removeChild(child)
    assert node.ownerDocument is not None
    node.appendChild(node.ownerDocument.createTextNode(text))


def found(xmp: str, name: str) -> str | None:
    """Text of one of our properties in a packet; None where it is absent."""
    match = re.search(f"<tileup:{name}>([^<]*)</tileup:{name}>", xmp)
    return unescape(match[1]) if match else None


def packet_of(info: Mapping[str | tuple[int, int], object]) -> str:
    """The packet among what Pillow found in a file (`Image.info`); empty where there is none."""
    raw = info.get("xmp", info.get("XML:com.adobe.xmp", ""))
    return raw.decode("utf-8", "replace") if isinstance(raw, bytes) else str(raw)
