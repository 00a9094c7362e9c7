"""How the sampler came to where a training input lies.

The sampler starts from source + noise and moves towards the network's own predictions,
`x := x0 + sigma_next / sigma * (x - x0)`. The training input lies on such a way: in some batches
after one step towards the truth, which teaches the network to use what it sees; in the others
after one to three steps towards its own predictions, which teaches it not to take its own noise
for detail (without those, 8 steps from 0.8 were 3 dB below bicubic, one was 1 dB above).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from models.training.levels import SIGMA_MIN, denoise_of, sigma_of

OWN_STEPS = torch.tensor([0.2, 0.25, 0.3, 0.25])
"""How often a batch lies after 0, 1, 2, 3 steps of the network's own; 0 is a step to the truth."""
JOINING = 0.5
"""Share of the rows on ways of their own of which a part joins later."""
WEAK = 0.5
"""Share of the rows that start at strengths between 0.05 and 0.3."""

Network = Callable[..., Tensor]


@dataclass(frozen=True, slots=True)
class Way:
    """How the sampler came to where each row of a batch lies. Tensors of shape (B, 1, 1, 1)."""

    start: Tensor
    """Noise level that sampling started from."""
    shares: tuple[Tensor, ...]
    """How much of the start was left after each step, 1 first; the last is where the row lies."""
    noise: Tensor
    """The run's noise, shape (B, C, h, w)."""
    own: bool
    """Whether the steps went towards the network's own predictions, or towards the truth."""
    joins: Tensor
    """After how many steps each place began to take part, shape (B, 1, h, w), whole numbers."""

    @classmethod
    def drawn(cls, like: Tensor, generator: torch.Generator) -> Way:
        """A random way: its number of own steps is the same for the whole batch."""
        steps = int(torch.multinomial(OWN_STEPS, 1, generator=generator))
        start, at_start, even, weak = torch.rand(4, len(like), generator=generator)
        # Weak starts are what it is for: there it must tell its noise from fine texture.
        near, any_ = 0.05 + 0.25 * start, 0.02 + 0.98 * start**1.2
        start = sigma_of(torch.where(weak < WEAK, near, any_))
        ways = torch.rand(max(steps, 1), len(like), generator=generator)
        # Half of the rows come down evenly in log sigma, as the sampler does.
        ways = torch.where(even < 0.5, (SIGMA_MIN / start) ** ways, ways)
        ways = torch.where(at_start < 0.2, torch.ones_like(ways), ways)
        shares = [torch.ones(len(like)), *ways.sort(dim=0, descending=True).values]
        joins = torch.zeros(len(like), 1, *like.shape[2:])
        for place in joins if steps else ():
            part = part_of(place, generator)
            joining = torch.rand((), generator=generator) < JOINING
            place[part] = joining * torch.randint(1, steps + 1, (), generator=generator)
        return cls(
            start=_column(start, like),
            shares=tuple(_column(share, like) for share in shares),
            noise=torch.randn(like.shape, generator=generator).to(like.device),
            own=steps > 0,
            joins=joins.to(like.device),
        )

    def rows(self, rows: slice) -> Way:
        """Some rows of the batch."""
        shares = tuple(share[rows] for share in self.shares)
        return Way(self.start[rows], shares, self.noise[rows], self.own, self.joins[rows])

    @property
    def sigma(self) -> Tensor:
        """Noise level of each row, shape (B,)."""
        return self.level(self.shares[-1])

    @property
    def strength(self) -> Tensor:
        """With which each place started, shape (B, 1, h, w)."""
        shares = torch.cat(self.shares, dim=1).flatten(1)  # (B, steps + 1)
        begun = shares.gather(1, self.joins.long().flatten(1)).view(self.joins.shape)
        return denoise_of((self.start * begun).clamp(min=SIGMA_MIN))

    def level(self, share: Tensor) -> Tensor:
        """Noise level at a share of the start, shape (B,)."""
        return (self.start * share).clamp(min=SIGMA_MIN / 2).flatten()

    def input(self, truth: Tensor, source: Tensor, network: Network) -> Tensor:
        """What the network sees at the end of the way: Euler's steps, exactly."""
        x = source + self.start * self.noise
        for step, (share, following) in enumerate(itertools.pairwise(self.shares), 1):
            clean = truth
            if self.own:
                with torch.no_grad():
                    clean = network(x, self.level(share), source).float()
            x = clean + following / share * (x - clean)
            # What has not joined yet is the source, with as much of the noise as there is now.
            x = torch.where(self.joins < step, x, source + self.start * following * self.noise)
        return x


def part_of(place: Tensor, generator: torch.Generator) -> tuple[slice, ...]:
    """A rectangle of a place of shape (1, h, w); at least one of its edges lies within."""
    slices = [slice(None)]
    for length in place.shape[1:]:
        ends = torch.randint(-length // 2, length + length // 2, (2,), generator=generator).tolist()
        slices.append(slice(max(min(ends), 0), max(max(ends), 1)))
    return tuple(slices)


def _column(values: Tensor, like: Tensor) -> Tensor:
    return values.to(like.device)[:, None, None, None]
