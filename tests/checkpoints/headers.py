"""Checkpoints that are all head: names and shapes in the published layouts, and no weights.

The layouts are those of the original single files, at the widths and depths given; the bytes of
the tensors are a hole in the file, which reads as zeros and takes no space.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

Shapes = dict[str, tuple[int, ...]]

BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "I64": 8, "U8": 1}


def save_head(
    path: Path,
    shapes: Mapping[str, tuple[int, ...]],
    dtype: str = "F16",
    metadata: Mapping[str, str] | None = None,
    values: Mapping[str, np.ndarray] | None = None,
    dtypes: Mapping[str, str] | None = None,
    kind: str = "F32",
) -> Path:
    """Write a safetensors file of zeros; `values` fill some of its tensors, in precision `kind`."""
    entries: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    place = 0
    kinds = dict(dtypes or {}) | dict.fromkeys(values or {}, kind)
    for name, shape in shapes.items():
        own = kinds.get(name, dtype)
        end = place + math.prod(shape) * BYTES[own]
        entries[name] = {"dtype": own, "shape": list(shape), "data_offsets": [place, end]}
        place = end
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + place)
        for name, array in (values or {}).items():
            file.seek(8 + len(text) + entries[name]["data_offsets"][0])  # type: ignore[index]
            file.write(_stored(array, kind))
    return path


def _stored(array: np.ndarray, kind: str) -> bytes:
    if kind == "BF16":
        return (np.asarray(array, np.float32).view(np.uint32) >> 16).astype("<u2").tobytes()
    return np.asarray(array, {"F32": "<f4", "F16": "<f2"}[kind]).tobytes()


def under(prefix: str, shapes: Mapping[str, tuple[int, ...]]) -> Shapes:
    return {prefix + name: shape for name, shape in shapes.items()}


def linear(name: str, out: int, into: int, bias: bool = True) -> Shapes:
    return {f"{name}.weight": (out, into)} | ({f"{name}.bias": (out,)} if bias else {})


def conv(name: str, out: int, into: int, size: int = 3) -> Shapes:
    return {f"{name}.weight": (out, into, size, size), f"{name}.bias": (out,)}


def norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _resnet(name: str, into: int, out: int, time: int) -> Shapes:
    shapes = norm(f"{name}.in_layers.0", into) | conv(f"{name}.in_layers.2", out, into)
    shapes |= linear(f"{name}.emb_layers.1", out, time)
    shapes |= norm(f"{name}.out_layers.0", out) | conv(f"{name}.out_layers.3", out, out)
    return shapes | (conv(f"{name}.skip_connection", out, into, 1) if into != out else {})


def _attention(name: str, width: int, context: int, depth: int, as_linear: bool) -> Shapes:
    shapes = norm(f"{name}.norm", width)
    for side in ("proj_in", "proj_out"):
        make = linear(f"{name}.{side}", width, width)
        shapes |= make if as_linear else conv(f"{name}.{side}", width, width, 1)
    for number in range(depth):
        block = f"{name}.transformer_blocks.{number}"
        for attn, keys in (("attn1", width), ("attn2", context)):
            shapes |= linear(f"{block}.{attn}.to_q", width, width, bias=False)
            shapes |= linear(f"{block}.{attn}.to_k", width, keys, bias=False)
            shapes |= linear(f"{block}.{attn}.to_v", width, keys, bias=False)
            shapes |= linear(f"{block}.{attn}.to_out.0", width, width)
        shapes |= linear(f"{block}.ff.net.0.proj", 8 * width, width)
        shapes |= linear(f"{block}.ff.net.2", width, 4 * width)
        for each in ("norm1", "norm2", "norm3"):
            shapes |= norm(f"{block}.{each}", width)
    return shapes


def unet(
    width: int = 32,
    multiples: tuple[int, ...] = (1, 2, 4, 4),
    depths: tuple[int, ...] = (1, 1, 1, 0),
    context: int = 768,
    as_linear: bool = False,
    vector: int | None = None,
    inputs: int = 4,
    middle: int = 1,
    resnets: int = 2,
) -> Shapes:
    """A UNet as in the original files; defaults are SD 1's but for the width."""
    time = 4 * width
    shapes = linear("time_embed.0", time, width) | linear("time_embed.2", time, time)
    if vector is not None:
        shapes |= linear("label_emb.0.0", time, vector) | linear("label_emb.0.2", time, time)
    shapes |= conv("input_blocks.0.0", width, inputs)
    skips, now, number = [width], width, 1
    for level, multiple in enumerate(multiples):
        for _ in range(resnets):
            shapes |= _resnet(f"input_blocks.{number}.0", now, width * multiple, time)
            now = width * multiple
            if depths[level]:
                name = f"input_blocks.{number}.1"
                shapes |= _attention(name, now, context, depths[level], as_linear)
            skips.append(now)
            number += 1
        if level < len(multiples) - 1:
            shapes |= conv(f"input_blocks.{number}.0.op", now, now)
            skips.append(now)
            number += 1
    shapes |= _resnet("middle_block.0", now, now, time) | _resnet("middle_block.2", now, now, time)
    if middle:
        shapes |= _attention("middle_block.1", now, context, middle, as_linear)
    number = 0
    for level, multiple in reversed([*enumerate(multiples)]):
        for each in range(resnets + 1):
            name = f"output_blocks.{number}"
            shapes |= _resnet(f"{name}.0", now + skips.pop(), width * multiple, time)
            now = width * multiple
            if depths[level]:
                shapes |= _attention(f"{name}.1", now, context, depths[level], as_linear)
            if level and each == resnets:
                shapes |= conv(f"{name}.{2 if depths[level] else 1}.conv", now, now)
            number += 1
    return shapes | norm("out.0", now) | conv("out.2", 4, now)


