"""Names of tensors, held against those that are needed; for messages. No torch needed."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator

from tileup.errors import ModelError
from tileup.wording import counted

log = logging.getLogger(__name__)

SHOWN = 3
"""Tensors that a message names; the others are counted."""


def the_first(names: Iterable[str]) -> str:
    """The first names in words, and how many more there are."""
    ordered = sorted(names)
    shown = ", ".join(ordered[:SHOWN])
    return f"{shown} and {len(ordered) - SHOWN} more" if len(ordered) > SHOWN else shown


def check_names(
    missing: Collection[str], beyond: Collection[str], needed: Iterable[str], name: str
) -> None:
    """Whether a checkpoint has the tensors that its network needs.

    A warning names those that belong nowhere, as long as they do not lie beside the weight of a
    layer: what does, changes what the weight means (a scale, a LoRA that was not merged).

    Args:
        missing: names of tensors that the network needs and the file lacks.
        beyond: names of tensors of the file that the network does not need.
        needed: every name that the network needs, in the words of the file.
        name: what messages call the file.

    Raises:
        ModelError: some are missing, or unexpected beside a weight.
    """
    left = counted(len(beyond), "tensor")
    has = f"has {left} that its network has no place for: {the_first(beyond)}"
    if missing:
        lacks = f"lacks {len(missing)} of the tensors that its network needs: {the_first(missing)}"
        raise ModelError(
            f"{name} {lacks}{f'; and it {has}' if beyond else ''}. The file is incomplete, or"
            f" of another kind than its other tensors say"
        )
    layers = {each.rpartition(".")[0] for each in needed} - {""}
    if beside := [each for each in beyond if not layers.isdisjoint(_above(each))]:
        raise ModelError(
            f"{name} {has}. They change what its weights mean ({the_first(beside)}): it is a"
            f" variant that tileup does not support"
        )
    if beyond:
        log.warning("%s %s; they are left out", name, has)


def _above(name: str) -> Iterator[str]:
    """What a name is below of: `a.b` and `a` of `a.b.c`."""
    while name := name.rpartition(".")[0]:
        yield name
