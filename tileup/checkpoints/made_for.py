"""For which models a file was made that is none itself: told by names, widths, and what it says.

Where no width fits, names alone count. No torch needed.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from tileup.families.family import Family, Hints
from tileup.families.table import FAMILIES, named, of_context
from tileup.families.view import View

HINTS: Mapping[str, Hints] = {family.short: family.hints for family in FAMILIES}
"""By the names of families."""


@dataclass(frozen=True, slots=True)
class LayerSize:
    """A layer that a LoRA changes."""

    outputs: int
    inputs: int


BLOCKED: Sequence[Family] = [family for family in FAMILIES if family.blocks]
"""Families whose blocks have names of their own."""


def families_of_layers(layers: Mapping[str, LayerSize | None]) -> list[str]:
    """For which families changes of a network may be, by their short names; none: not known.

    Args:
        layers: by their names with underscores, without a prefix.
    """
    texts = [each.inputs for name, each in layers.items() if each and name.endswith("attn2_to_k")]
    if texts:
        family = of_context(texts[0])
        return [family.short] if family else []
    counts = [sum(name.startswith(family.blocks) for name in layers) for family in BLOCKED]
    most = max(1, *counts)
    likely = (each.short for each, count in zip(BLOCKED, counts, strict=True) if count == most)
    found = [*dict.fromkeys(likely)]
    for family in found:
        pattern = HINTS[family].layers
        if pattern and any(re.match(pattern, name) for name in layers):
            return [family]
    return _of_widths(found, layers)


def _of_widths(found: list[str], layers: Mapping[str, LayerSize | None]) -> list[str]:
    """Those that have blocks so wide, and perceptrons so much wider; all where none has."""
    inputs = {each.inputs for name, each in layers.items() if each and _INNER.search(name)}
    fitting = [family for family in found if inputs and inputs <= {*HINTS[family].widths}]
    ratios = {
        each.outputs / each.inputs for name, each in layers.items() if each and _FIRST.search(name)
    }
    if ratios:
        fitting = [family for family in fitting if _grows_so(HINTS[family].growths, ratios)]
    return fitting or found


def _grows_so(growths: Collection[float], ratios: Collection[float]) -> bool:
    """Whether perceptrons are as wide as a family's; of those without figures none is known."""
    known = {each for hints in HINTS.values() for each in hints.growths}
    return bool({*ratios} & {*growths}) if growths else not known & {*ratios}


_INNER = re.compile(r"(to_q|to_k|to_v|qkv|linear1|attention_to_out_0|feed_forward_w1)$")
"""Layers that read the tokens themselves."""
_FIRST = re.compile(r"double_blocks_\d+_img_mlp_0$|single_blocks_\d+_linear1$")
"""Layers whose heights tell how much wider perceptrons are."""


def in_words(families: Sequence[str], view: View) -> str:
    """Families in words, and where one of them is told by what the file says; empty for none.

    Args:
        families: those that tensors leave; none: they tell nothing.
        view: of the file.
    """
    if len(families) == 1:
        return families[0]
    for where, text in view.said():
        told = [name for name in families or HINTS if _says(text, name)]
        if len(told) == 1:
            return f"{told[0]} (by {where})"
    known = [each for each in FAMILIES if each.short in families]
    return named(known) if known else ""


def _says(text: str, family: str) -> bool:
    words = HINTS[family].words
    return bool(re.search(words, text)) if words else family.lower() in text