def vae(width: int = 32, channels: int = 4, quant: bool = True) -> Shapes:
    """A VAE as in the original files, of four levels with one block each."""
    shapes: Shapes = {}
    for side, ins, outs in (("encoder", 3, 2 * channels), ("decoder", channels, 3)):
        shapes |= conv(f"{side}.conv_in", width, ins) | conv(f"{side}.conv_out", outs, width)
        shapes |= norm(f"{side}.norm_out", width)
        kind, step = ("down", "downsample") if side == "encoder" else ("up", "upsample")
        for level in range(4):
            block = f"{side}.{kind}.{level}"
            shapes |= norm(f"{block}.block.0.norm1", width)
            shapes |= conv(f"{block}.block.0.conv1", width, width)
            if level != (3 if side == "encoder" else 0):
                shapes |= conv(f"{block}.{step}.conv", width, width)
        for each in ("q", "k", "v", "proj_out"):
            shapes |= conv(f"{side}.mid.attn_1.{each}", width, width, 1)
    if quant:
        shapes |= conv("quant_conv", 2 * channels, 2 * channels, 1)
        shapes |= conv("post_quant_conv", channels, channels, 1)
    return shapes


def clip(width: int = 64, layers: int = 2, projection: bool = False) -> Shapes:
    """A CLIP text encoder as transformers names it."""
    shapes: Shapes = {
        "text_model.embeddings.token_embedding.weight": (100, width),
        "text_model.embeddings.position_embedding.weight": (77, width),
    }
    for number in range(layers):
        block = f"text_model.encoder.layers.{number}"
        for each in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= linear(f"{block}.self_attn.{each}", width, width)
        shapes |= norm(f"{block}.layer_norm1", width) | norm(f"{block}.layer_norm2", width)
        shapes |= linear(f"{block}.mlp.fc1", 4 * width, width)
        shapes |= linear(f"{block}.mlp.fc2", width, 4 * width)
    shapes |= norm("text_model.final_layer_norm", width)
    return shapes | ({"text_projection.weight": (width, width)} if projection else {})


def open_clip(width: int = 64, layers: int = 2) -> Shapes:
    """A CLIP text encoder as OpenCLIP names it."""
    shapes: Shapes = {
        "token_embedding.weight": (100, width),
        "positional_embedding": (77, width),
        "text_projection": (width, width),
    }
    for number in range(layers):
        block = f"transformer.resblocks.{number}"
        shapes |= {f"{block}.attn.in_proj_weight": (3 * width, width)}
        shapes |= {f"{block}.attn.in_proj_bias": (3 * width,)}
        shapes |= linear(f"{block}.attn.out_proj", width, width)
        shapes |= norm(f"{block}.ln_1", width) | norm(f"{block}.ln_2", width)
        shapes |= linear(f"{block}.mlp.c_fc", 4 * width, width)
        shapes |= linear(f"{block}.mlp.c_proj", width, 4 * width)
    return shapes | norm("ln_final", width)


def t5(width: int = 64, layers: int = 2) -> Shapes:
    """A T5 encoder as transformers names it."""
    shapes: Shapes = {"shared.weight": (100, width)}
    for number in range(layers):
        block = f"encoder.block.{number}"
        for each in ("q", "k", "v", "o"):
            shapes |= {f"{block}.layer.0.SelfAttention.{each}.weight": (width, width)}
        shapes |= {f"{block}.layer.0.layer_norm.weight": (width,)}
        shapes |= {f"{block}.layer.1.DenseReluDense.wi_0.weight": (2 * width, width)}
        shapes |= {f"{block}.layer.1.DenseReluDense.wi_1.weight": (2 * width, width)}
        shapes |= {f"{block}.layer.1.DenseReluDense.wo.weight": (width, 2 * width)}
        shapes |= {f"{block}.layer.1.layer_norm.weight": (width,)}
    return shapes | {"encoder.final_layer_norm.weight": (width,)}


