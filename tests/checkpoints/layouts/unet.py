"""Small UNets with random weights, named as in the original single files of SD 1, SD 2 and SDXL.

`LdmUNet` is written from the architecture (Rombach et al. 2022, Podell et al. 2023), independently
of diffusers, so it serves twice: its state dict is a checkpoint in the original layout, and its
output is what every other implementation must give for these weights.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

PREFIX = "model.diffusion_model."
"""What the names start with in a whole checkpoint; the functions here leave it out."""


@dataclass(frozen=True)
class Shape:
    """Sizes of one UNet."""

    width: int
    """Channels of the finest level, a multiple of 32."""
    multipliers: tuple[int, ...]
    """Width of each level, in units of `width`."""
    depths: tuple[int, ...]
    """Transformer blocks after each residual block of a level; 0: no attention there."""
    middle_depth: int
    context: int
    """Features of a token of the prompt."""
    adm: int = 0
    """Features of the pooled prompt with the sizes; 0: the network takes none."""
    heads: int = 0
    """Attention heads everywhere; 0: as many as have 64 channels each."""
    linear: bool = True
    """Whether the projections around transformer blocks are matrices, or 1 x 1 convolutions."""
    blocks: int = 2
    """Residual blocks of each level."""
    channels: int = 4
    inputs: int = 4
    """Channels of the input: 9 for an inpainting network."""


def sd1(width: int = 32) -> Shape:
    """SD 1.x has width 320."""
    return Shape(width, (1, 2, 4, 4), (1, 1, 1, 0), 1, context=768, heads=8, linear=False)


def sd2(width: int = 64) -> Shape:
    """SD 2.x has width 320; the least here is 64, for one head."""
    return Shape(width, (1, 2, 4, 4), (1, 1, 1, 0), 1, context=1024)


def sdxl(width: int = 32, depths: tuple[int, ...] = (0, 1, 2)) -> Shape:
    """SDXL base has width 320 and the depths 0, 2, 10."""
    return Shape(width, (1, 2, 4), depths, depths[-1], context=2048, adm=2816)


def sdxl_refiner(width: int = 32, depth: int = 1) -> Shape:
    """The refiner has width 384 and the depth 4."""
    return Shape(width, (1, 2, 4, 4), (0, depth, depth, 0), depth, context=1280, adm=2560)


def sd1_unet(width: int = 32, seed: int = 0) -> dict[str, Tensor]:
    """A checkpoint's UNet, names without `PREFIX`, float32."""
    return tensors(the_unet(sd1(width), seed))


def sd2_unet(width: int = 64, seed: int = 0, *, v: bool = True) -> dict[str, Tensor]:
    """As `sd1_unet`; `v` gives the one bias by which v and eps checkpoints are told apart its
    typical spread in either."""
    made = tensors(the_unet(sd2(width), seed))
    marker = made["output_blocks.11.1.transformer_blocks.0.norm1.bias"]
    marker.mul_((0.2 if v else 0.02) / marker.std(unbiased=False))
    return made


def sdxl_unet(
    width: int = 32, seed: int = 0, depths: tuple[int, ...] = (0, 1, 2)
) -> dict[str, Tensor]:
    """As `sd1_unet`."""
    return tensors(the_unet(sdxl(width, depths), seed))


def sdxl_refiner_unet(width: int = 32, seed: int = 0, depth: int = 1) -> dict[str, Tensor]:
    """As `sd1_unet`."""
    return tensors(the_unet(sdxl_refiner(width, depth), seed))


@functools.cache
def the_unet(shape: Shape, seed: int = 0) -> LdmUNet:
    """As `ldm_unet`, and the same each time: nobody changes it."""
    return ldm_unet(shape, seed)


def ldm_unet(shape: Shape, seed: int = 0) -> LdmUNet:
    """A network with weights under which each part counts and the output is of order 1."""
    with torch.device("meta"):  # the weights that torch would begin with take long
        network = LdmUNet(shape)
    network = network.to_empty(device="cpu").eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in network.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim > 1:
            parameter.copy_(noise / math.sqrt(parameter[0].numel()))
        else:
            parameter.copy_(0.1 * noise + (name.endswith("weight")))
    return network


def tensors(network: nn.Module) -> dict[str, Tensor]:
    """Its checkpoint."""
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


