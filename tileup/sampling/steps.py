"""Run some steps of a sampler."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from tileup.plan.samplers import Sampler
from tileup.sampling.kdiffusion import NoiseSampler, sample_function
from tileup.sampling.noise import SeededRandnLike


class CanvasDenoiser(Protocol):
    """x0 of a whole canvas: (N, C, H, W) and one noise level per row, (N,), to (N, C, H, W)."""

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor: ...


def sample(
    sampler: Sampler,
    denoiser: CanvasDenoiser,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    first: int = 0,
    seed: int = 0,
    noise: NoiseSampler | None = None,
) -> Tensor:
    """One call of k-diffusion's sampler.

    Args:
        sampler: which one.
        denoiser: predicts x0.
        x: where to start, at noise level `sigmas[0]`, shape (N, C, H, W).
        sigmas: noise levels to go through, descending.
        first: index of the first step within the whole run; draws of randomness follow it.
        seed: of the picture.
        noise: noise sampler, for the samplers that take one.

    Returns:
        x at noise level `sigmas[-1]`.
    """
    if len(sigmas) < 2:
        return x
    levels = torch.tensor(list(sigmas), dtype=x.dtype, device=x.device)
    if len(sigmas) == 2 and sigmas[1] == 0:
        # A single step to 0 is x0 for every sampler; dpmpp_2m_sde and _3m_sde fail on it.
        return denoiser(x, levels[0].expand(x.shape[0]))
    options: dict[str, object] = {} if noise is None else {"noise_sampler": noise}
    with SeededRandnLike(seed, first):
        return sample_function(sampler.name)(denoiser, x, levels, disable=True, **options)
