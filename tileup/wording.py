"""Words that messages of every part need."""

from __future__ import annotations

from collections.abc import Sequence


def counted(number: int, noun: str) -> str:
    """A number of things: `1 window`, `1,024 windows`.

    Args:
        number: how many, at least 0.
        noun: one of them, of those that take an s.
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def listed(words: Sequence[str], link: str = "and") -> str:
    """Words as a sentence lists them: `a, b and c`.

    Args:
        words: at least one.
        link: what stands before the last.
    """
    return f" {link} ".join(filter(None, (", ".join(words[:-1]), words[-1])))
