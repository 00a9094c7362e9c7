"""The network of the bundled checkpoint: a small normless U-Net over pixels at half resolution.

It predicts the difference between the clean picture and its enlarged source, so that an
untrained network is the enlargement itself. There is no normalisation layer: statistics over
a window would make the answer depend on where the window lies, which is a seam.

Preconditioning, in the terms of Karras et al. (2022, arXiv 2206.00364), but around the source:
the input is `(x - source) * c_in`, `c_in = 1 / sqrt(sigma^2 + residual_std^2)`, beside the source
itself; the output is scaled by `residual_std`; `c_skip` is 0.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from tileup.families.bundled_header import integer, integers
from tileup.tensors.transfers import to_device

EMBEDDING = 64  # width of the noise embedding


@dataclass(frozen=True, slots=True)
class Architecture:
    """Everything that is needed to build the network; stored in the checkpoint's header."""

    channels: int
    """Channels of a latent cell: 3 * stride^2."""
    widths: tuple[int, ...]
    """Feature channels at each resolution, finest first; each next one is half as wide and high."""
    down_blocks: tuple[int, ...]
    """Residual blocks at each resolution on the way down."""
    up_blocks: tuple[int, ...]
    """Residual blocks at each resolution but the coarsest on the way up, finest first."""
    residual_std: float
    """Typical difference between truth and source, pixels in [-1, 1]."""
    conditions: int = 0
    """Channels that the network is shown beside noisy picture and source."""

    @classmethod
    def from_header(cls, header: Mapping[str, object]) -> Architecture:
        """Build from parsed JSON.

        Raises:
            KeyError, TypeError, ValueError: a value is missing or of the wrong kind.
        """
        return cls(
            channels=integer(header["channels"]),
            widths=integers(header["widths"]),
            down_blocks=integers(header["down_blocks"], least=0),
            up_blocks=integers(header["up_blocks"], least=0),
            residual_std=float(str(header["residual_std"])),
        )


