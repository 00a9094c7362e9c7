"""The transformer of Z-Image written down anew, over weights in the layout of people's files.

Nothing of diffusers and nothing of tileup: what a block computes, from the paper and the layout.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from tests.checkpoints.originals import Weights, attention, heads, linear, normed, turned, waves

MULTIPLE = 32
"""Rows of tokens are filled up to a multiple of this."""


def z_image(w: Weights, x: Tensor, time: Tensor, tokens: Tensor) -> Tensor:
    """x0 - noise, negated to be a velocity, of latents of even sides; `time` in [0, 1]."""
    return torch.cat(
        [-_one(w, *each) for each in zip(x.split(1), time.split(1), tokens.split(1), strict=True)]
    )


def _one(w: Weights, x: Tensor, time: Tensor, tokens: Tensor) -> Tensor:
    condition = linear(w, "t_embedder.mlp.0", waves(1000 * (1 - time)))
    condition = linear(w, "t_embedder.mlp.2", functional.silu(condition))
    rows, columns = x.shape[2] // 2, x.shape[3] // 2
    patches = x.view(1, -1, rows, 2, columns, 2).permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
    text = linear(w, "cap_embedder.1", rms(tokens, w["cap_embedder.0.weight"]))
    picture, text = (
        _filled(each, w[f"{name}_pad_token"])
        for name, each in (("x", linear(w, "x_embedder", patches)), ("cap", text))
    )
    length = text.shape[1]
    places = torch.zeros(picture.shape[1], 3)
    grid = [(length + 1, row, column) for row in range(rows) for column in range(columns)]
    places[: len(grid)] = torch.tensor(grid)
    words = torch.zeros(length, 3)
    words[:, 0] = torch.arange(length) + 1
    turn, told = _turn(places), _turn(words)
    for index in range(count(w, "noise_refiner")):
        picture = _block(w, f"noise_refiner.{index}", picture, turn, condition)
    for index in range(count(w, "context_refiner")):
        text = _block(w, f"context_refiner.{index}", text, told, None)
    both, turns = torch.cat([picture, text], dim=1), torch.cat([turn, told])
    for index in range(count(w, "layers")):
        both = _block(w, f"layers.{index}", both, turns, condition)
    scale = linear(w, "final_layer.adaLN_modulation.1", functional.silu(condition))
    out = linear(w, "final_layer.linear", normed(both) * (1 + scale[:, None]))
    out = out[:, : rows * columns].view(1, rows, columns, 2, 2, -1)
    return out.permute(0, 5, 1, 3, 2, 4).reshape(x.shape)


def rms(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    return weight * x / (x.square().mean(-1, keepdim=True) + eps).sqrt()


def _filled(x: Tensor, token: Tensor) -> Tensor:
    return torch.cat([x, token[None].expand(1, -x.shape[1] % MULTIPLE, -1)], dim=1)


def _turn(places: Tensor) -> Tensor:
    angles = [
        places[:, axis, None] * 256 ** (-torch.arange(0, size, 2, dtype=torch.float64) / size)
        for axis, size in enumerate((32, 48, 48))
    ]
    angle = torch.cat(angles, dim=1)
    return torch.polar(torch.ones_like(angle), angle)


def _block(w: Weights, block: str, x: Tensor, turn: Tensor, condition: Tensor | None) -> Tensor:
    scale, gate, wide, opening = [torch.zeros(()), torch.ones(()), torch.zeros(()), torch.ones(())]
    if condition is not None:
        told = linear(w, f"{block}.adaLN_modulation.0", condition).chunk(4, dim=-1)
        scale, gate, wide, opening = (each[:, None] for each in told)
        gate, opening = gate.tanh(), opening.tanh()
    inner = rms(x, w[f"{block}.attention_norm1.weight"]) * (1 + scale)
    q, k, v = (heads(e, 128) for e in (inner @ w[f"{block}.attention.qkv.weight"].T).chunk(3, -1))
    q, k = (
        turned(rms(each, w[f"{block}.attention.{name}_norm.weight"]), turn)
        for name, each in (("q", q), ("k", k))
    )
    seen = attention(q, k, v) @ w[f"{block}.attention.out.weight"].T
    x = x + gate * rms(seen, w[f"{block}.attention_norm2.weight"])
    return x + opening * feed_forward(w, block, x, wide)


def feed_forward(w: Weights, block: str, x: Tensor, wide: Tensor) -> Tensor:
    """A gated perceptron between two norms, its input scaled by `1 + wide`."""
    inner = rms(x, w[f"{block}.ffn_norm1.weight"]) * (1 + wide)
    one, two, three = (w[f"{block}.feed_forward.w{number}.weight"].T for number in (1, 2, 3))
    out = (functional.silu(inner @ one) * (inner @ three)) @ two
    return rms(out, w[f"{block}.ffn_norm2.weight"])


def count(w: Weights, stack: str) -> int:
    return len({name.split(".")[1] for name in w if name.startswith(f"{stack}.")})
