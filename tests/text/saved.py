"""Encoded prompts written to a file, as diffusers names them."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save_file

from tileup.contracts import Encoded


def save_embeds(path: Path, prompt: Encoded, negative: Encoded | None = None) -> None:
    """Write what `read_embeds` reads."""
    tensors = {}
    for prefix, encoded in (("", prompt), ("negative_", negative)):
        if encoded is not None:
            tensors[f"{prefix}prompt_embeds"] = encoded.tokens.clone()
            if encoded.pooled is not None:
                tensors[f"{prefix}pooled_prompt_embeds"] = encoded.pooled.clone()
    save_file(tensors, path)
