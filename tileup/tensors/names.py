"""Names of tensors, held against those that are needed; for messages. No torch needed."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from tileup.errors import ModelError

SHOWN = 3
"""Tensors that a message names; the others are counted."""


def listed(names: Iterable[str]) -> str:
    """The first names in words, and how many more there are."""
    ordered = sorted(names)
    shown = ", ".join(ordered[:SHOWN])
    return f"{shown} and {len(ordered) - SHOWN} more" if len(ordered) > SHOWN else shown


def check_names(missing: Collection[str], unexpected: Collection[str], name: str) -> None:
    """Whether a checkpoint has exactly the tensors that its network needs.

    Raises:
        ModelError: some are missing or unexpected.
    """
    lacks = f"lacks {len(missing)} of the tensors that its network needs: {listed(missing)}"
    has = f"has {len(unexpected)} tensors that its network has no place for: {listed(unexpected)}"
    if missing:
        raise ModelError(
            f"{name} {lacks}{f'; and it {has}' if unexpected else ''}. The file is incomplete, or"
            f" of another kind than its other tensors say"
        )
    if unexpected:
        raise ModelError(f"{name} {has}. It is a variant that tileup does not support")
