"""The transformers of SD 3 and FLUX written down anew, over weights in their original layout.

Nothing of diffusers and nothing of tileup: what a block computes, from the papers and the layout.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

Weights = Mapping[str, Tensor]


def idle(velocity: Tensor, weights: Weights) -> set[str]:
    """Names of the weights that a velocity does not depend on; they must require gradients."""
    loss = velocity.square().mean()
    gradients = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
    return {
        name
        for name, each in zip(weights, gradients, strict=True)
        if each is None or each.abs().max() < 1e-6
    }


def linear(weights: Weights, name: str, x: Tensor) -> Tensor:
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def waves(value: Tensor, half: int = 128) -> Tensor:
    """Cosines and as many sines of each value, wavelengths from 2 pi to 10000 * 2 pi."""
    frequency = torch.exp(-math.log(10000) * torch.arange(half) / half)
    angle = value[:, None] * frequency
    return torch.cat([angle.cos(), angle.sin()], dim=1)


def normed(x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()


def scaled(x: Tensor, weight: Tensor) -> Tensor:
    return weight * x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return normed(x) * (1 + scale[:, None]) + shift[:, None]


def heads(x: Tensor, size: int) -> Tensor:
    """(B, L, features) to (B, heads, L, size)."""
    return x.view(*x.shape[:2], -1, size).transpose(1, 2)


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    weight = torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, dim=-1)
    return (weight @ v).transpose(1, 2).flatten(2)


def perceptron(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.tanh((2 / math.pi) ** 0.5 * (x + 0.044715 * x**3)))


def sd3(
    w: Weights,
    x: Tensor,
    time: Tensor,
    tokens: Tensor,
    pooled: Tensor,
    added: Sequence[Tensor] = (),
    last: bool = False,
) -> Tensor:
    """Velocity, of latents of whole patches; `time` in [0, 1].

    Args:
        added: what a ControlNet adds to the picture, each behind an equal share of the blocks in
            turn.
        last: whether behind the last block too.
    """
    size = w["x_embedder.proj.weight"].shape[-1]
    rows, columns = (side // size for side in x.shape[-2:])
    picture, text, condition = _sd3_entry(w, x, time, tokens, pooled)
    count = _count(w, "joint_blocks")
    for depth in range(count):
        picture, text = _joint(w, f"joint_blocks.{depth}", picture, text, condition)
        if added and (last or depth < count - 1):
            picture = picture + added[depth * len(added) // count]
    shift, scale = linear(w, "final_layer.adaLN_modulation.1", condition).chunk(2, dim=-1)
    out = linear(w, "final_layer.linear", modulated(picture, shift, scale))
    out = out.view(len(x), rows, columns, size, size, -1)
    return out.permute(0, 5, 1, 3, 2, 4).reshape(len(x), -1, rows * size, columns * size)


def sd3_control(w: Weights, x: Tensor, time: Tensor, tokens: Tensor, hint: Tensor) -> list[Tensor]:
    """What a ControlNet adds behind its blocks; of the whole text it is told zeros.

    Args:
        w: as those of `sd3`, with `controlnet_...` and `pos_embed_input.proj` besides.
        hint: scaled latents of the hint, the shape of `x`.
    """
    nothing = torch.zeros(len(x), w["y_embedder.mlp.0.weight"].shape[1])
    picture, text, condition = _sd3_entry(w, x, time, tokens, nothing)
    kernel, bias = (w[f"pos_embed_input.proj.{each}"] for each in ("weight", "bias"))
    read = functional.conv2d(hint, kernel, bias, kernel.shape[-1])
    picture = picture + read.flatten(2).transpose(1, 2)
    found: list[Tensor] = []
    while f"controlnet_blocks.{len(found)}.weight" in w:
        block = f"joint_blocks.{len(found)}"
        picture, text = _joint(w, block, picture, text, condition)
        found.append(linear(w, f"controlnet_blocks.{len(found)}", picture))
    return found


def sd35_control(
    control: Weights, w: Weights, x: Tensor, time: Tensor, pooled: Tensor, hint: Tensor
) -> list[Tensor]:
    """The same of a ControlNet of SD 3.5 large, which embeds latents with the weights of `sd3`."""
    kernel, bias = (control[f"pos_embed_input.proj.{each}"] for each in ("weight", "bias"))
    read = functional.conv2d(hint, kernel, bias, kernel.shape[-1])
    picture = _sd3_cells(w, x) + read.flatten(2).transpose(1, 2)
    condition = torch.zeros(())
    for name, value in (("timestep", waves(1000 * time)), ("text", pooled)):
        embedder = f"time_text_embed.{name}_embedder.linear"
        inner = functional.silu(linear(control, f"{embedder}_1", value))
        condition = condition + linear(control, f"{embedder}_2", inner)
    condition = functional.silu(condition)
    found: list[Tensor] = []
    while f"controlnet_blocks.{len(found)}.weight" in control:
        block = f"transformer_blocks.{len(found)}"
        m = linear(control, f"{block}.adaLN_modulation.1", condition).chunk(6, dim=-1)
        seen = attention(*_qkv(control, f"{block}.attn", modulated(picture, m[0], m[1])))
        picture = _after(control, block, picture, 0, seen, m[2:])
        found.append(linear(control, f"controlnet_blocks.{len(found)}", picture))
    return found


def _sd3_entry(
    w: Weights, x: Tensor, time: Tensor, tokens: Tensor, pooled: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The picture's tokens, the text's, and what modulates the blocks."""
    text = linear(w, "context_embedder", tokens)
    condition = torch.zeros(())
    for name, value in (("t_embedder", waves(1000 * time)), ("y_embedder", pooled)):
        inner = functional.silu(linear(w, f"{name}.mlp.0", value))
        condition = condition + linear(w, f"{name}.mlp.2", inner)
    return _sd3_cells(w, x), text, functional.silu(condition)