class NoiseEmbedding(nn.Module):
    """Fourier features of log sigma, mixed by one hidden layer. (B,) -> (B, EMBEDDING)."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Sequential(
            nn.Linear(2 * 16, EMBEDDING), nn.SiLU(), nn.Linear(EMBEDDING, EMBEDDING), nn.SiLU()
        )

    def forward(self, sigma: Tensor) -> Tensor:
        octaves = torch.arange(16, device=sigma.device, dtype=torch.float32)
        phase = sigma.float().log()[:, None] * torch.exp(octaves * (math.log(20.0) / 15) - 1.5)
        features = torch.cat([phase.sin(), phase.cos()], dim=1)
        return self.mix(features.to(next(self.mix.parameters()).dtype))


class ResidualBlock(nn.Module):
    """x + conv(silu(scale(sigma) * conv(x) + shift(sigma)))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.noise = nn.Linear(EMBEDDING, 2 * width)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        with torch.no_grad():
            # Without normalisation a deep net starts stable only if its blocks start small.
            self.second.weight.mul_(0.1)
            self.noise.weight.mul_(0.1)

    def forward(self, x: Tensor, told: Tensor | Folded) -> Tensor:
        """Features of the shape of `x`.

        Args:
            x: shape (B, width, h, w).
            told: embeddings of the noise levels, one for each row or one that all share; or what
                one level makes of the first convolution, which is faster and without gradients.
        """
        if not isinstance(told, Tensor):
            weight, bias = told[self]
            hidden = functional.conv2d(x, weight, bias, padding=1)
            return self.second(functional.silu(hidden, inplace=True)).add_(x)
        scale, shift = self.noise(told)[:, :, None, None].chunk(2, dim=1)
        hidden = self.first(x)
        return x + self.second(functional.silu(torch.addcmul(hidden + shift, hidden, scale)))

    def folded(self, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """Weight and bias of the first convolution with scale and shift of one noise level in them.

        Args:
            embedding: of the level, shape (1, EMBEDDING).
        """
        scale, shift = self.told(embedding)
        bias = self.first.bias
        assert bias is not None
        return self.first.weight * scale[:, None, None, None], bias * scale + shift

    def told(self, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """What one noise level multiplies the first convolution by and adds to it, shape (width,).

        Args:
            embedding: of the level, shape (1, EMBEDDING).
        """
        scale, shift = self.noise(embedding)[0].chunk(2)
        return 1 + scale, shift


Folded = Mapping[ResidualBlock, tuple[Tensor, Tensor]]
"""Weight and bias of each block's first convolution at one noise level."""


class ResidualBlocks(nn.ModuleList):
    """Residual blocks one after the other."""

    def __init__(self, width: int, count: int) -> None:
        super().__init__(ResidualBlock(width) for _ in range(count))

    def forward(self, x: Tensor, told: Tensor | Folded) -> Tensor:
        for block in self:
            x = block(x, told)
        return x


class ResidualUNet(nn.Module):
    """Denoiser of latents, conditioned on the latents of the enlarged source."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.residual_std = architecture.residual_std
        widths = architecture.widths
        self.embed = NoiseEmbedding()
        inputs = 2 * architecture.channels + architecture.conditions
        self.enter = nn.Conv2d(inputs, widths[0], 3, padding=1)
        self.down = nn.ModuleList(
            ResidualBlocks(width, count)
            for width, count in zip(widths, architecture.down_blocks, strict=True)
        )
        self.shrink = nn.ModuleList(
            nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in itertools.pairwise(widths)
        )
        self.grow = nn.ModuleList(
            nn.Conv2d(coarse, 4 * fine, 1) for fine, coarse in itertools.pairwise(widths)
        )
        self.up = nn.ModuleList(
            ResidualBlocks(width, count)
            for width, count in zip(widths[:-1], architecture.up_blocks, strict=True)
        )
        self.leave = nn.Conv2d(widths[0], architecture.channels, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        if self.leave.bias is not None:
            nn.init.zeros_(self.leave.bias)

    def forward(
        self,
        x: Tensor,
        sigma: Tensor,
        source: Tensor,
        conditions: Tensor | None = None,
        folded: Folded | None = None,
    ) -> Tensor:
        """Predict clean latents.

        Only what lies between the first and the last layer is in the precision of the weights.

        Args:
            x: noisy latents in [-1, 1] plus noise, shape (B, C, h, w); h and w are multiples of
                2^(number of widths - 1).
            sigma: noise levels, shape (B,), or (1,) for one that all share, which is faster.
            source: latents of the enlarged picture, shape of `x`.
            conditions: what else it is shown, shape (B, conditions, h, w); None where its
                architecture has none.
            folded: what `sigma`, which all share, makes of the weights, where that is known.

        Returns:
            x0, shape and dtype of `x`.
        """
        if folded is None and len(sigma) == 1 and not torch.is_grad_enabled():
            folded = self.folded(sigma)
        c_in = (sigma.float() ** 2 + self.residual_std**2).rsqrt()[:, None, None, None]
        shown = [(x - source).mul_(c_in), source]
        seen = torch.cat(shown if conditions is None else [*shown, conditions], dim=1)
        hidden = self.enter(seen.to(self.enter.weight.dtype))
        told = self.embed(sigma) if folded is None else folded
        skips: list[Tensor] = []
        for level, blocks in enumerate(self.down):
            hidden = blocks(hidden, told)
            if level < len(self.shrink):
                skips.append(hidden)
                hidden = self.shrink[level](hidden)
        for level in reversed(range(len(self.up))):
            hidden = functional.pixel_shuffle(self.grow[level](hidden), 2).add_(skips.pop())
            hidden = self.up[level](hidden, told)
        return self.leave(hidden).to(x.dtype).mul_(self.residual_std).add_(source)

    def folded(self, sigma: Tensor) -> Folded:
        """What one noise level, shape (1,), makes of the weights."""
        embedding = self.embed(sigma)
        blocks = (each for each in self.modules() if isinstance(each, ResidualBlock))
        return {block: block.folded(embedding) for block in blocks}


class LevelByLevel(Protocol):
    """A network whose weights do not change, at one noise level at a time."""

    network: ResidualUNet

    def __call__(
        self, x: Tensor, sigma: Tensor, source: Tensor, conditions: Tensor | None = None
    ) -> Tensor:
        """As the network, for one noise level that all share, shape (1,)."""
        ...


class Remembering:
    """A network as torch computes it: what a noise level makes of its weights is worked out once.

    Args:
        network: without gradients.
    """

    def __init__(self, network: ResidualUNet) -> None:
        self.network = network
        self._known: dict[float, Folded] = {}

    def __call__(
        self, x: Tensor, sigma: Tensor, source: Tensor, conditions: Tensor | None = None
    ) -> Tensor:
        """As the network, for one noise level that all share, shape (1,), best on the CPU."""
        level, sigma = float(sigma), to_device(sigma, x.device)
        if level not in self._known:
            if len(self._known) == LEVELS:
                del self._known[min(self._known)]
            self._known[level] = self.network.folded(sigma)
        return self.network(x, sigma, source, conditions, self._known[level])


LEVELS = 16
"""Noise levels that are remembered."""
