"""For which family a ControlNet was made."""

from __future__ import annotations

from tileup.families import control_signs as signs
from tileup.families.table import of_context
from tileup.families.view import View


def controlled(view: View) -> str:
    """The family on which a ControlNet acts, by its tensors; empty where they do not tell."""
    if next(view.names(signs.Z_IMAGE_LAYERS), None):
        return "Z-Image"
    if signs.QWEN_STREAM in view:
        return "Qwen-Image"
    if signs.FLUX_HINT in view or next(view.names("double_blocks."), None):
        return "FLUX"
    if signs.SD3_HINT in view:
        return "SD 3" if signs.SD3_TEXT in view else "SD 3.5 large"
    keys = [name for name in view.names() if name.endswith("attn2.to_k.weight")]
    if not keys:  # the smallest of SDXL have no attention
        sized = next(view.names("label_emb."), None) or next(view.names("add_embedding."), None)
        return "SDXL" if sized else ""
    family = of_context(view.shape(keys[0], 2)[1])
    return family.short if family else ""