def _sd3_cells(w: Weights, x: Tensor) -> Tensor:
    """The picture's tokens, each with its position in the middle of the table."""
    size = w["x_embedder.proj.weight"].shape[-1]
    picture = functional.conv2d(x, w["x_embedder.proj.weight"], w["x_embedder.proj.bias"], size)
    rows, columns = picture.shape[-2:]
    table = round(w["pos_embed"].shape[1] ** 0.5)
    top, left = (table - rows) // 2, (table - columns) // 2
    grid = w["pos_embed"].view(table, table, -1)[top : top + rows, left : left + columns]
    return picture.flatten(2).transpose(1, 2) + grid.flatten(0, 1)


def _joint(
    w: Weights, block: str, picture: Tensor, text: Tensor, condition: Tensor
) -> tuple[Tensor, Tensor]:
    ours, theirs = f"{block}.x_block", f"{block}.context_block"
    m = linear(w, f"{ours}.adaLN_modulation.1", condition).split(picture.shape[-1], dim=-1)
    n = linear(w, f"{theirs}.adaLN_modulation.1", condition).split(picture.shape[-1], dim=-1)
    qkv = _qkv(w, f"{ours}.attn", modulated(picture, m[0], m[1]))
    both = [
        torch.cat(each, dim=2)
        for each in zip(_qkv(w, f"{theirs}.attn", modulated(text, n[0], n[1])), qkv, strict=True)
    ]
    length = text.shape[1]
    seen = attention(*both)
    second = 0
    if len(m) == 9:
        own = attention(*_qkv(w, f"{ours}.attn2", modulated(picture, m[6], m[7])))
        second = m[8][:, None] * linear(w, f"{ours}.attn2.proj", own)
    picture = _after(w, ours, picture, second, seen[:, length:], m[2:6])
    if len(n) == 6:
        text = _after(w, theirs, text, 0, seen[:, :length], n[2:6])
    return picture, text


def _after(
    w: Weights, side: str, x: Tensor, second: Tensor | int, seen: Tensor, m: Sequence[Tensor]
) -> Tensor:
    x = x + m[0][:, None] * linear(w, f"{side}.attn.proj", seen) + second
    inner = perceptron(linear(w, f"{side}.mlp.fc1", modulated(x, m[1], m[2])))
    return x + m[3][:, None] * linear(w, f"{side}.mlp.fc2", inner)


def _qkv(w: Weights, name: str, x: Tensor) -> list[Tensor]:
    q, k, v = (heads(each, 64) for each in linear(w, f"{name}.qkv", x).chunk(3, dim=-1))
    if f"{name}.ln_q.weight" in w:
        q, k = scaled(q, w[f"{name}.ln_q.weight"]), scaled(k, w[f"{name}.ln_k.weight"])
    return [q, k, v]


