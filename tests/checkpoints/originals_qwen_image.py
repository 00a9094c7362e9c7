"""The transformer of Qwen-Image written down anew, over weights in the layout of its files.

Nothing of diffusers and nothing of tileup: what a block computes, from the paper and the layout.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from tests.checkpoints.originals import (
    Weights,
    attention,
    heads,
    linear,
    modulated,
    normed,
    perceptron,
    scaled,
    turned,
    waves,
)


def qwen_image(w: Weights, x: Tensor, time: Tensor, tokens: Tensor) -> Tensor:
    """Velocity, of latents of even sides; `time` in [0, 1]."""
    height, width = x.shape[-2:]
    rows, columns = height // 2, width // 2
    name = "time_text_embed.timestep_embedder"
    condition = functional.silu(linear(w, f"{name}.linear_1", waves(1000 * time)))
    condition = functional.silu(linear(w, f"{name}.linear_2", condition))
    streams = {
        "txt": linear(w, "txt_in", scaled(tokens, w["txt_norm.weight"])),
        "img": linear(w, "img_in", functional.unfold(x, 2, stride=2).transpose(1, 2)),
    }
    turn = _turns(tokens.shape[1], rows, columns)
    index = 0
    while f"transformer_blocks.{index}.attn.to_q.weight" in w:
        streams = _block(w, f"transformer_blocks.{index}", streams, condition, turn)
        index += 1
    scale, shift = linear(w, "norm_out.linear", condition).chunk(2, dim=-1)
    picture = normed(streams["img"]) * (1 + scale[:, None]) + shift[:, None]
    out = linear(w, "proj_out", picture)
    return functional.fold(out.transpose(1, 2), (height, width), 2, stride=2)


def _turns(length: int, rows: int, columns: int) -> Tensor:
    """Rows and columns are counted from the middle; words lie on the diagonal behind the edge."""
    first = max(rows // 2, columns // 2)
    words = [(first + number,) * 3 for number in range(length)]
    places = [
        (0, row - (rows - rows // 2), column - (columns - columns // 2))
        for row in range(rows)
        for column in range(columns)
    ]
    position = torch.tensor([*words, *places], dtype=torch.float64)
    angles = [
        position[:, axis, None] * 10000 ** (-torch.arange(0, size, 2, dtype=torch.float64) / size)
        for axis, size in enumerate((16, 56, 56))
    ]
    angle = torch.cat(angles, dim=1)
    return torch.polar(torch.ones_like(angle), angle)


PARTS = {
    "txt": ("add_{}_proj", "norm_added_{}", "to_add_out"),
    "img": ("to_{}", "norm_{}", "to_out.0"),
}


def _block(
    w: Weights, block: str, streams: dict[str, Tensor], condition: Tensor, turn: Tensor
) -> dict[str, Tensor]:
    told = {s: linear(w, f"{block}.{s}_mod.1", condition).chunk(6, dim=-1) for s in streams}
    rows: dict[str, list[Tensor]] = {"q": [], "k": [], "v": []}
    for stream, x in streams.items():
        inner = modulated(x, told[stream][0], told[stream][1])
        projection, norm, _ = PARTS[stream]
        for each in rows:
            row = heads(linear(w, f"{block}.attn.{projection.format(each)}", inner), 128)
            if each != "v":
                row = scaled(row, w[f"{block}.attn.{norm.format(each)}.weight"])
            rows[each].append(row)
    q, k, v = (torch.cat(each, dim=2) for each in rows.values())
    seen = attention(turned(q, turn), turned(k, turn), v)
    length = streams["txt"].shape[1]
    shares = {"txt": seen[:, :length], "img": seen[:, length:]}
    result: dict[str, Tensor] = {}
    for stream, x in streams.items():
        _, _, gate, shift, scale, opening = told[stream]
        x = x + gate[:, None] * linear(w, f"{block}.attn.{PARTS[stream][2]}", shares[stream])
        inner = linear(w, f"{block}.{stream}_mlp.net.0.proj", modulated(x, shift, scale))
        inner = linear(w, f"{block}.{stream}_mlp.net.2", perceptron(inner))
        result[stream] = x + opening[:, None] * inner
    return result
