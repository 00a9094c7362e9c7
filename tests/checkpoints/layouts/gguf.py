"""Files in GGUF with random weights, written by the package `gguf`."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter
from gguf.quants import dequantize, quantize
from numpy.typing import NDArray
from torch import Tensor

from tileup.tensors.gguf_file import HALVES

KINDS = tuple(HALVES)


def blocks(kind: str, rows: int, columns: int, spread: float = 1.0, seed: int = 0) -> NDArray[Any]:
    """Random bytes of one format, shape (rows, bytes); values have about this spread."""
    numbers, size = GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
    generator = np.random.default_rng(seed)
    raw = generator.integers(0, 256, (rows * columns // numbers, size), dtype=np.uint8)
    start, end = HALVES[kind]

    def scaled(scale: float) -> NDArray[Any]:
        halves = generator.uniform(0.5, 1.5, (len(raw), (end - start) // 2)) * scale
        raw[:, start:end] = halves.astype(np.float16).view(np.uint8)
        return raw.reshape(rows, -1)

    measured = dequantize(scaled(2.0**-8)[:64], GGMLQuantizationType[kind]).std()
    return scaled(2.0**-8 * spread / measured)


def stored(tensor: Tensor, kind: str) -> NDArray[Any] | None:
    """A matrix in blocks: rounded where the package can do that, else random ones of its spread;
    None where its rows are no whole blocks."""
    wanted = GGMLQuantizationType[kind]
    if tensor.ndim != 2 or tensor.shape[1] % GGML_QUANT_SIZES[wanted][0]:
        return None
    array = tensor.float().numpy()
    try:
        return quantize(array, wanted)
    except NotImplementedError:
        return blocks(kind, *array.shape, spread=float(array.std()), seed=array.size % 1000)


def save_gguf(
    path: Path,
    tensors: Mapping[str, Tensor],
    kinds: str | Sequence[str],
    architecture: str,
    numbers: Mapping[str, int] | None = None,
) -> dict[str, NDArray[Any]]:
    """Write a file whose matrices are in blocks, all else in float32.

    Args:
        path: the file.
        tensors: by the names that they get.
        kinds: of the blocks; of several, matrices take one after another.
        architecture: by llama.cpp's name.
        numbers: of the metadata.

    Returns:
        The values that it holds, by the package's own account.
    """
    writer = GGUFWriter(path, architecture)
    for key, number in (numbers or {}).items():
        writer.add_uint32(key, number)
    values: dict[str, NDArray[Any]] = {}
    turns = itertools.cycle([kinds] if isinstance(kinds, str) else kinds)
    for name, tensor in tensors.items():
        kind = next(turns) if tensor.ndim == 2 else None
        packed = None if kind is None else stored(tensor, kind)
        if kind is None or packed is None:
            values[name] = tensor.float().numpy()
            writer.add_tensor(name, values[name])
        else:
            writer.add_tensor(name, packed, raw_dtype=GGMLQuantizationType[kind])
            values[name] = dequantize(packed, GGMLQuantizationType[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return values


T5_NAMES = {
    "shared.": "token_embd.",
    "encoder.final_layer_norm.": "enc.output_norm.",
    "encoder.block.": "enc.blk.",
    "layer.0.SelfAttention.relative_attention_bias.": "attn_rel_b.",
    "layer.0.SelfAttention.": "attn_",
    "layer.0.layer_norm.": "attn_norm.",
    "layer.1.DenseReluDense.wi_0.": "ffn_gate.",
    "layer.1.DenseReluDense.wi_1.": "ffn_up.",
    "layer.1.DenseReluDense.wo.": "ffn_down.",
    "layer.1.layer_norm.": "ffn_norm.",
}


LANGUAGE_NAMES = {
    "model.embed_tokens.": "token_embd.",
    "model.norm.": "output_norm.",
    "model.layers.": "blk.",
    "lm_head.": "output.",
    "input_layernorm.": "attn_norm.",
    "post_attention_layernorm.": "ffn_norm.",
    "self_attn.o_proj.": "attn_output.",
    "self_attn.q_proj.": "attn_q.",
    "self_attn.k_proj.": "attn_k.",
    "self_attn.v_proj.": "attn_v.",
    "self_attn.q_norm.": "attn_q_norm.",
    "self_attn.k_norm.": "attn_k_norm.",
    "mlp.gate_proj.": "ffn_gate.",
    "mlp.up_proj.": "ffn_up.",
    "mlp.down_proj.": "ffn_down.",
}


def llama_t5(name: str) -> str:
    """What llama.cpp calls a tensor of T5."""
    return _replaced(name.replace("encoder.embed_tokens.", "shared."), T5_NAMES)


def llama_language(name: str) -> str:
    """What llama.cpp calls a tensor of a language model."""
    return _replaced(name, LANGUAGE_NAMES)


def _replaced(name: str, table: Mapping[str, str]) -> str:
    for ours, theirs in table.items():
        name = name.replace(ours, theirs)
    return name
