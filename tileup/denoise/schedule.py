"""Per-tile denoise by schedule: a tile keeps its source until its own start, then works.

A tile that has not started answers `x0 := source`, and a sampler told so carries x exactly along
`source + sigma * noise`. So every tile is always at the run's one noise level, and a tile that
starts at its own level continues as a plain img2img run of its strength would. Windows that hold
no working tile are never evaluated.

Single-step samplers are called once for each phase, so that no step straddles a start. Samplers
that use earlier predictions would lose them there. Those that hold them by reference are called
once for the whole run instead, and where a tile starts, what they hold of it is rewritten.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tileup.denoise.draft import Draft
from tileup.denoise.strength import working_weight
from tileup.plan.itinerary import Phase
from tileup.sampling.steps import CanvasDenoiser


@dataclass(frozen=True, slots=True)
class Gated:
    """x0 := weight * D + (1 - weight) * source."""

    denoiser: CanvasDenoiser
    source: Tensor
    """Clean latents, shape (1, C, H, W)."""
    weight: Tensor
    """In [0, 1], shape (H, W)."""

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        return gated(self.source, self.denoiser(x, sigma), self.weight)


def gated(source: Tensor, x0: Tensor, weight: Tensor, out: Tensor | None = None) -> Tensor:
    """`weight * x0 + (1 - weight) * source`, exactly one of them where the weight is 1 or 0."""
    return torch.lerp(source, x0, weight, out=out)


def run_schedule(draft: Draft) -> Tensor:
    """Sample a canvas whose tiles have strengths of their own.

    Returns:
        Clean latents, shape of `draft.source`; the source itself where the strength is 0.
    """
    (run,) = draft.itinerary.runs
    if draft.sampler.carries and len(run.phases) > 1:
        return _in_one_call(draft, run.phases)
    return _in_phases(draft, run.phases)


def _in_phases(draft: Draft, phases: tuple[Phase, ...]) -> Tensor:
    """One call of the sampler for each phase."""
    x = draft.source
    seen = torch.zeros(x.shape[-2:], dtype=torch.bool, device=x.device)
    for phase in phases:
        weight = _weight(draft, phase)
        # Cells that no phase has touched yet start here, whatever the sampler did to them.
        x = torch.where(seen, x, draft.noised(draft.itinerary.sigmas[phase.start]))
        seen |= weight > 0
        denoiser = draft.denoisers([phase], draft.sampler.order)
        x = draft.sample(Gated(denoiser, draft.source, weight), x, phase.start, phase.stop)
    return torch.where(seen, x, draft.source)


def _in_one_call(draft: Draft, phases: tuple[Phase, ...]) -> Tensor:
    """One call of a multistep sampler, gated by step."""
    first, last = phases[0].start, phases[-1].stop
    gate = Rewriting(draft, phases, first)
    x = draft.sample(gate, draft.noised(draft.itinerary.sigmas[first]), first, last)
    return torch.where(gate.seen, x, draft.source)


def _weight(draft: Draft, phase: Phase) -> Tensor:
    itinerary = draft.itinerary
    return draft.tensor(
        working_weight(itinerary.strengths, phase.strengths[-1], itinerary.layout.margin)
    )


@dataclass(slots=True)
class Rewriting:
    """A gated denoiser that rewrites what the sampler holds where tiles start.

    The sampler holds x and the tensors returned last by reference. When cells start, x becomes
    the noised source there, and the earlier predictions become the new one: all differences that
    the sampler forms vanish, and its step is that of a first step. One step later a sampler of
    third order would form a second difference; with the older prediction on the line through the
    two newer ones in log sigma, that vanishes too, as it does in the second step of a plain run.
    """

    draft: Draft
    phases: tuple[Phase, ...]
    step: int
    """Index of the step within the whole run."""
    seen: Tensor = field(init=False)
    """Cells that have started."""
    fresh: Tensor | None = None
    """Cells that started one step ago."""
    returned: list[Tensor] = field(default_factory=list[Tensor])
    """The last predictions, newest first."""
    gate: Gated = field(init=False)

    def __post_init__(self) -> None:
        source = self.draft.source
        self.seen = torch.zeros(source.shape[-2:], dtype=torch.bool, device=source.device)

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        starting = self._enter_phase(x)
        x0 = self.gate(x, sigma)
        if starting is not None:
            for earlier in self.returned:
                earlier.copy_(torch.where(starting, x0, earlier))
        if self.fresh is not None and self.draft.sampler.carries > 1 and len(self.returned) > 1:
            newer, older = self.returned
            line = newer - self._ratio() * (x0 - newer)
            older.copy_(torch.where(self.fresh, line, older))
        self.fresh = starting
        self.returned = [x0, *self.returned][: self.draft.sampler.carries]
        self.step += 1
        return x0

    def _enter_phase(self, x: Tensor) -> Tensor | None:
        """At the first step of a phase: set its gate, and the cells of `x` that start now."""
        phase = next((each for each in self.phases if each.start == self.step), None)
        if phase is None:
            return None
        weight = _weight(self.draft, phase)
        denoiser = self.draft.denoisers([phase], self.draft.sampler.order)
        self.gate = Gated(denoiser, self.draft.source, weight)
        starting = (weight > 0) & ~self.seen
        self.seen |= starting
        noised = self.draft.noised(self.draft.itinerary.sigmas[self.step])
        x.copy_(torch.where(starting, noised, x))
        return starting if self.returned else None

    def _ratio(self) -> float:
        """Length of the step before last over the last one, in log sigma."""
        oldest, older, newer = (
            math.log(sigma) for sigma in self.draft.itinerary.sigmas[self.step - 2 : self.step + 1]
        )
        return (oldest - older) / (older - newer)
