"""llama.cpp's names for the tensors of text encoders, and transformers'.

Networks that draw keep their own names in GGUF files; language models and T5 have llama.cpp's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from tileup.errors import ModelError

EntryT = TypeVar("EntryT")

T5 = {
    r"token_embd\.": "shared.",
    r"enc\.output_norm\.": "encoder.final_layer_norm.",
    r"enc\.blk\.(\d+)\.attn_([qkv])\.": r"encoder.block.\1.layer.0.SelfAttention.\2.",
    r"enc\.blk\.(\d+)\.attn_o\.": r"encoder.block.\1.layer.0.SelfAttention.o.",
    r"enc\.blk\.(\d+)\.attn_rel_b\.": (
        r"encoder.block.\1.layer.0.SelfAttention.relative_attention_bias."
    ),
    r"enc\.blk\.(\d+)\.attn_norm\.": r"encoder.block.\1.layer.0.layer_norm.",
    r"enc\.blk\.(\d+)\.ffn_gate\.": r"encoder.block.\1.layer.1.DenseReluDense.wi_0.",
    r"enc\.blk\.(\d+)\.ffn_up\.": r"encoder.block.\1.layer.1.DenseReluDense.wi_1.",
    r"enc\.blk\.(\d+)\.ffn_down\.": r"encoder.block.\1.layer.1.DenseReluDense.wo.",
    r"enc\.blk\.(\d+)\.ffn_norm\.": r"encoder.block.\1.layer.1.layer_norm.",
    r"dec\.": "decoder.",
    r"output\.": "lm_head.",
}
LANGUAGE = {
    r"token_embd\.": "model.embed_tokens.",
    r"output_norm\.": "model.norm.",
    r"output\.": "lm_head.",
    r"blk\.(\d+)\.attn_norm\.": r"model.layers.\1.input_layernorm.",
    r"blk\.(\d+)\.attn_([qkv])\.": r"model.layers.\1.self_attn.\2_proj.",
    r"blk\.(\d+)\.attn_([qk])_norm\.": r"model.layers.\1.self_attn.\2_norm.",
    r"blk\.(\d+)\.attn_output\.": r"model.layers.\1.self_attn.o_proj.",
    r"blk\.(\d+)\.ffn_norm\.": r"model.layers.\1.post_attention_layernorm.",
    r"blk\.(\d+)\.ffn_(gate|up|down)\.": r"model.layers.\1.mlp.\2_proj.",
}
PAIRED = ("llama", "mistral3")
"""Architectures whose queries and keys llama.cpp stores pair by pair: of each head the rows 0, n/2,
1, n/2 + 1 and so on. Mistral is one."""
TABLES = {
    "t5": T5,
    "t5encoder": T5,
    **dict.fromkeys(("qwen2", "qwen2vl", "qwen3", *PAIRED), LANGUAGE),
}
"""By llama.cpp's name of the architecture."""


def renamed(
    entries: Mapping[str, EntryT], metadata: Mapping[str, str], path: Path
) -> dict[str, EntryT]:
    """Entries under the names of transformers, where the file is that of a text encoder.

    Raises:
        ModelError: two tensors get one name.
    """
    table = TABLES.get(metadata.get("general.architecture", ""))
    if table is None:
        return {**entries}
    found = {_name(name, table): each for name, each in entries.items()}
    if len(found) < len(entries):
        raise ModelError(f"{path} is damaged: two of its tensors mean the same")
    return found


def heads(name: str, metadata: Mapping[str, str]) -> int:
    """In how many heads the rows of a tensor lie pair by pair; 0: they lie in order.

    Args:
        name: of the tensor, as the file has it.
        metadata: of the file.

    Raises:
        ValueError, KeyError: the metadata does not tell.
    """
    kind = metadata.get("general.architecture", "")
    match = re.fullmatch(r"blk\.\d+\.attn_([qk])\.(weight|bias)", name)
    if kind not in PAIRED or match is None:
        return 0
    count = f"{kind}.attention.head_count"
    return int(metadata.get(f"{count}_kv", metadata[count]) if match[1] == "k" else metadata[count])


def _name(name: str, table: Mapping[str, str]) -> str:
    for old, new in table.items():
        if re.match(old, name):
            return re.sub(old, new, name, count=1)
    return name