class LdmUNet(nn.Module):
    """The UNet of SD 1, SD 2 and SDXL, with the original names."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        width, embedding = shape.width, 4 * shape.width
        self.time_embed = nn.Sequential(*mlp(width, embedding))
        if shape.adm:
            self.label_emb = nn.Sequential(nn.Sequential(*mlp(shape.adm, embedding)))
        self.input_blocks = nn.ModuleList([Row(nn.Conv2d(shape.inputs, width, 3, padding=1))])
        skips, now = [width], width
        for level, (multiplier, depth) in enumerate(
            zip(shape.multipliers, shape.depths, strict=True)
        ):
            for _ in range(shape.blocks):
                self.input_blocks.append(Row(*self.stage(now, multiplier * width, depth)))
                now = multiplier * width
                skips.append(now)
            if level + 1 < len(shape.multipliers):
                self.input_blocks.append(Row(Down(now)))
                skips.append(now)
        self.middle_block = Row(
            *self.stage(now, now, shape.middle_depth), ResBlock(now, now, embedding)
        )
        self.output_blocks = nn.ModuleList()
        for level in reversed(range(len(shape.multipliers))):
            for block in range(shape.blocks + 1):
                target = shape.multipliers[level] * width
                parts = self.stage(now + skips.pop(), target, shape.depths[level])
                if level and block == shape.blocks:
                    parts.append(Up(target))
                self.output_blocks.append(Row(*parts))
                now = target
        self.out = nn.Sequential(
            nn.GroupNorm(32, now), nn.SiLU(), nn.Conv2d(now, shape.channels, 3, padding=1)
        )

    def stage(self, before: int, after: int, depth: int) -> list[nn.Module]:
        shape = self.shape
        parts: list[nn.Module] = [ResBlock(before, after, 4 * shape.width)]
        if depth:
            heads = shape.heads or after // 64
            parts.append(SpatialTransformer(after, heads, depth, shape.context, shape.linear))
        return parts

    def forward(
        self,
        x: Tensor,
        time: Tensor,
        context: Tensor,
        label: Tensor | None = None,
        control: Sequence[Tensor] = (),
    ) -> Tensor:
        """The prediction.

        Args:
            x: shape (B, C, h, w).
            time: training steps, shape (B,), also between whole numbers.
            context: features of the prompt, shape (B, length, features).
            label: features of the pooled prompt and the sizes, shape (B, adm).
            control: what is added to each skip connection, finest first, and to the middle.
        """
        embedding = self.time_embed(waves(time, self.shape.width))
        if label is not None:
            embedding = embedding + self.label_emb(label)
        skips: list[Tensor] = []
        for row in self.input_blocks:
            x = row(x, embedding, context)
            skips.append(x)
        x = self.middle_block(x, embedding, context)
        if control:
            *sides, middle = control
            skips = [skip + side for skip, side in zip(skips, sides, strict=True)]
            x = x + middle
        for row in self.output_blocks:
            skip = skips.pop()
            if cast(Row, row).enlarges:
                after = skips[-1].shape[2:]
                x = row(torch.cat([x, skip], 1), embedding, context, after)
            else:
                x = row(torch.cat([x, skip], 1), embedding, context)
        return self.out(x)


def mlp(before: int, after: int) -> list[nn.Module]:
    return [nn.Linear(before, after), nn.SiLU(), nn.Linear(after, after)]


def waves(values: Tensor, features: int) -> Tensor:
    """Cosines, then sines, of frequencies from 1 to 1/10000; shape (B, features)."""
    half = features // 2
    frequencies = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float64) / half)
    angles = values.double()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], 1).float()


class Row(nn.Sequential):
    """Parts of one block; each takes what it needs."""

    @property
    def enlarges(self) -> bool:
        return any(isinstance(part, Up) for part in self)

    def forward(
        self,
        x: Tensor,
        embedding: Tensor,
        context: Tensor,
        after: torch.Size | None = None,
    ) -> Tensor:
        for part in self:
            if isinstance(part, ResBlock):
                x = part(x, embedding)
            elif isinstance(part, SpatialTransformer):
                x = part(x, context)
            elif isinstance(part, Up):
                x = part(x, after)
            else:
                x = part(x)
        return x


class ResBlock(nn.Module):
    def __init__(self, before: int, after: int, embedding: int) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(
            nn.GroupNorm(32, before), nn.SiLU(), nn.Conv2d(before, after, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, after))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(32, after), nn.SiLU(), nn.Identity(), nn.Conv2d(after, after, 3, padding=1)
        )
        self.skip_connection = nn.Identity() if before == after else nn.Conv2d(before, after, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        hidden = self.in_layers(x) + self.emb_layers(embedding)[:, :, None, None]
        return self.skip_connection(x) + self.out_layers(hidden)


class Down(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class Up(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, after: torch.Size) -> Tensor:
        return self.conv(functional.interpolate(x, size=tuple(after), mode="nearest"))


class SpatialTransformer(nn.Module):
    def __init__(self, channels: int, heads: int, depth: int, context: int, linear: bool) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(32, channels, eps=1e-6)
        self.linear = linear
        self.proj_in = projection(channels, linear)
        self.transformer_blocks = nn.ModuleList(
            [TransformerBlock(channels, heads, context) for _ in range(depth)]
        )
        self.proj_out = projection(channels, linear)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        hidden = self.norm(x)
        if not self.linear:
            hidden = self.proj_in(hidden)
        hidden = hidden.flatten(2).transpose(1, 2)
        if self.linear:
            hidden = self.proj_in(hidden)
        for block in self.transformer_blocks:
            hidden = block(hidden, context)
        if self.linear:
            hidden = self.proj_out(hidden)
        hidden = hidden.transpose(1, 2).unflatten(2, x.shape[2:])
        return x + (hidden if self.linear else self.proj_out(hidden))


def projection(channels: int, linear: bool) -> nn.Module:
    return nn.Linear(channels, channels) if linear else nn.Conv2d(channels, channels, 1)


class TransformerBlock(nn.Module):
    def __init__(self, channels: int, heads: int, context: int) -> None:
        super().__init__()
        self.attn1 = CrossAttention(channels, channels, heads)
        self.ff = FeedForward(channels)
        self.attn2 = CrossAttention(channels, context, heads)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(channels) for _ in range(3))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        x = x + self.attn1(normed := self.norm1(x), normed)
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class CrossAttention(nn.Module):
    def __init__(self, channels: int, context: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(context, channels, bias=False)
        self.to_v = nn.Linear(context, channels, bias=False)
        self.to_out = nn.Sequential(nn.Linear(channels, channels), nn.Identity())

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        query, key, value = (
            each.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for each in (self.to_q(x), self.to_k(context), self.to_v(context))
        )
        alike = query @ key.transpose(2, 3) / math.sqrt(query.shape[-1])
        return self.to_out((alike.softmax(-1) @ value).transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        gate = nn.Module()
        gate.proj = nn.Linear(channels, 8 * channels)
        self.net = nn.Sequential(gate, nn.Identity(), nn.Linear(4 * channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        value, gate = cast(nn.Module, self.net[0]).proj(x).chunk(2, -1)
        return self.net[2](value * functional.gelu(gate))
