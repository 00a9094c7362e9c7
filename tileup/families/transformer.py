"""What the transformers of SD 3 and FLUX share: latents of any size, and text for each row."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from tileup.contracts import Encoded


def padded(x: Tensor, multiple: int) -> Tensor:
    """`x`, shape (B, C, h, w), its last row and column repeated until both sides are multiples."""
    height, width = x.shape[-2:]
    right, below = -width % multiple, -height % multiple
    return functional.pad(x, (0, right, 0, below), mode="replicate") if right or below else x


def flow_time(sigma: Tensor, device: str) -> Tensor:
    """Flow time s in [0, 1) of noise levels in variance-exploding terms: `s / (1 - s) = sigma`.

    float32, which every device has.
    """
    return (sigma / (1 + sigma)).to(device, torch.float32)


def text_rows(text: Encoded, rows: int, dtype: torch.dtype, device: str) -> tuple[Tensor, Tensor]:
    """Tokens and pooled features for each row of a batch.

    Raises:
        ValueError: the prompt was encoded for another family, or for another number of rows.
    """
    if text.pooled is None:
        raise ValueError("SD 3 and FLUX need the features of the whole text besides its tokens")
    tokens, pooled = (each.to(device, dtype) for each in (text.tokens, text.pooled))
    if len(tokens) not in (1, rows) or len(pooled) != len(tokens):
        raise ValueError(
            f"{len(tokens)} rows of tokens and {len(pooled)} pooled ones for {rows} rows"
        )
    return tokens.expand(rows, -1, -1), pooled.expand(rows, -1)