def flux(
    w: Weights,
    x: Tensor,
    time: Tensor,
    tokens: Tensor,
    pooled: Tensor,
    guidance: float,
    added: Sequence[Tensor] = (),
) -> Tensor:
    """Velocity, of latents of even sides; `time` in [0, 1].

    Args:
        added: what a ControlNet adds to the picture behind each double block.
    """
    height, width = x.shape[-2:]
    patches = functional.unfold(x, 2, stride=2).transpose(1, 2)
    condition = _embedded(w, "time_in", waves(1000 * time)) + _embedded(w, "vector_in", pooled)
    if "guidance_in.in_layer.weight" in w:
        condition += _embedded(w, "guidance_in", waves(torch.full((1,), 1000 * guidance)))
    condition = functional.silu(condition)
    picture, text = linear(w, "img_in", patches), linear(w, "txt_in", tokens)
    turn = _turns(text.shape[1], height // 2, width // 2)
    index = 0
    while f"double_blocks.{index}.img_attn.qkv.weight" in w:
        picture, text = _double(w, f"double_blocks.{index}", picture, text, condition, turn)
        picture = picture + added[index] if added else picture
        index += 1
    both, index = torch.cat([text, picture], dim=1), 0
    while f"single_blocks.{index}.linear1.weight" in w:
        both = _single(w, f"single_blocks.{index}", both, condition, turn)
        index += 1
    shift, scale = linear(w, "final_layer.adaLN_modulation.1", condition).chunk(2, dim=-1)
    out = linear(w, "final_layer.linear", modulated(both[:, text.shape[1] :], shift, scale))
    return functional.fold(out.transpose(1, 2), (height, width), 2, stride=2)


def flux_control(
    w: Weights,
    x: Tensor,
    time: Tensor,
    tokens: Tensor,
    pooled: Tensor,
    hint: Tensor,
    mode: int | None = None,
) -> list[Tensor]:
    """What a ControlNet without single blocks and without a guidance adds behind its blocks.

    Args:
        w: as those of `flux`, with `controlnet_...` besides.
        hint: latents of the hint, the shape of `x`.
        mode: kind of the hint, where the network takes several.
    """
    patches, hints = (functional.unfold(each, 2, stride=2).transpose(1, 2) for each in (x, hint))
    condition = _embedded(w, "time_in", waves(1000 * time)) + _embedded(w, "vector_in", pooled)
    condition = functional.silu(condition)
    picture = linear(w, "img_in", patches) + linear(w, "controlnet_x_embedder", hints)
    text = linear(w, "txt_in", tokens)
    if mode is not None:
        first = w["controlnet_mode_embedder.weight"][mode].expand(len(x), 1, -1)
        text = torch.cat([first, text], dim=1)
    turn = _turns(text.shape[1], x.shape[2] // 2, x.shape[3] // 2)
    found: list[Tensor] = []
    while f"double_blocks.{len(found)}.img_attn.qkv.weight" in w:
        block = f"double_blocks.{len(found)}"
        picture, text = _double(w, block, picture, text, condition, turn)
        found.append(linear(w, f"controlnet_blocks.{len(found)}", picture))
    return found


def _embedded(w: Weights, name: str, value: Tensor) -> Tensor:
    return linear(w, f"{name}.out_layer", functional.silu(linear(w, f"{name}.in_layer", value)))


def _turns(length: int, rows: int, columns: int) -> Tensor:
    """Unit complex numbers that the pairs of a head's features are multiplied by, (L, 64)."""
    text = torch.zeros(length, 3)
    places = torch.tensor([(0.0, row, column) for row in range(rows) for column in range(columns)])
    position, angles = torch.cat([text, places]), []
    for axis, size in enumerate((16, 56, 56)):
        speed = 10000 ** (-torch.arange(0, size, 2, dtype=torch.float64) / size)
        angles.append(position[:, axis, None] * speed)
    angle = torch.cat(angles, dim=1)
    return torch.polar(torch.ones_like(angle), angle)


def turned(x: Tensor, turn: Tensor) -> Tensor:
    pairs = torch.view_as_complex(x.double().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * turn).flatten(-2).to(x)


def _flux_qkv(w: Weights, norm: str, qkv: Tensor) -> list[Tensor]:
    q, k, v = (heads(each, 128) for each in qkv.chunk(3, dim=-1))
    return [
        scaled(q, w[f"{norm}.query_norm.scale"]),
        scaled(k, w[f"{norm}.key_norm.scale"]),
        v,
    ]


def _double(
    w: Weights, block: str, picture: Tensor, text: Tensor, condition: Tensor, turn: Tensor
) -> tuple[Tensor, Tensor]:
    m = {
        each: linear(w, f"{block}.{each}_mod.lin", condition).chunk(6, dim=-1)
        for each in ("txt", "img")
    }
    return _double_modulated(w, block, picture, text, m, turn)


def _double_modulated(
    w: Weights,
    block: str,
    picture: Tensor,
    text: Tensor,
    m: Mapping[str, Sequence[Tensor]],
    turn: Tensor,
) -> tuple[Tensor, Tensor]:
    streams = {"txt": text, "img": picture}
    parts = []
    for each, x in streams.items():
        qkv = linear(w, f"{block}.{each}_attn.qkv", modulated(x, m[each][0], m[each][1]))
        parts.append(_flux_qkv(w, f"{block}.{each}_attn.norm", qkv))
    q, k, v = (torch.cat(each, dim=2) for each in zip(*parts, strict=True))
    seen = attention(turned(q, turn), turned(k, turn), v)
    shares = {"txt": seen[:, : text.shape[1]], "img": seen[:, text.shape[1] :]}
    for each, x in streams.items():
        x = x + m[each][2][:, None] * linear(w, f"{block}.{each}_attn.proj", shares[each])
        inner = linear(w, f"{block}.{each}_mlp.0", modulated(x, m[each][3], m[each][4]))
        out = linear(w, f"{block}.{each}_mlp.2", perceptron(inner))
        streams[each] = x + m[each][5][:, None] * out
    return streams["img"], streams["txt"]


def _single(w: Weights, block: str, x: Tensor, condition: Tensor, turn: Tensor) -> Tensor:
    modulation = linear(w, f"{block}.modulation.lin", condition).chunk(3, dim=-1)
    return _single_modulated(w, block, x, modulation, turn)


def _single_modulated(
    w: Weights, block: str, x: Tensor, modulation: Sequence[Tensor], turn: Tensor
) -> Tensor:
    shift, scale, gate = modulation
    wide = linear(w, f"{block}.linear1", modulated(x, shift, scale))
    qkv, inner = wide[..., : 3 * x.shape[-1]], wide[..., 3 * x.shape[-1] :]
    q, k, v = _flux_qkv(w, f"{block}.norm", qkv)
    seen = attention(turned(q, turn), turned(k, turn), v)
    out = linear(w, f"{block}.linear2", torch.cat([seen, perceptron(inner)], dim=-1))
    return x + gate[:, None] * out


def chroma(w: Weights, x: Tensor, time: Tensor, tokens: Tensor) -> Tensor:
    """Velocity, as `flux`, of the transformer whose modulations a small network works out."""
    height, width = x.shape[-2:]
    singles, doubles = (_count(w, each) for each in ("single_blocks", "double_blocks"))
    told = _guide(w, time, 3 * singles + 12 * doubles + 2).unbind(dim=1)
    picture = linear(w, "img_in", functional.unfold(x, 2, stride=2).transpose(1, 2))
    text = linear(w, "txt_in", tokens)
    turn = _turns(text.shape[1], height // 2, width // 2)
    for index in range(doubles):
        starts = {"img": 3 * singles + 6 * index, "txt": 3 * singles + 6 * (doubles + index)}
        m = {each: told[start : start + 6] for each, start in starts.items()}
        picture, text = _double_modulated(w, f"double_blocks.{index}", picture, text, m, turn)
    both = torch.cat([text, picture], dim=1)
    for index in range(singles):
        m3 = told[3 * index : 3 * index + 3]
        both = _single_modulated(w, f"single_blocks.{index}", both, m3, turn)
    out = linear(w, "final_layer.linear", modulated(both[:, text.shape[1] :], told[-2], told[-1]))
    return functional.fold(out.transpose(1, 2), (height, width), 2, stride=2)


def _count(w: Weights, stack: str) -> int:
    return len({name.split(".")[1] for name in w if name.startswith(f"{stack}.")})


def _guide(w: Weights, time: Tensor, count: int) -> Tensor:
    """All modulations, shape (B, count, width): of the time, a guidance of 0, and their number."""
    name = "distilled_guidance_layer"
    width = w[f"{name}.in_proj.weight"].shape[1]
    when = torch.cat([waves(1000 * time, width // 8), waves(0 * time, width // 8)], dim=1)
    which = waves(1000.0 * torch.arange(count), width // 4)
    rows = torch.cat(
        [when[:, None].expand(-1, count, -1), which[None].expand(len(time), -1, -1)], dim=2
    )
    x = linear(w, f"{name}.in_proj", rows)
    index = 0
    while f"{name}.norms.{index}.scale" in w:
        root = (x.square().mean(-1, keepdim=True) + torch.finfo(x.dtype).eps).sqrt()
        inner = w[f"{name}.norms.{index}.scale"] * x / root
        x = x + _embedded(w, f"{name}.layers.{index}", inner)
        index += 1
    return linear(w, f"{name}.out_proj", x)
