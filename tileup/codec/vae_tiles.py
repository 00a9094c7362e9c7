"""A VAE's encoder or decoder over a canvas in tiles, equal to running it whole, to rounding.

The network is walked layer by layer, and each layer is worked out in tiles. Between the layers the
whole map lies in memory, so a tile reads its neighbourhood (one cell for a 3 x 3 convolution) from
the true map: there is no overlap to choose, no seam and no cell worked out twice, at any tile size.
What couples the whole canvas is shared exactly: the statistics of a GroupNorm are merged over all
tiles before the first is normalised, and the attention of the middle block sees all latents.

What it costs. Time: that of the untiled network; nothing is computed twice. Memory: two maps of the
widest level, and some copies of a tile. A residual block writes its result over its input, which
it reads only there, so next to its input it needs no more than the map between its two
convolutions: (256 + 128) channels at full size for the usual decoder, 1.5 GB for each output
megapixel in float32 and half of that in half precision. The maps may lie in host memory (`maps`)
while tiles are worked out on a GPU, which then needs a few copies of a tile, whatever the canvas.
`vae_lean` does with half of that, and keeps it in files.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import Conv2d, GroupNorm
from torch.nn import functional as F  # noqa: N812  As everywhere where torch is used.

from tileup.codec.channel_norm import ChannelNorm
from tileup.contracts import Box
from tileup.images.pixels import spans

SCORES = 2**26
"""Most scores that attention works out at once: queries times keys."""
TOKENS = 2**16
"""Cells that attention makes keys and values of at once."""

AnyModule = Any
"""A module of diffusers; docstrings name its class, which types its children as bare modules."""
Act = Callable[[Tensor], Tensor]
"""A function of each cell alone."""


@dataclass(frozen=True, slots=True)
class TileGrid:
    """How maps are cut: into so many rows and columns of tiles, whatever their resolution."""

    rows: int
    columns: int

    @staticmethod
    def over(height: int, width: int, tile: int) -> TileGrid:
        """The fewest tiles of side `tile` at most that cover a canvas, in the same unit."""
        return TileGrid(-(-height // tile), -(-width // tile))

    def boxes(self, height: int, width: int) -> Iterator[Box]:
        """Boxes that partition a map of this size, of nearly equal sizes, none empty."""
        rows, columns = min(self.rows, height), min(self.columns, width)
        for row in range(rows):
            for column in range(columns):
                yield Box(
                    row * height // rows,
                    column * width // columns,
                    (row + 1) * height // rows,
                    (column + 1) * width // columns,
                )


@dataclass(frozen=True, slots=True)
class ConvInput:
    """What a convolution sees: a map that is worked out where it is read."""

    height: int
    width: int
    read: Callable[[Box], Tensor]
    """Values of a box inside, shape (B, C, h, w)."""


class TiledNetwork:
    """The layers of diffusers' AutoencoderKL over maps of shape (B, C, H, W), in tiles."""

    def __init__(
        self, grid: TileGrid, device: torch.device, maps: torch.device | None = None
    ) -> None:
        """Args:
        grid: how maps are cut.
        device: where the network lies.
        maps: where the maps lie; None: there too.
        """
        self.grid = grid
        self.device = device
        self.maps = maps or device

    def encode(self, encoder: AnyModule, pixels: ConvInput) -> Tensor:
        """What an Encoder gives, on the device of the maps.

        Args:
            encoder: the network.
            pixels: read once, tile by tile, row after row of these from the top.
        """
        x = self.convolved(encoder.conv_in, pixels)
        for block in encoder.down_blocks:
            for resnet in block.resnets:
                x = self.residual(resnet, x)
            for downsampler in block.downsamplers or ():
                x = self.convolved(downsampler.conv, self.plain(x))
        return self.left(encoder, self.middle(encoder.mid_block, x))

    def decode(self, decoder: AnyModule, latents: Tensor) -> ConvInput:
        """What a Decoder gives, its last layer worked out where it is read; `latents` are left
        alone."""
        x = self.convolved(decoder.conv_in, self.plain(latents))
        x = self.middle(decoder.mid_block, x)
        for block in decoder.up_blocks:
            for resnet in block.resnets:
                x = self.residual(resnet, x)
            for upsampler in block.upsamplers or ():
                x = self.convolved(upsampler.conv, doubled(self.plain(x)))
        return self.last(decoder, self.plain(x))

    def rows(self, x: ConvInput) -> Iterator[Tensor]:
        """All of a map, from the top down, so many rows at a time as a tile has."""
        for tiles in self.tile_rows(x.height, x.width):
            yield torch.cat([x.read(box).to(self.maps) for box in tiles], dim=3)

    def tile_rows(self, height: int, width: int) -> Iterator[list[Box]]:
        """The boxes of the grid, row by row."""
        for _, row in itertools.groupby(self.grid.boxes(height, width), lambda box: box.top):
            yield [*row]

    def middle(self, block: AnyModule, x: Tensor) -> Tensor:
        """A UNetMidBlock2D; overwrites `x`."""
        x = self.residual(block.resnets[0], x)
        for attention, resnet in zip(block.attentions, block.resnets[1:], strict=True):
            if attention is not None:
                x = self.attended(attention, x)
            x = self.residual(resnet, x)
        return x

    def left(self, network: AnyModule, x: Tensor) -> Tensor:
        """The last layers of an Encoder or Decoder."""
        return torch.cat([*self.rows(self.last(network, self.plain(x)))], dim=2)

    def last(self, network: AnyModule, x: ConvInput) -> ConvInput:
        """The same, worked out where it is read."""
        act = self.normed_silu(network.conv_norm_out, x)
        return convolution(network.conv_out, acted(x, act))

    def residual(self, block: AnyModule, x: Tensor) -> Tensor:
        """A ResnetBlock2D; overwrites `x`, and returns a part of it where channels get fewer."""
        given = self.plain(x)
        first = acted(given, self.normed_silu(block.norm1, given))
        between = self.plain(self.convolved(block.conv1, first))
        inner = acted(between, self.normed_silu(block.norm2, between))
        channels = block.conv2.out_channels
        if channels <= x.shape[1]:
            result = x[:, :channels]
        else:
            result = x.new_empty(x.shape[0], channels, *x.shape[2:])
        for box in self.grid.boxes(*x.shape[2:]):
            own = x[..., *box.index].to(self.device)
            if block.conv_shortcut is not None:
                own = block.conv_shortcut(own)
            result[..., *box.index] = own + convolved_box(block.conv2, inner, box)
        return result

    def convolved(self, conv: Conv2d, source: ConvInput) -> Tensor:
        """A convolution as a new map; with stride 2 and no padding of its own, padded behind."""
        lazy = convolution(conv, source)
        result: Tensor | None = None
        for box in self.grid.boxes(lazy.height, lazy.width):
            tile = lazy.read(box)
            if result is None:
                shape = (*tile.shape[:2], lazy.height, lazy.width)
                result = torch.empty(shape, dtype=tile.dtype, device=self.maps)
            result[..., *box.index] = tile
        assert result is not None
        return result

    def attended(self, attention: AnyModule, x: Tensor) -> Tensor:
        """An Attention over all cells of the map; overwrites `x`."""
        return self.attend(attention, x, self.normed(attention.group_norm, self.plain(x)))

    def attend(self, attention: AnyModule, x: Tensor, act: Act) -> Tensor:
        """Attention over all cells of `x` after `act`, the queries in portions; overwrites `x`."""
        flat = x.flatten(2)
        count = flat.shape[2]

        def projected(layer: AnyModule, span: slice) -> Tensor:
            tokens = act(flat[..., span, None].to(self.device))[..., 0].mT
            return _by_head(attention, layer(tokens))

        k, v = (
            torch.cat([projected(layer, span) for span in spans(count, TOKENS)], dim=2)
            for layer in (attention.to_k, attention.to_v)
        )
        for span in spans(count, max(1, SCORES // count)):
            q = projected(attention.to_q, span)
            seen = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
            flat[..., span] += attention.to_out[0](seen).mT.to(self.maps)
        return flat.view_as(x)

    def plain(self, x: Tensor) -> ConvInput:
        """A map as it is."""
        return ConvInput(x.shape[2], x.shape[3], lambda box: x[..., *box.index].to(self.device))

    def normed_silu(self, norm: GroupNorm | ChannelNorm, x: ConvInput) -> Act:
        """SiLU after a norm with the statistics of the whole map `x`."""
        return self.normed(norm, x, then=lambda tile: F.silu(tile, inplace=True))

    def normed(self, norm: GroupNorm | ChannelNorm, x: ConvInput, then: Act | None = None) -> Act:
        """A norm with the statistics of the whole map `x`, worked out in float32."""
        if isinstance(norm, ChannelNorm):
            return norm if then is None else lambda tile: then(norm(tile))
        mean, variance = self.statistics(norm.num_groups, x)
        deviation = (variance + norm.eps).rsqrt()
        per_channel = norm.num_channels // norm.num_groups
        gain = norm.weight.float() * deviation.repeat_interleave(per_channel, dim=1)
        offset = norm.bias.float() - gain * mean.repeat_interleave(per_channel, dim=1)
        gain, offset = gain[..., None, None], offset[..., None, None]

        def act(tile: Tensor) -> Tensor:
            result = torch.addcmul(offset, tile.float(), gain)
            return (result if then is None else then(result)).to(tile.dtype)

        return act

    def statistics(self, groups: int, x: ConvInput) -> tuple[Tensor, Tensor]:
        """Mean and variance of each group over the whole map, shape (B, groups), float32.

        Those of tiles are merged (Chan et al. 1979): within tiles, and between their means.
        """
        shares: list[float] = []
        moments: list[Tensor] = []
        for box in self.grid.boxes(x.height, x.width):
            tile = x.read(box).float().unflatten(1, (groups, -1))
            mean = tile.mean(dim=(2, 3, 4), keepdim=True)
            variance = (tile - mean).square_().mean(dim=(2, 3, 4))
            moments.append(torch.stack([variance, mean.flatten(1)]))
            shares.append(box.area / (x.height * x.width))
        # On the CPU: not every device has float64.
        variances, means = torch.stack(moments, dim=1).cpu().double()
        share = torch.tensor(shares, dtype=torch.float64)[:, None, None]
        mean = (share * means).sum(dim=0)
        variance = (share * (variances + (means - mean) ** 2)).sum(dim=0)
        return mean.float().to(self.device), variance.float().to(self.device)


def widest(decoder: AnyModule) -> int:
    """Channels of the two maps that a TiledNetwork holds of the finest level of a Decoder."""
    conv = decoder.up_blocks[-1].resnets[0].conv1
    return conv.in_channels + conv.out_channels


def convolution(conv: Conv2d, source: ConvInput) -> ConvInput:
    """A convolution that is worked out where it is read."""
    stride = conv.stride[0]
    size = source.height // stride, source.width // stride
    return ConvInput(*size, lambda box: convolved_box(conv, source, box))


def acted(x: ConvInput, act: Act) -> ConvInput:
    """A function of each cell of a map."""
    return ConvInput(x.height, x.width, lambda box: act(x.read(box)))


def doubled(x: ConvInput) -> ConvInput:
    """A map with every cell repeated in a square of 2 x 2."""

    def read(box: Box) -> Tensor:
        top, left = box.top // 2, box.left // 2
        coarse = Box(top, left, -(-box.bottom // 2), -(-box.right // 2))
        tile = F.interpolate(x.read(coarse), scale_factor=2.0)
        return tile[..., box.top - 2 * top :, box.left - 2 * left :][..., : box.height, : box.width]

    return ConvInput(2 * x.height, 2 * x.width, read)


def _by_head(attention: AnyModule, features: Tensor) -> Tensor:
    """(B, tokens, heads * d) as (B, heads, tokens, d)."""
    return features.unflatten(-1, (attention.heads, -1)).transpose(1, 2)


def convolved_box(conv: Conv2d, source: ConvInput, box: Box) -> Tensor:
    """A box of a convolution's result; outside of its input are zeros.

    Cell i of the result sees cells i * stride - padding and following of the input.
    """
    (tall, wide), stride, padding = conv.kernel_size, conv.stride[0], int(conv.padding[0])
    top, left = box.top * stride - padding, box.left * stride - padding
    bottom = (box.bottom - 1) * stride - padding + tall
    right = (box.right - 1) * stride - padding + wide
    inside = Box(max(top, 0), max(left, 0), min(bottom, source.height), min(right, source.width))
    missing = (inside.left - left, right - inside.right, inside.top - top, bottom - inside.bottom)
    tile = source.read(inside)
    if any(missing):
        tile = F.pad(tile, missing)
    return F.conv2d(tile, conv.weight, conv.bias, stride)
