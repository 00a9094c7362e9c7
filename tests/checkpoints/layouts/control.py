"""Small ControlNets with random weights, named as in the original single files.

`LdmControlNet` is written from the paper (Zhang et al. 2023, arXiv 2302.05543) around the parts of
`LdmUNet`, independently of diffusers: a checkpoint in the original layout, and an oracle.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.checkpoints.layouts.unet import LdmUNet, Row, Shape, sd1, sd2, sdxl, tensors, waves
from tileup.families.unet_control import _diffusers_names

Control = TypeVar("Control", bound=nn.Module)
PREFIX = "control_model."
"""What the names start with in most files; the functions here leave it out."""
HINT = (16, 16, 32, 32, 96, 96, 256)
"""Channels of the layers that read the hint; every second of the later ones halves it."""


def sd1_controlnet(width: int = 32, seed: int = 1) -> dict[str, Tensor]:
    """A ControlNet for `sd1_unet` of the same width, names without `PREFIX`, float32."""
    return tensors(the_controlnet(sd1(width), seed))


def sd2_controlnet(width: int = 64, seed: int = 1) -> dict[str, Tensor]:
    """As `sd1_controlnet`."""
    return tensors(the_controlnet(sd2(width), seed))


def sdxl_controlnet(
    width: int = 32, seed: int = 1, depths: tuple[int, ...] = (0, 1, 2)
) -> dict[str, Tensor]:
    """As `sd1_controlnet`."""
    return tensors(the_controlnet(sdxl(width, depths), seed))


def ldm_controlnet(shape: Shape, seed: int = 1) -> LdmControlNet:
    """A network with weights under which each part counts and the residuals are of order 1."""
    return filled(lambda: LdmControlNet(shape), seed)


@functools.cache
def the_controlnet(shape: Shape, seed: int = 1) -> LdmControlNet:
    """As `ldm_controlnet`, and the same each time: nobody changes it."""
    return ldm_controlnet(shape, seed)


def filled(make: Callable[[], Control], seed: int = 1) -> Control:
    """A network with such weights."""
    with torch.device("meta"):  # the weights that torch would begin with take long
        network = make()
    network = network.to_empty(device="cpu").eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in network.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim > 1:
            parameter.copy_(noise / math.sqrt(parameter[0].numel()))
        else:
            norm = name.endswith("weight")
            parameter.copy_(0.1 * noise + norm)
    return network


class LdmControlNet(nn.Module):
    """The ControlNet of SD 1, SD 2 and SDXL, with the original names."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        unet = LdmUNet(shape)
        self.time_embed = unet.time_embed
        if shape.adm:
            self.label_emb = unet.label_emb
        self.input_blocks = unet.input_blocks
        self.middle_block = unet.middle_block
        layers: list[nn.Module] = [nn.Conv2d(3, HINT[0], 3, padding=1), nn.SiLU()]
        for place, (before, after) in enumerate(itertools.pairwise(HINT)):
            layers += [nn.Conv2d(before, after, 3, padding=1, stride=1 + place % 2), nn.SiLU()]
        layers.append(nn.Conv2d(HINT[-1], shape.width, 3, padding=1))
        self.input_hint_block = nn.Sequential(*layers)
        skips = [shape.width]
        for level, multiplier in enumerate(shape.multipliers):
            last = level + 1 == len(shape.multipliers)
            skips += [multiplier * shape.width] * (shape.blocks + (not last))
        self.zero_convs = nn.ModuleList([nn.Sequential(nn.Conv2d(each, each, 1)) for each in skips])
        self.middle_block_out = nn.Sequential(nn.Conv2d(skips[-1], skips[-1], 1))

    def forward(
        self, x: Tensor, time: Tensor, context: Tensor, hint: Tensor, label: Tensor | None = None
    ) -> list[Tensor]:
        """What is added to each skip connection, finest first, and to the middle.

        Args:
            x: shape (B, 4, h, w).
            time: training steps, shape (B,).
            context: features of the prompt, shape (B, length, features).
            hint: RGB in [0, 1], shape (B, 3, 8 h, 8 w).
            label: features of the pooled prompt and the sizes, shape (B, adm).
        """
        embedding = self.time_embed(waves(time, self.shape.width))
        if label is not None:
            embedding = embedding + self.label_emb(label)
        residuals: list[Tensor] = []
        for place, (row, last) in enumerate(zip(self.input_blocks, self.zero_convs, strict=True)):
            assert isinstance(row, Row)
            x = row(x, embedding, context)
            if not place:
                x = x + self.input_hint_block(hint)
            residuals.append(last(x))
        return [*residuals, self.middle_block_out(self.middle_block(x, embedding, context))]


