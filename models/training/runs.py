"""Whole runs of the sampler, as the program makes them, for the network that draws texture.

A run starts at a strength and comes down in one to three steps. Half of the runs come down evenly,
half to a last start of 0.2, as a plan's three strengths do. Parts join later, as tiles of a lower
strength do, and have less texture.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from models.training.levels import TEXTURE_RANGE, sigma_of
from models.training.ways import Network, part_of
from tileup.families.texture import toned

STEPS = torch.tensor([0.2, 0.3, 0.5])
"""How often a run has 1, 2 and 3 steps."""
JOINING = 0.4
"""Share of the rows of runs with several steps of which a part joins later."""
DIALLED = 0.25
"""Share of the rows with less texture than their strength stands for: `--texture` below 1."""


@dataclass(frozen=True, slots=True)
class Run:
    """A batch of runs with the same number of steps."""

    sigmas: tuple[Tensor, ...]
    """Noise level of each step, shapes (B, 1, 1, 1)."""
    joins: Tensor
    """Before which step each place begins to take part, whole numbers, shape (B, 1, h, w)."""
    texture: Tensor
    """Amount of texture of each cell, [0, 1], shape (B, 1, h, w)."""
    noise: Tensor
    """The runs' noise, shape (B, C, h, w)."""

    @classmethod
    def drawn(cls, like: Tensor, generator: torch.Generator) -> Run:
        """Random runs for a batch of latents."""
        steps = int(torch.multinomial(STEPS, 1, generator=generator)) + 1
        start, evenly, dialled, dial = torch.rand(4, len(like), generator=generator)
        start = 0.1 + 0.85 * start**0.6
        last = torch.where(start > 0.3, torch.full_like(start, 0.2), start / 2)
        strengths = torch.stack(
            [
                torch.where(
                    evenly < 0.5,
                    start * (1 - step / steps),
                    start + (last - start) * step / max(steps - 1, 1),
                )
                for step in range(steps)
            ]
        )
        joins = torch.zeros(len(like), 1, *like.shape[2:])
        for place in joins if steps > 1 else ():
            part = part_of(place, generator)
            joining = torch.rand((), generator=generator) < JOINING
            place[part] = joining * torch.randint(1, steps, (), generator=generator)
        begun = strengths.gather(0, joins.long().flatten(1).T).T.view(joins.shape)
        amount = torch.where(dialled < DIALLED, dial, torch.ones_like(dial))
        texture = TEXTURE_RANGE.amount(begun) * amount[:, None, None, None]
        return cls(
            sigmas=tuple(sigma_of(each)[:, None, None, None].to(like.device) for each in strengths),
            joins=joins.to(like.device),
            texture=texture.to(like.device),
            noise=torch.randn(like.shape, generator=generator).to(like.device),
        )

    @classmethod
    def even(cls, like: Tensor, strength: float, steps: int, noise: Tensor) -> Run:
        """With one strength everywhere, and all of its texture."""
        levels = strength * (1 - torch.arange(steps) / steps)
        cells = like.new_full((len(like), 1, *like.shape[2:]), strength)
        return cls(
            sigmas=tuple(sigma_of(each).to(like).expand(len(like), 1, 1, 1) for each in levels),
            joins=torch.zeros_like(cells),
            texture=TEXTURE_RANGE.amount(cells),
            noise=noise,
        )

    def prediction(self, source: Tensor, network: Network) -> Tensor:
        """What the last step predicts; the gradient goes through that step alone.

        Args:
            source: enlarged source, shape (B, C, h, w).
            network: called with x, noise levels (B,), source and texture.
        """
        x = source + self.sigmas[0] * self.noise
        for step, (sigma, following) in enumerate(itertools.pairwise(self.sigmas), 1):
            with torch.no_grad():
                clean = network(x, sigma.flatten(), source, self.texture).float()
            x = clean + following / sigma * (x - clean)
            # What has not joined yet is the source, with as much of the noise as there is now.
            x = torch.where(self.joins < step, x, source + following * self.noise)
        return network(x, self.sigmas[-1].flatten(), source, self.texture).float()


def as_shown(network: Network) -> Network:
    """A network that draws texture, with the colours of the source as the program shows it."""

    def call(x: Tensor, sigma: Tensor, source: Tensor, texture: Tensor) -> Tensor:
        return toned(network(x, sigma, source, texture).float(), source)

    return call
