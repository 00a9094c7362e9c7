"""k-diffusion's samplers: what each one costs and which randomness it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Noise = Literal["none", "churn", "steps", "brownian"]


@dataclass(frozen=True, slots=True)
class Sampler:
    """One `sample_*` function of k-diffusion that takes a list of noise levels."""

    name: str
    """k-diffusion's name, without `sample_`."""
    order: int
    """Evaluations of the denoiser in each step; a step to noise level 0 always takes one."""
    noise: Noise
    """none; churn: drawn by torch.randn_like in every step; steps: one draw of a noise sampler per
    step; brownian: additive increments of one Brownian path."""
    multistep: bool
    """Whether a step uses the predictions of earlier steps."""

    def evaluations(self, steps: int, to_zero: bool) -> int:
        """Evaluations of the denoiser in `steps` steps, the last of which may end at 0."""
        return steps * self.order - (self.order - 1 if to_zero and steps else 0)


SAMPLERS: Mapping[str, Sampler] = {
    each.name: each
    for each in (
        Sampler("euler", order=1, noise="churn", multistep=False),
        Sampler("euler_ancestral", order=1, noise="steps", multistep=False),
        Sampler("heun", order=2, noise="churn", multistep=False),
        Sampler("dpm_2", order=2, noise="churn", multistep=False),
        Sampler("dpm_2_ancestral", order=2, noise="steps", multistep=False),
        Sampler("lms", order=1, noise="none", multistep=True),
        Sampler("dpmpp_2s_ancestral", order=2, noise="steps", multistep=False),
        Sampler("dpmpp_sde", order=2, noise="brownian", multistep=False),
        Sampler("dpmpp_2m", order=1, noise="none", multistep=True),
        Sampler("dpmpp_2m_sde", order=1, noise="brownian", multistep=True),
        Sampler("dpmpp_3m_sde", order=1, noise="brownian", multistep=True),
    )
}
"""By name."""
