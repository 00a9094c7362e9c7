"""Qwen-Image's VAE as a network for pictures; its parts are called as those of an AutoencoderKL.

So what runs that in tiles runs this too.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from tileup.codec.causal_layout import CausalLayout, VaeStage
from tileup.codec.channel_norm import ChannelNorm
from tileup.tensors.filling import Placing, build
from tileup.tensors.renaming import converted

NAME = "the VAE"
"""In messages."""
WHEN = ".time_conv."
"""In names of what changes the number of frames."""


class Residual(nn.Module):
    """Two convolutions behind norms, added to what they are given."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.norm1 = ChannelNorm(before)
        self.conv1 = nn.Conv2d(before, after, 3, padding=1)
        self.norm2 = ChannelNorm(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(before, after, 1) if before != after else None

    def forward(self, x: Tensor) -> Tensor:
        inner = self.conv1(functional.silu(self.norm1(x)))
        inner = self.conv2(functional.silu(self.norm2(inner)))
        return inner + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class Attention(nn.Module):
    """Attention of one head over all cells of a map."""

    heads = 1

    def __init__(self, width: int) -> None:
        super().__init__()
        self.group_norm = ChannelNorm(width)
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.group_norm(x).flatten(2).mT[:, None]
        seen = functional.scaled_dot_product_attention(
            self.to_q(tokens), self.to_k(tokens), self.to_v(tokens)
        )
        return x + self.to_out[0](seen[:, 0]).mT.reshape(x.shape)


class Middle(nn.Module):
    """The blocks at the coarsest level."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.resnets = nn.ModuleList([Residual(width, width), Residual(width, width)])
        self.attentions = nn.ModuleList([Attention(width)])

    def forward(self, x: Tensor) -> Tensor:
        return self.resnets[1](self.attentions[0](self.resnets[0](x)))


class Down(nn.Module):
    """The convolution that halves a map; it sees a row and a column of zeros behind the map."""

    def __init__(self, width: int, after: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, after, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(functional.pad(x, (0, 1, 0, 1)))


class Up(nn.Module):
    """The convolution behind the doubling of a map."""

    def __init__(self, width: int, after: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, after, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(functional.interpolate(x, scale_factor=2.0))


class Block(nn.Module):
    """A level of the encoder."""

    def __init__(self, layout: CausalLayout, level: VaeStage) -> None:
        super().__init__()
        conv1 = layout.words.residual["conv1"]
        shapes = [layout.shapes[f"{name}.{conv1}.weight"] for name in level.residual]
        self.resnets = nn.ModuleList([Residual(shape[1], shape[0]) for shape in shapes])
        self.downsamplers = self._resampler(layout, level, Down)

    def _resampler(
        self, layout: CausalLayout, level: VaeStage, kind: type[Down | Up]
    ) -> nn.ModuleList | None:
        if level.resample is None:
            return None
        after, before, *_ = layout.shapes[f"{level.resample}.weight"]
        return nn.ModuleList([kind(before, after)])

    def forward(self, x: Tensor) -> Tensor:
        for each in (*self.resnets, *(self.downsamplers or ())):
            x = each(x)
        return x


class UpBlock(Block):
    """A level of the decoder."""

    def __init__(self, layout: CausalLayout, level: VaeStage) -> None:
        super().__init__(layout, VaeStage(level.residual, None))
        self.upsamplers = self._resampler(layout, level, Up)

    def forward(self, x: Tensor) -> Tensor:
        for each in (*self.resnets, *(self.upsamplers or ())):
            x = each(x)
        return x


class Side(nn.Module):
    """What an encoder and a decoder share: their first and last layers and their middle."""

    def __init__(self, layout: CausalLayout, side: str) -> None:
        super().__init__()
        words, shapes = layout.words, layout.shapes
        first, last = (shapes[f"{side}.{n}.weight"] for n in (words.conv_in, words.conv_out))
        coarse = shapes[f"{side}.{words.middle[0]}.{words.residual['conv1']}.weight"][0]
        self.conv_in = nn.Conv2d(first[1], first[0], 3, padding=1)
        self.mid_block = Middle(coarse)
        self.conv_norm_out = ChannelNorm(last[1])
        self.conv_out = nn.Conv2d(last[1], last[0], 3, padding=1)

    def left(self, x: Tensor) -> Tensor:
        return self.conv_out(functional.silu(self.conv_norm_out(x)))


class Encoder(Side):
    def __init__(self, layout: CausalLayout) -> None:
        super().__init__(layout, "encoder")
        self.down_blocks = nn.ModuleList([Block(layout, level) for level in layout.encoder])

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for block in self.down_blocks:
            x = block(x)
        return self.left(self.mid_block(x))


class Decoder(Side):
    def __init__(self, layout: CausalLayout) -> None:
        super().__init__(layout, "decoder")
        self.up_blocks = nn.ModuleList([UpBlock(layout, level) for level in layout.decoder])

    def forward(self, x: Tensor) -> Tensor:
        x = self.mid_block(self.conv_in(x))
        for block in self.up_blocks:
            x = block(x)
        return self.left(x)


class CausalAutoencoder(nn.Module):
    """Both, and what precedes and follows the latents."""

    def __init__(self, layout: CausalLayout) -> None:
        super().__init__()
        channels = layout.channels
        self.encoder = Encoder(layout)
        self.decoder = Decoder(layout)
        self.quant_conv = nn.Conv2d(2 * channels, 2 * channels, 1)
        self.post_quant_conv = nn.Conv2d(channels, channels, 1)

    @property
    def dtype(self) -> torch.dtype:
        """What it computes in."""
        return self.post_quant_conv.weight.dtype


def causal_tensors(
    tensors: Mapping[str, Tensor], layout: CausalLayout
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors that a picture meets, by the names of the network.

    Returns:
        Tensors by the network's names, and the file's name of each.

    Raises:
        ModelError: a tensor is missing or left over.
    """
    own = {name: each for name, each in tensors.items() if WHEN not in name}
    named, origin = converted(own, layout.rules(), NAME)
    return {name: _flat(name, each) for name, each in named.items()}, origin


def _flat(name: str, tensor: Tensor) -> Tensor:
    """A tensor without its axis of time: the last slice of a kernel."""
    if name.endswith(".gamma"):
        return tensor.flatten()
    if tensor.ndim == 5:
        tensor = tensor[:, :, -1].contiguous()
    return tensor[..., 0, 0] if ".attentions." in name and tensor.ndim == 4 else tensor


def build_causal(
    tensors: Mapping[str, Tensor],
    layout: CausalLayout,
    dtype: torch.dtype,
    device: str,
    origin: Mapping[str, str] | None = None,
) -> CausalAutoencoder:
    """The network, holding the tensors; arguments and errors as those of `build_vae`."""
    placing = Placing(dtype, device, overflow=True)
    return build(lambda: CausalAutoencoder(layout), tensors, NAME, placing, origin=origin)
