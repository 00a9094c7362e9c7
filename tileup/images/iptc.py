"""IPTC-IIM: captions, keywords and names, as agencies and older programs write them.

Formats that have no place for these records get what they say as XMP, by the table of the IPTC
(IPTC Core, "Mapping of IIM to XMP").
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping

from tileup.images.xmp import DC, PHOTOSHOP

RESOURCE = 0x0404
"""Its number among Photoshop's resources."""
_UTF_8 = b"\x1b%G"
_RAW = "Raw profile type "
"""How ImageMagick and exiftool begin the keyword of a text of a PNG that holds bytes."""

_MAPPED = {
    5: (DC, "title", "Alt"),
    25: (DC, "subject", "Bag"),
    40: (PHOTOSHOP, "Instructions", ""),
    55: (PHOTOSHOP, "DateCreated", ""),
    80: (DC, "creator", "Seq"),
    85: (PHOTOSHOP, "AuthorsPosition", ""),
    90: (PHOTOSHOP, "City", ""),
    95: (PHOTOSHOP, "State", ""),
    101: (PHOTOSHOP, "Country", ""),
    103: (PHOTOSHOP, "TransmissionReference", ""),
    105: (PHOTOSHOP, "Headline", ""),
    110: (PHOTOSHOP, "Credit", ""),
    115: (PHOTOSHOP, "Source", ""),
    116: (DC, "rights", "Alt"),
    120: (DC, "description", "Alt"),
    122: (PHOTOSHOP, "CaptionWriter", ""),
}
"""Of record 2: namespace, name and kind of list that XMP has for a field."""


def _fields(records: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Record, field and content of each entry, up to where they do not keep to their form."""
    at = 0
    while at + 5 <= len(records) and records[at] == 0x1C:
        record, field, length = struct.unpack_from(">BBH", records, at + 1)
        if length & 0x8000:
            return
        yield record, field, records[at + 5 : at + 5 + length]
        at += 5 + length


def as_xmp(records: bytes) -> dict[tuple[str, str, str], list[str]]:
    """What the records say, by namespace, name and kind of list of XMP."""
    entries = list(_fields(records))
    unicode = (1, 90, _UTF_8) in entries
    found: dict[tuple[str, str, str], list[str]] = {}
    for record, field, content in entries:
        if record == 2 and field in _MAPPED:
            text = content.decode("utf-8" if unicode else "latin-1", "replace")
            found.setdefault(_MAPPED[field], []).append(text)
    return found


def as_resource(records: bytes) -> bytes:
    """The records as one of Photoshop's resources."""
    head = struct.pack(">4sHHL", b"8BIM", RESOURCE, 0, len(records))
    return head + records + b"\0" * (len(records) % 2)


def of_resources(data: bytes) -> bytes | None:
    """The records among Photoshop's resources."""
    at = 0
    while data[at : at + 4] == b"8BIM" and at + 12 <= len(data):
        (number,) = struct.unpack_from(">H", data, at + 4)
        start = at + 6 + (data[at + 6] + 2) // 2 * 2
        (length,) = struct.unpack_from(">L", data, start)
        if number == RESOURCE:
            return data[start + 4 : start + 4 + length]
        at = start + 4 + length + length % 2
    return None


def raw_text(name: str, data: bytes) -> tuple[str, str]:
    """Keyword and text under which a PNG holds bytes."""
    digits = data.hex()
    lines = (digits[at : at + 72] for at in range(0, len(digits), 72))
    return f"{_RAW}{name}", "\n".join(["", name, f"{len(data):8}", *lines, ""])


def raw_data(text: Mapping[str, str], name: str) -> bytes | None:
    """The bytes that a PNG holds under a name."""
    lines = text.get(f"{_RAW}{name}", "").split("\n")
    try:
        return bytes.fromhex("".join(lines[3:])) or None
    except ValueError:
        return None


def is_raw(keyword: str) -> bool:
    """Whether a text of a PNG holds bytes."""
    return keyword.startswith(_RAW)


def of_texts(text: Mapping[str, str]) -> bytes | None:
    """The records that the texts of a PNG hold."""
    data = raw_data(text, "iptc") or raw_data(text, "8bim")
    return of_resources(data) if data is not None and data.startswith(b"8BIM") else data
