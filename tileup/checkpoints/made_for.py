"""For which models a file was made that is none itself: told by names, widths, and what it says.

Widths are those of the published models; where none fits, names alone count. No torch needed.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from tileup.families.family import Family
from tileup.families.table import FAMILIES, named, of_context
from tileup.families.view import View

FLUX, CHROMA, FLUX2, SD3 = "FLUX", "Chroma", "FLUX.2", "SD 3"
QWEN, Z_IMAGE, LUMINA = "Qwen-Image", "Z-Image", "Lumina 2"
TELLING: Mapping[str, re.Pattern[str]] = {
    CHROMA: re.compile(r"distilled_guidance_layer_"),
    FLUX2: re.compile(r".*(to_qkv_mlp_proj|_ff_linear_(in|out)|_stream_modulation)"),
    QWEN: re.compile(r"transformer_blocks_\d+_(img|txt)_m(lp|od)_"),
    FLUX: re.compile(
        r"(double_blocks_\d+_(img|txt)_mod_lin|single_blocks_\d+_modulation_lin"
        r"|single_transformer_blocks_\d+_norm_linear|single_transformer_blocks_\d+_proj_mlp)"
    ),
}
"""Layers, with underscores, that one family alone has among those of like blocks."""
WIDTHS: Mapping[str, Collection[int]] = {
    SD3: (1536, 2432),
    CHROMA: (3072,),
    FLUX: (3072,),
    QWEN: (3072,),
    FLUX2: (3072, 4096, 6144),
    Z_IMAGE: (3840,),
    LUMINA: (2304,),
}
"""Features of a token within the blocks."""
WORDS: Mapping[str, re.Pattern[str]] = {
    "SD 1.x": re.compile(r"sd[-_ ]?v?1|stable[-_ ]diffusion[-_ ]v1|840000|(?<![a-z])ft[-_]mse"),
    "SD 2.x": re.compile(r"sd[-_ ]?v?2|stable[-_ ]diffusion[-_ ]v2"),
    "SDXL": re.compile(r"sdxl|(?<![a-z])xl|xl(?![a-z])|pony|illustrious|noob"),
    SD3: re.compile(r"sd[-_ ]?v?3|stable[-_ ]diffusion[-_ ](v?3|3)"),
    CHROMA: re.compile(r"chroma"),
    FLUX2: re.compile(r"flux[-_. ]?2|klein"),
    FLUX: re.compile(r"flux(?![-_. ]?2)|(?<![a-z])ae(?![a-z])"),
    QWEN: re.compile(r"qwen"),
    Z_IMAGE: re.compile(r"z[-_ ]?image"),
    LUMINA: re.compile(r"lumina|neta"),
}
"""What files of a family say of themselves in their names and metadata, where it is not just its
name."""
SHORTS = tuple(dict.fromkeys(family.short for family in FAMILIES))
"""Names of families, each once."""


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
    for family, pattern in TELLING.items():
        if family in found and any(pattern.match(name) for name in layers):
            return [family]
    return _of_widths(found, layers)


def _of_widths(found: list[str], layers: Mapping[str, LayerSize | None]) -> list[str]:
    """Those that have blocks so wide, and perceptrons so much wider; all where none has."""
    inputs = {each.inputs for name, each in layers.items() if each and _INNER.search(name)}
    fitting = [family for family in found if inputs and inputs <= {*WIDTHS.get(family, ())}]
    ratios = {
        each.outputs / each.inputs for name, each in layers.items() if each and _FIRST.search(name)
    }
    if ratios:
        second = {6.0, 9.0} & ratios  # FLUX.2's perceptrons have gates and are three times as wide
        fitting = [family for family in fitting if (family == FLUX2) == bool(second)]
    return fitting or found


_INNER = re.compile(r"(to_q|to_k|to_v|qkv|linear1|attention_to_out_0|feed_forward_w1)$")
"""Layers that read the tokens themselves."""
_FIRST = re.compile(r"double_blocks_\d+_img_mlp_0$|single_blocks_\d+_linear1$")
"""Layers whose heights tell FLUX.2 from what is alike."""


def in_words(families: Sequence[str], view: View) -> str:
    """Families in words, and where one of them is told by what the file says; empty for none.

    Args:
        families: those that tensors leave; none: they tell nothing.
        view: of the file.
    """
    if len(families) == 1:
        return families[0]
    for where, text in view.said():
        told = [name for name in families or SHORTS if _says(text, name)]
        if len(told) == 1:
            return f"{told[0]} (by {where})"
    known = [each for each in FAMILIES if each.short in families]
    return named(known) if known else ""


def _says(text: str, family: str) -> bool:
    words = WORDS.get(family)
    return bool(words.search(text)) if words else family.lower() in text
