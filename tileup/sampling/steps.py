"""Run some steps of a sampler."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor

from tileup.plan.samplers import Sampler
from tileup.sampling.kdiffusion import NoiseSampler, ranged_function, sample_function
from tileup.sampling.noise import SeededRandnLike


class CanvasDenoiser(Protocol):
    """x0 of whole canvases: (N, C, H, W) and one noise level per row, (N,), to (N, C, H, W)."""

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor: ...


@dataclass(frozen=True, slots=True)
class SamplerOptions:
    """What the samplers can be told beyond noise levels."""

    eta: float | None = None
    """Share of fresh noise, 0 to 1; None: the sampler's own default."""
    s_noise: float = 1.0
    """Factor of fresh noise."""
    s_churn: float = 0.0
    """Noise added over a whole run, in k-diffusion's unit."""

    def of(self, sampler: Sampler, share: float) -> dict[str, object]:
        """The keyword arguments that a sampler takes, for a share of a whole run's steps.

        k-diffusion spreads s_churn over the steps of the call, so a part of a run gets a part.
        """
        given = {"eta": self.eta, "s_noise": self.s_noise, "s_churn": self.s_churn * share}
        return {
            name: value
            for name, value in given.items()
            if name in sampler.options and value is not None
        }


def sample(
    sampler: Sampler,
    denoiser: CanvasDenoiser,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    first: int = 0,
    of: int | None = None,
    seed: int = 0,
    noise: NoiseSampler | None = None,
    options: SamplerOptions = SamplerOptions(),
) -> Tensor:
    """One call of k-diffusion's sampler.

    Args:
        sampler: which one.
        denoiser: predicts x0.
        x: where to start, at noise level `sigmas[0]`, shape (N, C, H, W).
        sigmas: noise levels to go through, descending.
        first: index of the first step within the whole run; draws of randomness follow it.
        of: steps of the whole run, if these are a part of it.
        seed: of the picture.
        noise: noise sampler, for the samplers that take one.
        options: what else the sampler is told.

    Returns:
        x at noise level `sigmas[-1]`.
    """
    steps = len(sigmas) - 1
    if steps < 1:
        return x
    churns = sampler.noise == "churn" and options.s_churn > 0
    # Unless it churns, a single step to 0 is x0 for every sampler; dpmpp_2m_sde and _3m_sde fail
    # on it.
    if steps == 1 and sigmas[1] == 0 and not churns:
        return denoiser(x, x.new_full([x.shape[0]], sigmas[0]))
    told = options.of(sampler, steps / (of or steps))
    if noise is not None:
        told["noise_sampler"] = noise
    with SeededRandnLike(seed, first, used=churns or sampler.noise != "churn"):
        if sampler.call == "levels":
            levels = torch.tensor(list(sigmas), dtype=x.dtype, device=x.device)
            return sample_function(sampler.name)(denoiser, x, levels, disable=True, **told)
        return _ranged(sampler, denoiser, x, sigmas, told)


def one_step(
    sampler: Sampler, x0: Tensor, x: Tensor, sigmas: Sequence[float], options: SamplerOptions
) -> Tensor:
    """A step of a sampler that evaluates the denoiser once, at its beginning, and draws nothing.

    Args:
        sampler: of first order and without memory; see `Sampler.is_local`.
        x0: what the denoiser predicts for `x`, shape (1, ...); it may be overwritten.
        x: any cells at the first noise level, of the shape of `x0`, one canvas.
        sigmas: the two noise levels.
        options: what else the sampler is told; `s_churn` is 0.

    Returns:
        The cells at the second noise level.
    """
    if sampler.name == "euler":
        return _euler_step(x0, x, *_euler_levels(tuple(sigmas), x.dtype, x.device))
    levels = torch.tensor(list(sigmas), dtype=x.dtype, device=x.device)

    def known(x: Tensor, sigma: Tensor) -> Tensor:
        return x0

    with SeededRandnLike(0, 0, used=False):
        told = options.of(sampler, 1.0)
        return sample_function(sampler.name)(known, x, levels, disable=True, **told)


def _euler_step(x0: Tensor, x: Tensor, sigma: Tensor, change: Tensor) -> Tensor:
    """k-diffusion's, number by number, with nothing held beside: a fourth of the time."""
    return torch.sub(x, x0, out=x0).div_(sigma).mul_(change).add_(x)


@lru_cache(maxsize=64)
def _euler_levels(
    sigmas: tuple[float, ...], dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """The first noise level, and how far it is from there to the second."""
    first, second = torch.tensor(sigmas, dtype=dtype, device=device)
    return first, second - first


def _ranged(
    sampler: Sampler,
    denoiser: CanvasDenoiser,
    x: Tensor,
    sigmas: Sequence[float],
    told: dict[str, object],
) -> Tensor:
    """Samplers that are told the two ends and leave the lower one's noise: x0 ends the run."""
    to_zero = sigmas[-1] == 0
    levels = [sigma for sigma in sigmas if sigma > 0]
    if sampler.call == "count":
        told = {**told, "n": len(levels) - 1}
    x = ranged_function(sampler.name)(denoiser, x, levels[-1], levels[0], disable=True, **told)
    return denoiser(x, x.new_full([x.shape[0]], levels[-1])) if to_zero else x
