"""Words that messages of every part need."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """A number of things: `1 window`, `1,024 windows`.

    Args:
        number: how many, at least 0.
        noun: one of them, of those that take an s.
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
