"""The prompt of one picture."""

from __future__ import annotations

from pathlib import Path

from tileup.errors import InputError
from tileup.settings.values import Settings

LONGEST = 10_000
"""Characters of a prompt file that count."""
MARK = "\ufeff"
"""What some editors put before a text to say that it is UTF-8."""


def prompt_path(picture: Path | None) -> Path | None:
    """The text file beside a picture; there need be none."""
    return None if picture is None else picture.with_suffix(".txt")


def prompt_of(picture: Path | None, settings: Settings) -> str:
    """What a picture shows, in words.

    Args:
        picture: its file; None for one that has none.
        settings: with `prompt_file`, the text file beside the picture (a.txt for a.png) takes the
            place of `prompt`, where there is one.

    Returns:
        Text without blanks around it; of a file, its first 10,000 characters.

    Raises:
        InputError: the file is there, but cannot be read or is no UTF-8 text.
    """
    path = prompt_path(picture) if settings.prompt_file else None
    return _read(path) if path is not None and path.exists() else settings.prompt.strip()


def _read(path: Path) -> str:
    if not path.is_file():
        raise InputError(f"prompt {path} is no file")
    try:
        # Not utf-8-sig: opened as such, a file that ends within its mark reads as empty.
        with path.open(encoding="utf-8") as file:
            text = file.read(1 + LONGEST).removeprefix(MARK)[:LONGEST]
    except OSError as error:
        raise InputError(f"prompt {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"prompt {path} is no UTF-8 text; save it as one") from error
    if "\0" in text:
        raise InputError(f"prompt {path} is no text; save it as UTF-8")
    return text.strip()
