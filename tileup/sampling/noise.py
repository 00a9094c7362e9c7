"""Randomness: a pure function of the seed and of where it is used, drawn on the CPU.

So a picture depends neither on windows, batch size or device, nor on how a run is cut into phases.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from tileup.sampling.kdiffusion import NoiseSampler, brownian_tree


def _generator(*key: int | float) -> torch.Generator:
    """A generator of its own for each key."""
    packed = b"".join(struct.pack("<d" if isinstance(k, float) else "<q", k) for k in key)
    digest = hashlib.blake2b(packed, digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


def canvas_noise(like: Tensor, rows: int, columns: int, seed: int) -> Tensor:
    """Standard normal noise for a padded canvas.

    The picture's own cells are drawn first, so that they do not depend on the padding.

    Args:
        like: gives shape (1, C, H, W), dtype and device.
        rows, columns: cells of the picture, at most H and W.
    """
    channels, height, width = like.shape[1:]
    own = torch.randn((1, channels, rows, columns), generator=_generator(seed, 1))
    if (rows, columns) == (height, width):
        return own.to(like)
    noise = torch.randn((1, channels, height, width), generator=_generator(seed, 0))
    noise[..., :rows, :columns] = own
    return noise.to(like)


class NoiseRows:
    """The noise of a canvas without padding, drawn from top to bottom, a few rows at a time.

    The same numbers as `canvas_noise` gives. There they are drawn channel by channel, so here each
    channel has a generator of its own, set to where the channel begins.

    Args:
        channels, rows, columns: of the canvas, in cells.
        seed: of the picture.
    """

    def __init__(self, channels: int, rows: int, columns: int, seed: int) -> None:
        self.columns, count = columns, rows * columns
        generator, total = _generator(seed, 1), channels * count
        self._planes: list[_Drawn] = []
        at = 0
        for start in range(0, total, count):
            at = _drawn_up_to(generator, at, min(start, _last_group(total)))
            copy = torch.Generator()
            copy.set_state(generator.get_state())
            self._planes.append(_Drawn(copy, at, start, total))

    def skip(self, rows: int) -> None:
        """Leaves the next rows out."""
        spare = torch.empty(_ROWS * self.columns)
        for plane in self._planes:
            for first in range(0, rows, _ROWS):
                plane.take(spare[: min(_ROWS, rows - first) * self.columns])

    def take(self, out: Tensor) -> None:
        """Writes the next rows, shape (rows, columns, channels)."""
        whole = _GROUP // math.gcd(_GROUP, self.columns)  # so many rows end with a group
        at_once = max(1, _AT_ONCE // (out[0].numel() * whole)) * whole
        for rows in out.split(at_once):
            count = rows.shape[0] * self.columns
            drawn = torch.empty(len(self._planes), count)
            for plane, numbers in zip(self._planes, drawn, strict=True):
                plane.take(numbers)
            # Turned in one go: cell by cell every plane's turn would go through all of the memory.
            made = rows.view(count, -1)
            if made.device.type == "cpu":
                made.numpy()[...] = drawn.numpy().T  # in two thirds of the time of a `copy_`
            else:
                made.copy_(drawn.T)


_GROUP = 16
"""Normal numbers that torch makes of as many uniform ones at once."""
_ROWS = 16
"""Rows that are drawn at once to get past them."""
_AT_ONCE = 2**20
"""Numbers that are drawn and turned at once, at most."""
_SKIP = 2**16
"""Numbers that are drawn at once to get past them."""


def _last_group(total: int) -> int:
    """Where the last draw of `total` numbers must begin at the latest: what does not fill a group
    is drawn together with the one before."""
    return max(total // _GROUP - 1, 0) * _GROUP


def _drawn_up_to(generator: torch.Generator, at: int, start: int) -> int:
    """Draws what lies before the group in which a number lies; returns where that begins."""
    wanted = start // _GROUP * _GROUP
    for first in range(at, wanted, _SKIP):
        # As many draws as normal numbers take, two for each, in 0.6 of the time.
        spare = torch.empty(min(_SKIP, wanted - first) // 2, dtype=torch.int64)
        spare.random_(-(2**63), None, generator=generator)
    return wanted


class _Drawn:
    """Normal numbers one after the other, as one draw of all of them gives them.

    Args:
        generator: set to where the next group begins.
        at: number of that group's first.
        start: the number with which to begin, in that group or later.
        total: how many numbers there are.
    """

    def __init__(self, generator: torch.Generator, at: int, start: int, total: int) -> None:
        self.generator, self.at, self.total = generator, at, total
        self._left = torch.empty(0)
        self._skip = start - at

    def take(self, out: Tensor) -> None:
        """Writes the next numbers, as many as there is room for, shape (n,)."""
        if self._skip:
            self._left, self._skip = self._group()[self._skip :], 0
        wanted, taken = out.shape[0], min(self._left.shape[0], out.shape[0])
        if taken:
            out[:taken], self._left = self._left[:taken], self._left[taken:]
        groups = min(wanted - taken, _last_group(self.total) - self.at) // _GROUP * _GROUP
        if groups > 0:  # right where they belong
            torch.randn(groups, generator=self.generator, out=out[taken : taken + groups])
            taken, self.at = taken + groups, self.at + groups
        if taken < wanted:
            group, missing = self._group(), wanted - taken
            out[taken:], self._left = group[:missing], group[missing:]

    def _group(self) -> Tensor:
        """The next numbers that torch makes at once: a group, or all that are left."""
        beyond = self.at + _GROUP
        end = self.total if beyond > _last_group(self.total) else beyond
        drawn = torch.randn(end - self.at, generator=self.generator)
        self.at = end
        return drawn


class StepNoise:
    """Noise sampler whose draw is fixed by the seed and the noise levels of the step."""

    def __init__(self, like: Tensor, seed: int) -> None:
        self.like, self.seed = like, seed

    def __call__(self, sigma: Tensor, sigma_next: Tensor) -> Tensor:
        generator = _generator(self.seed, 2, float(sigma), float(sigma_next))
        return torch.randn(self.like.shape, generator=generator, dtype=self.like.dtype).to(
            self.like
        )


class BrownianNoise:
    """Noise sampler over one Brownian path that spans all noise levels of a run."""

    def __init__(self, like: Tensor, sigmas: Sequence[float], seed: int) -> None:
        self.device = like.device
        positive = [sigma for sigma in sigmas if sigma > 0]
        # The samplers recompute levels through logarithms, so the ends need a little room.
        self.tree = brownian_tree(like.cpu(), min(positive) * 0.999, max(positive) * 1.001, seed)

    def __call__(self, sigma: Tensor, sigma_next: Tensor) -> Tensor:
        return self.tree(sigma.cpu(), sigma_next.cpu()).to(self.device)


class SeededRandnLike(TorchFunctionMode):
    """While active, `torch.randn_like` draws from a seed, the n-th call always the same.

    k-diffusion's euler, heun and dpm_2 draw once in every step, from the global generator, and
    use it only when they churn.

    Args:
        seed: of the picture.
        first: number of the first call.
        used: whether the draws are used; else a single 0 stands for each, which costs nothing.
    """

    def __init__(self, seed: int, first: int, *, used: bool = True) -> None:
        super().__init__()
        self.seed, self.call, self.used = seed, first, used

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        like = args[0] if args else None
        if func is not torch.randn_like or not isinstance(like, Tensor):
            return func(*args, **(kwargs or {}))
        if not self.used:
            return like.new_zeros(())
        generator = _generator(self.seed, 3, self.call)
        self.call += 1
        return torch.randn(like.shape, generator=generator, dtype=like.dtype).to(like.device)


def noise_sampler(
    kind: str, like: Tensor, sigmas: Sequence[float], seed: int
) -> NoiseSampler | None:
    """What a sampler of this kind is given as `noise_sampler`; None where it takes none.

    Args:
        kind: `Sampler.noise`.
        like: gives shape, dtype and device.
        sigmas: all noise levels of the run.
        seed: of the picture.
    """
    if kind == "steps":
        return StepNoise(like, seed)
    if kind == "brownian":
        return BrownianNoise(like, sigmas, seed)
    return None
