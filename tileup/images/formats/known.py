"""All picture formats, loaded by their names in the settings."""

from __future__ import annotations

from importlib import import_module

from tileup.images.formats.format import Format
from tileup.settings.format_names import FORMAT_NAMES, FormatName
from tileup.wording import listed


def _loaded(names: FormatName) -> Format:
    module = names.title.lower().replace(" ", "")
    return import_module(f"{__package__}.{module}").FORMAT


FORMATS = tuple(_loaded(each) for each in FORMAT_NAMES)
"""All of them, in the order in which they are told and named."""
BY_NAME = {each.name: each for each in FORMATS}
WRITTEN = {name: each for each in FORMATS for name in each.names.extensions}
"""Formats that are written, by each extension that asks for them."""
SUFFIXES = frozenset(f".{name}" for each in FORMAT_NAMES for name in (*each.extensions, *each.also))
"""Endings of files that are taken for pictures, lower case."""
READ_IN_WORDS = listed([each.title for each in FORMATS])
"""What is read."""
WRITTEN_IN_WORDS = listed([each.name for each in FORMATS if each.write])
"""What is written."""


def format_of(name: str) -> Format:
    """The format of this name."""
    return BY_NAME[name]
