"""The transformer of FLUX.2 written down anew, over weights in the layout of its authors.

Nothing of diffusers and nothing of tileup: what a block computes, from the layout and the words of
its authors.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from tests.checkpoints.originals import (
    Weights,
    attention,
    heads,
    modulated,
    normed,
    scaled,
    turned,
    waves,
)


def flux2(
    w: Weights, x: Tensor, time: Tensor, tokens: Tensor, guidance: float | None = None
) -> Tensor:
    """Velocity, of latents of any sides; `time` in [0, 1]."""
    rows, columns = x.shape[-2:]
    condition = _embedded(w, "time_in", waves(1000 * time))
    if guidance is not None:
        condition = condition + _embedded(
            w, "guidance_in", waves(torch.full((1,), 1000 * guidance))
        )
    condition = functional.silu(condition)
    picture, text = x.flatten(2).mT @ w["img_in.weight"].T, tokens @ w["txt_in.weight"].T
    turn = _turns(text.shape[1], rows, columns)
    told = {
        stream: (condition @ w[f"double_stream_modulation_{stream}.lin.weight"].T).chunk(6, -1)
        for stream in ("txt", "img")
    }
    streams, index = {"txt": text, "img": picture}, 0
    while f"double_blocks.{index}.img_attn.qkv.weight" in w:
        streams = _double(w, f"double_blocks.{index}", streams, told, turn)
        index += 1
    both, index = torch.cat([*streams.values()], dim=1), 0
    m = (condition @ w["single_stream_modulation.lin.weight"].T).chunk(3, dim=-1)
    while f"single_blocks.{index}.linear1.weight" in w:
        both = _single(w, f"single_blocks.{index}", both, m, turn)
        index += 1
    shift, scale = (condition @ w["final_layer.adaLN_modulation.1.weight"].T).chunk(2, dim=-1)
    picture = normed(both[:, text.shape[1] :]) * (1 + scale[:, None]) + shift[:, None]
    return (picture @ w["final_layer.linear.weight"].T).mT.reshape(x.shape)


def _embedded(w: Weights, name: str, value: Tensor) -> Tensor:
    inner = functional.silu(value @ w[f"{name}.in_layer.weight"].T)
    return inner @ w[f"{name}.out_layer.weight"].T


def _turns(length: int, rows: int, columns: int) -> Tensor:
    words = [(0, 0, 0, number) for number in range(length)]
    places = [(0, row, column, 0) for row in range(rows) for column in range(columns)]
    position = torch.tensor([*words, *places], dtype=torch.float64)
    speed = 2000 ** (-torch.arange(0, 32, 2, dtype=torch.float64) / 32)
    angle = (position[:, :, None] * speed).flatten(1)
    return torch.polar(torch.ones_like(angle), angle)


def _qkv(w: Weights, norm: str, qkv: Tensor) -> list[Tensor]:
    q, k, v = (heads(each, 128) for each in qkv.chunk(3, dim=-1))
    q, k = (
        scaled(each, w[f"{norm}.{name}_norm.scale"]) for name, each in (("query", q), ("key", k))
    )
    return [q, k, v]


def _gated(x: Tensor) -> Tensor:
    gate, value = x.chunk(2, dim=-1)
    return functional.silu(gate) * value


def _double(
    w: Weights,
    block: str,
    streams: dict[str, Tensor],
    told: dict[str, Sequence[Tensor]],
    turn: Tensor,
) -> dict[str, Tensor]:
    parts = []
    for each, x in streams.items():
        inner = modulated(x, told[each][0], told[each][1]) @ w[f"{block}.{each}_attn.qkv.weight"].T
        parts.append(_qkv(w, f"{block}.{each}_attn.norm", inner))
    q, k, v = (torch.cat(each, dim=2) for each in zip(*parts, strict=True))
    seen = attention(turned(q, turn), turned(k, turn), v)
    length = streams["txt"].shape[1]
    shares = {"txt": seen[:, :length], "img": seen[:, length:]}
    result: dict[str, Tensor] = {}
    for each, x in streams.items():
        _, _, gate, shift, scale, opening = told[each]
        x = x + gate[:, None] * (shares[each] @ w[f"{block}.{each}_attn.proj.weight"].T)
        inner = _gated(modulated(x, shift, scale) @ w[f"{block}.{each}_mlp.0.weight"].T)
        result[each] = x + opening[:, None] * (inner @ w[f"{block}.{each}_mlp.2.weight"].T)
    return result


def _single(w: Weights, block: str, x: Tensor, m: Sequence[Tensor], turn: Tensor) -> Tensor:
    wide = modulated(x, m[0], m[1]) @ w[f"{block}.linear1.weight"].T
    inner = 3 * x.shape[-1]
    q, k, v = _qkv(w, f"{block}.norm", wide[..., :inner])
    seen = attention(turned(q, turn), turned(k, turn), v)
    both = torch.cat([seen, _gated(wide[..., inner:])], dim=-1)
    return x + m[2][:, None] * (both @ w[f"{block}.linear2.weight"].T)
