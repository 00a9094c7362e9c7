"""A family's network becomes a denoiser of windows: its prediction as x0, and guidance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

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


def turned(x: Tensor, sigma: Tensor, positive: Tensor, x0: Tensor, patch: int) -> Tensor:
    """Guided x0 of a flow whose velocity is, in each patch, as long as the prompt's alone.

    With `x = x0 + sigma * noise` the velocity, noise - x0, is `(x - (1 + sigma) x0) / sigma`. So
    its authors guide Qwen-Image (QwenLM/Qwen-Image, Apache-2.0); ComfyUI calls it CFGNorm.

    Args:
        x: shape (B, C, h, w), sides in whole patches.
        sigma: shape (B,), above 0.
        positive, x0: of the prompt alone, and guided.
        patch: side of a patch, cells.
    """
    level = prediction.per_row(sigma, x)
    alone, guided = ((x - (1 + level) * each) / level for each in (positive, x0))
    lengths = [_length(each, patch) for each in (alone, guided)]
    ratio = lengths[0] / lengths[1].clamp_min(torch.finfo(x.dtype).tiny)
    return (x - level * guided * ratio) / (1 + level)


def _length(velocity: Tensor, patch: int) -> Tensor:
    """Of each patch over all channels, shape (B, 1, h, w)."""
    mean = functional.avg_pool2d(velocity.square().sum(1, keepdim=True), patch)
    return mean.sqrt().repeat_interleave(patch, -2).repeat_interleave(patch, -1)


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
    patch: int | None = None
    """Side in cells of the patches in which guidance of a flow keeps the length of what is
    predicted; None: it need not."""

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
        x0 = guided(positive, negative, self.cfg)
        if self.patch is None or self.prediction != "flow":
            return x0
        return turned(x, sigma, positive, x0, self.patch)

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
