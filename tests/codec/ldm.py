"""The original VAE as plain functions of its tensors: an implementation of its own, the oracle.

After the paper's autoencoder (Rombach et al. 2022, appendix G; the layers that its checkpoints
name): GroupNorm of 32 groups with eps 1e-6, SiLU, single-head attention in the middle.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

Tensors = Mapping[str, Tensor]


def ldm_encode(tensors: Tensors, x: Tensor) -> Tensor:
    """Mean of the posterior, unscaled, of pixels in [-1, 1]."""
    x = _conv(tensors, "encoder.conv_in", x)
    level = 0
    while f"encoder.down.{level}.block.0.conv1.weight" in tensors:
        x = _blocks(tensors, f"encoder.down.{level}", x)
        if f"encoder.down.{level}.downsample.conv.weight" in tensors:
            x = functional.pad(x, (0, 1, 0, 1))
            x = _conv(tensors, f"encoder.down.{level}.downsample.conv", x, stride=2, padding=0)
        level += 1
    x = _mid(tensors, "encoder.mid", x)
    x = _conv(tensors, "encoder.conv_out", _norm_silu(tensors, "encoder.norm_out", x))
    if "quant_conv.weight" in tensors:
        x = _conv(tensors, "quant_conv", x)
    return x.chunk(2, dim=1)[0]


def ldm_decode(tensors: Tensors, z: Tensor) -> Tensor:
    """Pixels, nominally in [-1, 1], of unscaled latents."""
    if "post_quant_conv.weight" in tensors:
        z = _conv(tensors, "post_quant_conv", z)
    x = _mid(tensors, "decoder.mid", _conv(tensors, "decoder.conv_in", z))
    level = max(int(name.split(".")[2]) for name in tensors if name.startswith("decoder.up."))
    while level >= 0:
        x = _blocks(tensors, f"decoder.up.{level}", x)
        if f"decoder.up.{level}.upsample.conv.weight" in tensors:
            x = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
            x = _conv(tensors, f"decoder.up.{level}.upsample.conv", x)
        level -= 1
    return _conv(tensors, "decoder.conv_out", _norm_silu(tensors, "decoder.norm_out", x))


def _conv(
    tensors: Tensors, name: str, x: Tensor, stride: int = 1, padding: int | None = None
) -> Tensor:
    weight = tensors[f"{name}.weight"]
    padding = weight.shape[-1] // 2 if padding is None else padding
    return functional.conv2d(x, weight, tensors[f"{name}.bias"], stride, padding)


def _norm(tensors: Tensors, name: str, x: Tensor) -> Tensor:
    groups = x.unflatten(1, (32, -1))
    variance, mean = torch.var_mean(groups, dim=(2, 3, 4), correction=0, keepdim=True)
    x = ((groups - mean) / (variance + 1e-6).sqrt()).flatten(1, 2)
    return x * tensors[f"{name}.weight"].view(-1, 1, 1) + tensors[f"{name}.bias"].view(-1, 1, 1)


def _norm_silu(tensors: Tensors, name: str, x: Tensor) -> Tensor:
    x = _norm(tensors, name, x)
    return x * x.sigmoid()


def _block(tensors: Tensors, name: str, x: Tensor) -> Tensor:
    h = _conv(tensors, f"{name}.conv1", _norm_silu(tensors, f"{name}.norm1", x))
    h = _conv(tensors, f"{name}.conv2", _norm_silu(tensors, f"{name}.norm2", h))
    if f"{name}.nin_shortcut.weight" in tensors:
        x = _conv(tensors, f"{name}.nin_shortcut", x)
    return x + h


def _blocks(tensors: Tensors, name: str, x: Tensor) -> Tensor:
    block = 0
    while f"{name}.block.{block}.conv1.weight" in tensors:
        x = _block(tensors, f"{name}.block.{block}", x)
        block += 1
    return x


def _mid(tensors: Tensors, name: str, x: Tensor) -> Tensor:
    x = _block(tensors, f"{name}.block_1", x)
    if f"{name}.attn_1.q.weight" in tensors:
        normed = _norm(tensors, f"{name}.attn_1.norm", x)
        q, k, v = (_conv(tensors, f"{name}.attn_1.{each}", normed).flatten(2) for each in "qkv")
        shares = (q.transpose(1, 2) @ k / math.sqrt(q.shape[1])).softmax(dim=-1)
        x = x + _conv(tensors, f"{name}.attn_1.proj_out", (v @ shares.mT).view_as(x))
    return _block(tensors, f"{name}.block_2", x)
