"""A norm of each cell by itself, over its channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class ChannelNorm(nn.Module):
    """Each cell of a map brought to a root mean square of 1, and multiplied by gains."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.empty(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Of `x`, shape (B, C, h, w); worked out in float32."""
        gain = self.gamma.float()[:, None, None] * len(self.gamma) ** 0.5
        return (functional.normalize(x.float(), dim=1) * gain).to(x.dtype)
