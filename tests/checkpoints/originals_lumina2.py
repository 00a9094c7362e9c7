"""The transformer of Lumina 2 written down anew, over weights in the layout of its authors.

Nothing of diffusers and nothing of tileup: what a block computes, from the paper and the layout.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from tests.checkpoints.originals import Weights, attention, heads, linear, normed, turned, waves
from tests.checkpoints.originals_z_image import count, feed_forward, rms


def lumina2(w: Weights, x: Tensor, time: Tensor, tokens: Tensor) -> Tensor:
    """x0 - noise, negated to be a velocity, of latents of even sides; `time` in [0, 1]."""
    condition = linear(w, "t_embedder.mlp.0", waves(1 - time))
    condition = functional.silu(linear(w, "t_embedder.mlp.2", functional.silu(condition)))
    rows, columns = x.shape[2] // 2, x.shape[3] // 2
    patches = x.view(len(x), -1, rows, 2, columns, 2).permute(0, 2, 4, 3, 5, 1).flatten(3)
    picture = linear(w, "x_embedder", patches.flatten(1, 2))
    text = linear(w, "cap_embedder.1", rms(tokens, w["cap_embedder.0.weight"]))
    length = text.shape[1]
    grid = [(length, row, column) for row in range(rows) for column in range(columns)]
    words = [(word, 0, 0) for word in range(length)]
    turn, told = _turn(torch.tensor(grid)), _turn(torch.tensor(words))
    for index in range(count(w, "context_refiner")):
        text = _block(w, f"context_refiner.{index}", text, told, None)
    for index in range(count(w, "noise_refiner")):
        picture = _block(w, f"noise_refiner.{index}", picture, turn, condition)
    both, turns = torch.cat([text, picture], dim=1), torch.cat([told, turn])
    for index in range(count(w, "layers")):
        both = _block(w, f"layers.{index}", both, turns, condition)
    scale = linear(w, "final_layer.adaLN_modulation.1", condition)
    out = linear(w, "final_layer.linear", normed(both[:, length:]) * (1 + scale[:, None]))
    out = out.view(len(x), rows, columns, 2, 2, -1)
    return -out.permute(0, 5, 1, 3, 2, 4).reshape(x.shape)


def _turn(places: Tensor) -> Tensor:
    frequency = 10000 ** (-torch.arange(0, 32, 2, dtype=torch.float64) / 32)
    angle = torch.cat([places[:, axis, None] * frequency for axis in range(3)], dim=1)
    return torch.polar(torch.ones_like(angle), angle)


def _block(w: Weights, block: str, x: Tensor, turn: Tensor, condition: Tensor | None) -> Tensor:
    scale, gate, wide, opening = [torch.zeros(()), torch.ones(()), torch.zeros(()), torch.ones(())]
    if condition is not None:
        told = linear(w, f"{block}.adaLN_modulation.1", condition).chunk(4, dim=-1)
        scale, gate, wide, opening = (each[:, None] for each in told)
        gate, opening = gate.tanh(), opening.tanh()
    inner = rms(x, w[f"{block}.attention_norm1.weight"]) * (1 + scale)
    weight = w[f"{block}.attention.qkv.weight"]
    keys = (len(weight) - x.shape[-1]) // 2
    q, k, v = (heads(e, 96) for e in (inner @ weight.T).split([x.shape[-1], keys, keys], dim=-1))
    q, k = (
        turned(rms(each, w[f"{block}.attention.{name}_norm.weight"]), turn)
        for name, each in (("q", q), ("k", k))
    )
    k, v = (each.repeat_interleave(q.shape[1] // each.shape[1], dim=1) for each in (k, v))
    seen = attention(q, k, v) @ w[f"{block}.attention.out.weight"].T
    x = x + gate * rms(seen, w[f"{block}.attention_norm2.weight"])
    return x + opening * feed_forward(w, block, x, wide)
