"""A family's network becomes a denoiser of windows: its prediction as x0, and guidance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tileup.contracts import Box, Encoded, Network, Scene
from tileup.sampling import prediction

PREDICTIONS: Mapping[str, Callable[[prediction.RawNetwork], prediction.Denoise]] = {
    "eps": prediction.eps_denoiser,
    "v": prediction.v_denoiser,
    "x0": prediction.x0_denoiser,
    "flow": prediction.flow_denoiser,
}
"""By what a network predicts."""


def guided(positive: Tensor, negative: Tensor, cfg: float) -> Tensor:
    """Classifier-free guidance of x0: `negative + cfg * (positive - negative)`.

    Ho and Salimans (2022), arXiv 2207.12598. For eps, v and flow it is the same as guiding the
    network's output, because x0 is linear in that.
    """
    return negative + cfg * (positive - negative)


@dataclass(frozen=True, slots=True)
class GuidedDenoiser:
    """A network, told what one picture shall look like; satisfies `Denoiser`.

    x0 of each window is guided by itself, in the precision of `x`.
    """

    network: Network
    prediction: str
    """What it predicts: eps, v, x0 or flow."""
    scene: Scene
    text: Encoded
    """The prompt, one row."""
    negative: Encoded | None = None
    """The negative prompt, one row; needed unless `cfg` is 1, when it is not evaluated."""
    cfg: float = 1.0

    def __post_init__(self) -> None:
        if self.prediction not in PREDICTIONS:
            raise ValueError(f"prediction must be one of {', '.join(PREDICTIONS)}")
        if self.cfg != 1 and self.negative is None:
            raise ValueError("guidance other than 1 needs a negative prompt")

    def __call__(self, x: Tensor, sigma: Tensor, windows: Sequence[Box]) -> Tensor:
        """x0 of each window, shape and dtype of `x`, (B, C, h, w)."""
        if self.cfg == 1 or self.negative is None:
            return self._x0(x, sigma, windows, self.text)
        both = joined(self.text, self.negative, len(x))
        if both is None:
            positive = self._x0(x, sigma, windows, self.text)
            negative = self._x0(x, sigma, windows, _negative_rows(self.negative))
        else:
            twice = torch.cat([x, x]), torch.cat([sigma, sigma]), [*windows, *windows]
            positive, negative = self._x0(*twice, both).chunk(2)
        return guided(positive, negative, self.cfg)

    def _x0(self, x: Tensor, sigma: Tensor, windows: Sequence[Box], text: Encoded) -> Tensor:
        def network(scaled: Tensor, level: Tensor) -> Tensor:
            return self.network(scaled.float(), level, windows, text, self.scene).to(x)

        return PREDICTIONS[self.prediction](network)(x, sigma)


def joined(positive: Encoded, negative: Encoded, rows: int) -> Encoded | None:
    """Both prompts as one batch of `2 * rows`, the positive ones first.

    Returns:
        None where they differ in length: then no batch holds both, and padding would be seen by
        the network.
    """
    if positive.tokens.shape[1:] != negative.tokens.shape[1:]:
        return None
    negative = _negative_rows(negative)

    def both(first: Tensor, second: Tensor) -> Tensor:
        return torch.cat([each.expand(rows, *each.shape[1:]) for each in (first, second)])

    pooled = None
    if positive.pooled is not None and negative.pooled is not None:
        pooled = both(positive.pooled, negative.pooled)
    flags = (False,) * rows + (True,) * rows
    return Encoded(both(positive.tokens, negative.tokens), pooled, flags)


def _negative_rows(text: Encoded) -> Encoded:
    return Encoded(text.tokens, text.pooled, (True,) * len(text.tokens))
