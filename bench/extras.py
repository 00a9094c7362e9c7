"""What benches and training need beside the program: the extras `bench` and `train`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def from_extra(extra: str) -> Iterator[None]:
    """Imports inside are of packages of an extra.

    Raises:
        SystemExit: one of them is not installed; says what to do.
    """
    try:
        yield
    except ImportError as error:
        raise SystemExit(f"{extra}: {error}.\n  {how_to_install(extra)}") from error


def how_to_install(extra: str) -> str:
    """Of the line that follows what is missing."""
    return f"Try: pip install -c constraints.txt '.[{extra}]'"