def sd3(width: int = 64, depth: int = 2, context: int = 4096, dual: bool = False) -> Shapes:
    """An MMDiT as in the original files; 3.5's norms come with `dual`."""
    shapes: Shapes = {"pos_embed": (1, 36864, width)}
    shapes |= conv("x_embedder.proj", width, 16, 2) | linear("context_embedder", width, context)
    for name, into in (("t_embedder.mlp", 256), ("y_embedder.mlp", 2048)):
        shapes |= linear(f"{name}.0", width, into) | linear(f"{name}.2", width, width)
    for number in range(depth):
        for side in ("context_block", "x_block"):
            block = f"joint_blocks.{number}.{side}"
            shapes |= linear(f"{block}.attn.qkv", 3 * width, width)
            shapes |= linear(f"{block}.attn.proj", width, width)
            shapes |= linear(f"{block}.mlp.fc1", 4 * width, width)
            shapes |= linear(f"{block}.mlp.fc2", width, 4 * width)
            shapes |= linear(f"{block}.adaLN_modulation.1", 6 * width, width)
            if dual:
                shapes |= {f"{block}.attn.ln_q.weight": (64,), f"{block}.attn.ln_k.weight": (64,)}
        if dual:
            shapes |= linear(f"joint_blocks.{number}.x_block.attn2.qkv", 3 * width, width)
    shapes |= linear("final_layer.linear", 64, width)
    return shapes | linear("final_layer.adaLN_modulation.1", 2 * width, width)


def flux(
    width: int = 64, doubles: int = 2, singles: int = 2, guidance: bool = True, inputs: int = 64
) -> Shapes:
    """FLUX.1 as in the original files."""
    shapes = linear("img_in", width, inputs) | linear("txt_in", width, 4096)
    for name, into in (("time_in", 256), ("vector_in", 768), ("guidance_in", 256)):
        if guidance or name != "guidance_in":
            shapes |= linear(f"{name}.in_layer", width, into)
            shapes |= linear(f"{name}.out_layer", width, width)
    for number in range(doubles):
        for side in ("img", "txt"):
            block = f"double_blocks.{number}.{side}"
            shapes |= linear(f"{block}_attn.qkv", 3 * width, width)
            shapes |= linear(f"{block}_attn.proj", width, width)
            shapes |= linear(f"{block}_mlp.0", 4 * width, width)
            shapes |= linear(f"{block}_mlp.2", width, 4 * width)
            shapes |= linear(f"{block}_mod.lin", 6 * width, width)
            shapes |= {f"{block}_attn.norm.key_norm.scale": (128,)}
            shapes |= {f"{block}_attn.norm.query_norm.scale": (128,)}
    for number in range(singles):
        block = f"single_blocks.{number}"
        shapes |= linear(f"{block}.linear1", 7 * width, width)
        shapes |= linear(f"{block}.linear2", width, 5 * width)
        shapes |= linear(f"{block}.modulation.lin", 3 * width, width)
        shapes |= {f"{block}.norm.key_norm.scale": (128,), f"{block}.norm.query_norm.scale": (128,)}
    shapes |= linear("final_layer.linear", 64, width)
    return shapes | linear("final_layer.adaLN_modulation.1", 2 * width, width)


NET = "model.diffusion_model."
SDXL = {"multiples": (1, 2, 4), "depths": (0, 2, 10), "middle": 10, "as_linear": True}
REFINER = {"depths": (0, 4, 4, 0), "middle": 4, "as_linear": True}


def sd1_file(**changes: object) -> Shapes:
    shapes = under(NET, unet(**changes))  # type: ignore[arg-type]
    shapes |= under("first_stage_model.", vae())
    return shapes | under("cond_stage_model.transformer.", clip(768))


def sd2_file(**changes: object) -> Shapes:
    shapes = under(NET, unet(**{"context": 1024, "as_linear": True, **changes}))  # type: ignore[arg-type]
    shapes |= under("first_stage_model.", vae())
    return shapes | under("cond_stage_model.model.", open_clip(1024))


def sdxl_file(**changes: object) -> Shapes:
    shapes = under(NET, unet(**{**SDXL, "context": 2048, "vector": 2816, **changes}))  # type: ignore[arg-type]
    shapes |= under("first_stage_model.", vae())
    shapes |= under("conditioner.embedders.0.transformer.", clip(768))
    return shapes | under("conditioner.embedders.1.model.", open_clip(1280))


def refiner_file(**changes: object) -> Shapes:
    shapes = under(NET, unet(**{**REFINER, "context": 1280, "vector": 2560, **changes}))  # type: ignore[arg-type]
    shapes |= under("first_stage_model.", vae())
    return shapes | under("conditioner.embedders.0.model.", open_clip(1280))


def sd3_file(encoders: bool = True, **changes: object) -> Shapes:
    shapes = under(NET, sd3(**changes))  # type: ignore[arg-type]
    shapes |= under("first_stage_model.", vae(channels=16, quant=False))
    if encoders:
        shapes |= under("text_encoders.clip_l.transformer.", clip(768, projection=True))
        shapes |= under("text_encoders.clip_g.transformer.", clip(1280, projection=True))
    return shapes


SD2_BIAS = f"{NET}output_blocks.11.1.transformer_blocks.0.norm1.bias"


def spread(deviation: float, width: int = 32) -> dict[str, np.ndarray]:
    """The bias that tells what an SD 2 predicts, with exactly this standard deviation."""
    return {SD2_BIAS: np.where(np.arange(width) % 2, deviation, -deviation).astype(np.float32)}
