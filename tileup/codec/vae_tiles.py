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
megapixel in float32 and half of that in half precision. Measured on a CPU, of 768 x 512 pixels:
1.45 GB untiled, 0.89 GB in tiles of 256 and 0.66 GB in tiles of 128. The maps may lie in host
memory (`maps`) while tiles are worked out on a GPU, which then needs a few copies of a tile,
whatever the canvas.

To need less, maps could be dropped and recomputed from the last coarse one for each of the seven
GroupNorms of the finest level: about four times the work. Or statistics could be guessed from a
shrunken picture: then the result is no longer that of the network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import Conv2d, GroupNorm
from torch.nn import functional as F  # noqa: N812  As everywhere where torch is used.

from tileup.codec.channel_norm import ChannelNorm
from tileup.contracts import Box

SCORES = 2**26
"""Most scores that attention works out at once: queries times keys."""

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

    def encode(self, encoder: AnyModule, pixels: Tensor) -> Tensor:
        """What an Encoder gives, on the device of the maps; `pixels` are left alone."""
        x = self.convolved(encoder.conv_in, self.plain(pixels))
        for block in encoder.down_blocks:
            for resnet in block.resnets:
                x = self.residual(resnet, x)
            for downsampler in block.downsamplers or ():
                x = self.convolved(downsampler.conv, self.plain(x))
        x = self.middle(encoder.mid_block, x)
        return self.left(encoder, x)

    def decode(self, decoder: AnyModule, latents: Tensor) -> Tensor:
        """What a Decoder gives, on the device of the maps; `latents` are left alone."""
        x = self.convolved(decoder.conv_in, self.plain(latents))
        x = self.middle(decoder.mid_block, x)
        for block in decoder.up_blocks:
            for resnet in block.resnets:
                x = self.residual(resnet, x)
            for upsampler in block.upsamplers or ():
                x = self.convolved(upsampler.conv, self.doubled(x))
        return self.left(decoder, x)

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
        act = self.normed_silu(network.conv_norm_out, x)
        return self.convolved(network.conv_out, self.plain(x, act))

    def residual(self, block: AnyModule, x: Tensor) -> Tensor:
        """A ResnetBlock2D; overwrites `x`, and returns a part of it where channels get fewer."""
        between = self.convolved(block.conv1, self.plain(x, self.normed_silu(block.norm1, x)))
        inner = self.plain(between, self.normed_silu(block.norm2, between))
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
        stride = conv.stride[0]
        height, width = source.height // stride, source.width // stride
        result: Tensor | None = None
        for box in self.grid.boxes(height, width):
            tile = convolved_box(conv, source, box)
            if result is None:
                shape = (tile.shape[0], tile.shape[1], height, width)
                result = torch.empty(shape, dtype=tile.dtype, device=self.maps)
            result[..., *box.index] = tile
        assert result is not None
        return result

    def attended(self, attention: AnyModule, x: Tensor) -> Tensor:
        """An Attention over all cells of the map; overwrites `x`."""
        return self.attend(attention, x, self.normed(attention.group_norm, x))

    def attend(self, attention: AnyModule, x: Tensor, act: Act) -> Tensor:
        """Attention over all cells of `x` after `act`, the queries in portions; overwrites `x`."""
        tokens = act(x.to(self.device)).flatten(2).mT
        k, v = (_by_head(attention, layer(tokens)) for layer in (attention.to_k, attention.to_v))
        flat = x.flatten(2)
        for portion in torch.arange(tokens.shape[1]).split(max(1, SCORES // tokens.shape[1])):
            span = slice(int(portion[0]), int(portion[-1]) + 1)
            q = _by_head(attention, attention.to_q(tokens[:, span]))
            seen = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
            flat[..., span] += attention.to_out[0](seen).mT.to(self.maps)
        return flat.view_as(x)

    def plain(self, x: Tensor, act: Act | None = None) -> ConvInput:
        """A map as it is, or a function of its cells."""

        def read(box: Box) -> Tensor:
            tile = x[..., *box.index].to(self.device)
            return tile if act is None else act(tile)

        return ConvInput(x.shape[2], x.shape[3], read)

    def doubled(self, x: Tensor) -> ConvInput:
        """A map with every cell repeated in a square of 2 x 2."""

        def read(box: Box) -> Tensor:
            top, left = box.top // 2, box.left // 2
            coarse = Box(top, left, -(-box.bottom // 2), -(-box.right // 2))
            tile = F.interpolate(x[..., *coarse.index].to(self.device), scale_factor=2.0)
            return tile[..., box.top - 2 * top :, box.left - 2 * left :][
                ..., : box.height, : box.width
            ]

        return ConvInput(2 * x.shape[2], 2 * x.shape[3], read)

    def normed_silu(self, norm: GroupNorm | ChannelNorm, x: Tensor) -> Act:
        """SiLU after a norm with the statistics of the whole map `x`."""
        return self.normed(norm, x, then=lambda tile: F.silu(tile, inplace=True))

    def normed(self, norm: GroupNorm | ChannelNorm, x: Tensor, then: Act | None = None) -> Act:
        """A norm with the statistics of the whole map `x`, worked out in float32."""
        if isinstance(norm, ChannelNorm):
            return norm if then is None else lambda tile: then(norm(tile))
        mean, variance = self.statistics(norm.num_groups, x)
        deviation = (variance + norm.eps).rsqrt()
        per_channel = x.shape[1] // norm.num_groups
        gain = norm.weight.float() * deviation.repeat_interleave(per_channel, dim=1)
        offset = norm.bias.float() - gain * mean.repeat_interleave(per_channel, dim=1)
        gain, offset = gain[..., None, None], offset[..., None, None]

        def act(tile: Tensor) -> Tensor:
            result = torch.addcmul(offset, tile.float(), gain)
            return (result if then is None else then(result)).to(tile.dtype)

        return act

    def statistics(self, groups: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of each group over the whole map, shape (B, groups), float32.

        Those of tiles are merged (Chan et al. 1979): within tiles, and between their means.
        """
        height, width = x.shape[2:]
        shares: list[float] = []
        moments: list[Tensor] = []
        for box in self.grid.boxes(height, width):
            tile = x[..., *box.index].to(self.device).float().unflatten(1, (groups, -1))
            mean = tile.mean(dim=(2, 3, 4), keepdim=True)
            variance = (tile - mean).square_().mean(dim=(2, 3, 4))
            moments.append(torch.stack([variance, mean.flatten(1)]))
            shares.append(box.area / (height * width))
        # On the CPU: not every device has float64.
        variances, means = torch.stack(moments, dim=1).cpu().double()
        share = torch.tensor(shares, dtype=torch.float64)[:, None, None]
        mean = (share * means).sum(dim=0)
        variance = (share * (variances + (means - mean) ** 2)).sum(dim=0)
        return mean.float().to(self.device), variance.float().to(self.device)


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
