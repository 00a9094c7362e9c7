"""URLs: which are taken, and what of them may be told."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import cast
from urllib.parse import unquote, urlsplit

from tileup.errors import UsageError

STORES = ("s3", "gs")
"""Schemes of stores, where files can be listed and written."""
WEB = ("https", "http")
"""Schemes from which single files are read."""
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def is_url(text: str) -> bool:
    """Whether a text names a place by a URL, and not a file of this machine."""
    return _URL.match(text) is not None


def checked_url(text: str) -> str:
    """A URL that is taken.

    Raises:
        UsageError: its scheme is not known, or it holds a password.
    """
    scheme, _, rest = text.partition("://")
    scheme = scheme.lower()
    if scheme not in (*STORES, *WEB):
        raise UsageError(
            f"{told_url(text)}: of URLs, tileup takes s3://, gs://, https:// and http://"
        )
    if scheme in STORES and "@" in rest.partition("/")[0]:
        raise UsageError(
            f"{told_url(text)}: keys do not go into a URL; give them as the store's own tools take "
            f"them, such as AWS_ACCESS_KEY_ID"
        )
    return f"{scheme}://{rest}"


def told_url(text: str) -> str:
    """A URL without what may be secret: user and password, and the query of a web address, in
    which signatures stand. Of any other text, the text."""
    if not is_url(text):
        return text
    scheme, _, rest = text.partition("://")
    if scheme.lower() in WEB:
        rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    host, slash, path = rest.partition("/")
    return f"{scheme.lower()}://{host.rpartition('@')[2]}{slash}{path}"


def told_values(values: Mapping[str, object]) -> dict[str, object]:
    """Values by name, each URL among them as `told_url` gives it, also in lists."""
    return {name: _told(value) for name, value in values.items()}


def _told(value: object) -> object:
    if isinstance(value, list):
        return [_told(each) for each in cast("list[object]", value)]
    return told_url(value) if isinstance(value, str) else value


def local_file(text: str) -> str:
    """The file of this machine that a `file://` URL names; of any other text, the text."""
    if text.lower().startswith("file://"):
        return unquote(urlsplit(text).path)
    return text