class LdmUnion(LdmControlNet):
    """A union ControlNet (xinsir6/ControlNetPlus): told the kind of its hint, which it mixes in
    through features of the whole hint; written for one row at once."""

    def __init__(self, shape: Shape, kinds: int = 8) -> None:
        super().__init__(shape)
        width = shape.width
        self.kinds = kinds
        self.control_add_embedding = nn.Sequential(
            nn.Linear(256 * kinds, 4 * width), nn.SiLU(), nn.Linear(4 * width, 4 * width)
        )
        self.task_embedding = nn.Parameter(torch.empty(kinds, width))
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.value, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.c_fc, self.c_proj = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.spatial_ch_projs = nn.Linear(width, width)

    def forward(
        self, x: Tensor, time: Tensor, context: Tensor, hint: Tensor, label: Tensor | None = None
    ) -> list[Tensor]:
        kind = torch.eye(self.kinds)[6]
        told = self.control_add_embedding(waves(kind, 256).reshape(1, -1))
        embedding = self.time_embed(waves(time, self.shape.width)) + told
        if label is not None:
            embedding = embedding + self.label_emb(label)
        read = self.input_hint_block(hint)
        token = read.mean(dim=(2, 3)) + self.task_embedding[6]
        token = token + self.out(self.value(self.ln_1(token)))  # attention of one to itself
        inner = self.c_fc(self.ln_2(token))
        token = token + self.c_proj(inner * torch.sigmoid(1.702 * inner))
        shift = self.spatial_ch_projs(token)[:, :, None, None]
        residuals: list[Tensor] = []
        for place, (row, last) in enumerate(zip(self.input_blocks, self.zero_convs, strict=True)):
            x = row(x, embedding, context)  # type: ignore[operator]
            if not place:
                x = x + read + shift
            residuals.append(last(x))
        return [*residuals, self.middle_block_out(self.middle_block(x, embedding, context))]


UNION_NAMES = {
    "control_add_embedding.0.": "control_add_embedding.linear_1.",
    "control_add_embedding.2.": "control_add_embedding.linear_2.",
    "ln_1.": "transformer_layes.0.ln_1.",
    "ln_2.": "transformer_layes.0.ln_2.",
    "out.": "transformer_layes.0.attn.out_proj.",
    "c_fc.": "transformer_layes.0.mlp.c_fc.",
    "c_proj.": "transformer_layes.0.mlp.c_proj.",
    "spatial_ch_projs.": "spatial_ch_projs.",
    "task_embedding": "task_embedding",
}
"""What published files call what such a network has besides those of a ControlNet."""


def sdxl_union(seed: int = 4) -> tuple[LdmUnion, dict[str, Tensor]]:
    """A union ControlNet of SDXL, and its tensors as published: in diffusers' names."""
    network = filled(lambda: LdmUnion(sdxl()), seed)
    names = _diffusers_names(the_controlnet(sdxl()).state_dict())
    return network, _published(network, {theirs: ours for ours, theirs in names.items()})


def _published(network: LdmUnion, names: dict[str, str]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for name, each in network.state_dict().items():
        start = next((start for start in UNION_NAMES if name.startswith(start)), None)
        if name in names:
            found[names[name]] = each
        elif start is not None:
            found[UNION_NAMES[start] + name.removeprefix(start)] = each
    queries = torch.Generator().manual_seed(5)
    for part in ("weight", "bias"):
        value = network.state_dict()[f"value.{part}"]
        others = torch.randn(2 * len(value), *value.shape[1:], generator=queries)
        found[f"transformer_layes.0.attn.in_proj_{part}"] = torch.cat([others, value])
    return found


def hint_for(height: int, width: int, seed: int = 2) -> Tensor:
    """A picture with detail at several sizes, RGB in [0, 1], shape (1, 3, 8 height, 8 width)."""
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(1, 3, 8 * height, 8 * width)
    for cells in (1, 2, 8):
        rough = torch.rand(1, 3, cells * height, cells * width, generator=generator)
        total += functional.interpolate(rough, size=total.shape[2:], mode="nearest") / 3
    return total
