"""Names of tensors, held against those that are needed; for messages. No torch needed."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from tileup.errors import ModelError
from tileup.wording import counted

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

SHOWN = 3
"""Tensors that a message names; the others are counted."""


def the_first(names: Iterable[str]) -> str:
    """The first names in words, and how many more there are."""
    ordered = sorted(names)
    shown = ", ".join(ordered[:SHOWN])
    return f"{shown} and {len(ordered) - SHOWN} more" if len(ordered) > SHOWN else shown


_MEANING = re.compile(
    r"scale|zero|quant|absmax|lora|dora|loha|lokr|hada|codebook|adapter|bias"
    r"|(?<![a-z])(?:scb|codes?|lut|idx|perm|rot|rotation|smooth|bits|group|min|max|diff|delta|mask"
    r"|norm|mean|std|gain|gamma|beta|shift|up|down|weight_[gv])(?![a-z])",
    re.IGNORECASE,
)
"""What names of tensors have in them that change what a weight means, or what its layer gives."""


def in_few_bits(tensors: Mapping[str, Tensor]) -> set[str]:
    """The layers of which a tensor is stored in 8 bits or fewer."""
    # Packed weights count as what is stored.
    few = (name for name, each in tensors.items() if each.nbytes < 2 * each.numel())
    return {name.rpartition(".")[0] for name in few}


def check_names(
    missing: Collection[str],
    beyond: Collection[str],
    needed: Iterable[str],
    name: str,
    few_bits: Collection[str] = (),
) -> None:
    """Whether a checkpoint has the tensors that its network needs.

    A warning names those that belong nowhere. Beside the weight of a layer some change what it
    means: a scale, a bias, a LoRA that was not merged, and anything beside one of few bits.

    Args:
        missing: names of tensors that the network needs and the file lacks.
        beyond: names of tensors of the file that the network does not need.
        needed: every name that the network needs, in the words of the file.
        name: what messages call the file.
        few_bits: layers that are stored in 8 bits or fewer, in the words of the file.

    Raises:
        ModelError: some are missing, or beside a weight that they seem to change.
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
    if changing := [each for each in beyond if _changes(each, layers, few_bits)]:
        raise ModelError(
            f"{name} {has}. They change what its weights mean ({the_first(changing)}): it is a"
            f" variant that tileup does not support"
        )
    if beyond:
        log.warning("%s %s; they are left out", name, has)


def _changes(name: str, layers: Collection[str], few_bits: Collection[str]) -> bool:
    """Whether a tensor lies beside a weight, and seems to change what that means."""
    for layer in _above(name):
        if layer in layers:
            return layer in few_bits or bool(_MEANING.search(name.removeprefix(layer)))
    return False


def _above(name: str) -> Iterator[str]:
    """What a name is below of: `a.b` and `a` of `a.b.c`."""
    while name := name.rpartition(".")[0]:
        yield name
