"""Heatmaps among pictures: what marks them, so that no later run takes one for a photograph."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from tileup.engine.naming import HEATMAP
from tileup.errors import InputError
from tileup.images.exif import BROKEN, TEXTS, loaded
from tileup.images.picture import Picture
from tileup.images.reading import opened
from tileup.storage.remote import Remote

TITLE = "Denoising strengths of a tileup plan"
"""What a heatmap says that it shows."""
_KEYWORD = "Description"
_TAG = next(tag for tag, words in TEXTS.items() if _KEYWORD in words)
_ENDS = 4096
"""Bytes at either end of a file in which such a text stands, whatever the format."""


def titled(picture: Picture) -> Picture:
    """A heatmap that says what it is."""
    return replace(picture, text={**picture.text, _KEYWORD: TITLE})


def is_heatmap(path: Path) -> bool:
    """Whether a file says that it is a heatmap of ours.

    Asked of every picture of a folder, so most are told by a few bytes.
    """
    if isinstance(path, Remote) and not path.name.endswith(HEATMAP):
        return False  # to look into each file of a store takes long
    if not _may_be(path):
        return False
    try:
        with opened(path) as (found, _):
            head = found.head
        said = head.text.get(_KEYWORD) or loaded(head.exif.block).get(_TAG)
    except (InputError, *BROKEN):
        return False
    return (said.decode("utf-8", "replace") if isinstance(said, bytes) else said) == TITLE


def _may_be(path: Path) -> bool:
    try:
        if not path.is_file():  # a pipe would never end
            return False
        with path.open("rb") as stream:
            head = stream.read(_ENDS)
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - _ENDS))
            return TITLE.encode() in head or TITLE.encode() in stream.read()
    except (OSError, ValueError):
        return False
