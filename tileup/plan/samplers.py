"""k-diffusion's samplers: what each one costs, what it takes, and which randomness it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Noise = Literal["none", "churn", "steps", "brownian"]
Call = Literal["levels", "count", "tolerance"]


@dataclass(frozen=True, slots=True)
class Sampler:
    """One `sample_*` function of k-diffusion."""

    name: str
    """k-diffusion's name, without `sample_`."""
    order: int
    """Evaluations of the denoiser in each step; a step to noise level 0 always takes one."""
    noise: Noise
    """none; churn: drawn by torch.randn_like in every step; steps: one draw of a noise sampler per
    step; brownian: additive increments of one Brownian path."""
    call: Call = "levels"
    """What it is told: all noise levels; or the two ends and a number of evaluations; or the two
    ends alone, and it finds steps that keep a tolerance."""
    multistep: bool = False
    """Whether a step uses the predictions of earlier steps."""
    carries: int = 0
    """How many earlier predictions it holds by reference. Where a tile starts they can be
    rewritten, so that such a sampler need not be interrupted."""

    @property
    def options(self) -> frozenset[str]:
        """Which of eta, s_noise and s_churn it takes."""
        if self.noise == "churn":
            return frozenset({"s_churn", "s_noise"})
        return frozenset() if self.noise == "none" else frozenset({"eta", "s_noise"})

    @property
    def resumes(self) -> bool:
        """Whether a run that is cut into calls, or rewritten where a tile starts, stays the same
        for tiles at work: whatever it remembers of earlier steps is kept."""
        return self.call == "levels" and (self.carries > 0 or not self.multistep)

    def is_local(self, s_churn: float) -> bool:
        """Whether a step needs of each cell nothing but x and its prediction there."""
        draws = self.noise != "none" and not (self.noise == "churn" and s_churn == 0)
        return self.call == "levels" and self.order == 1 and not self.multistep and not draws

    def evaluations(self, steps: int, to_zero: bool) -> int:
        """Evaluations of the denoiser in `steps` steps, the last of which may end at 0.

        For a sampler that chooses its own steps this is a guess.
        """
        return steps * self.order - (self.order - 1 if to_zero and steps else 0)


SAMPLERS: Mapping[str, Sampler] = {
    each.name: each
    for each in (
        Sampler("euler", order=1, noise="churn"),
        Sampler("euler_ancestral", order=1, noise="steps"),
        Sampler("heun", order=2, noise="churn"),
        Sampler("dpm_2", order=2, noise="churn"),
        Sampler("dpm_2_ancestral", order=2, noise="steps"),
        Sampler("lms", order=1, noise="none", multistep=True),
        Sampler("dpm_fast", order=1, noise="steps", call="count"),
        Sampler("dpm_adaptive", order=3, noise="steps", call="tolerance"),
        Sampler("dpmpp_2s_ancestral", order=2, noise="steps"),
        Sampler("dpmpp_sde", order=2, noise="brownian"),
        Sampler("dpmpp_2m", order=1, noise="none", multistep=True, carries=1),
        Sampler("dpmpp_2m_sde", order=1, noise="brownian", multistep=True, carries=1),
        Sampler("dpmpp_3m_sde", order=1, noise="brownian", multistep=True, carries=2),
    )
}
"""By name."""
