"""How a part of a prompt counts more: what is done to the features of its tokens.

Both ways act on what an encoder gives for one row, and leave the features of the whole text alone.
"""

from __future__ import annotations

from torch import Tensor


def scaled(features: Tensor, weights: Tensor) -> Tensor:
    """A1111's way: features times weights, then all of the row so that its mean is what it was.

    Args:
        features: of one row, shape (length, width).
        weights: of its tokens, shape (length,).

    Returns:
        `w f mean(f) / mean(w f)`, shape of `features`.
    """
    heavier = features * weights[:, None]
    return heavier * (features.mean() / heavier.mean())


def away_from_nothing(features: Tensor, weights: Tensor, nothing: Tensor) -> Tensor:
    """ComfyUI's way: by how far features are from those of an empty text at the same place.

    Args:
        features: of one row, shape (length, width).
        weights: of its tokens, shape (length,).
        nothing: features of the row of an empty text.

    Returns:
        `e + w (f - e)`, shape of `features`; where w is 1, the features themselves.
    """
    moved = nothing + weights[:, None] * (features - nothing)
    return moved.where((weights != 1)[:, None], features)
