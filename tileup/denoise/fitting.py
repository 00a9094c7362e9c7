"""How many windows are evaluated at once: on a GPU as many as its memory holds."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

from tileup.contracts import Box, Model, Scene, Wish
from tileup.plan.itinerary import window_size
from tileup.settings.values import Settings

log = logging.getLogger(__name__)

SHARE = 0.8
"""Of the free memory that windows may take: the rest is for what differs from batch to batch."""
MOST = 32
"""Windows at once that fill any card."""


class Memory(Protocol):
    """Memory of a device, in bytes."""

    def peak(self, work: Callable[[], object]) -> int:
        """The most that some work takes beyond what is taken before it."""
        ...

    def free(self) -> int:
        """What can be taken now."""
        ...


@dataclass(frozen=True, slots=True)
class CudaMemory:
    """Memory of an NVIDIA GPU, as torch's own allocator counts it; satisfies `Memory`."""

    device: str

    def peak(self, work: Callable[[], object]) -> int:
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        work()
        torch.cuda.synchronize(self.device)
        return torch.cuda.max_memory_allocated(self.device) - before

    def free(self) -> int:
        torch.cuda.empty_cache()  # what is kept in pieces counts as free
        return torch.cuda.mem_get_info(self.device)[0]


def measured_batch(model: Model, settings: Settings, memory: Memory) -> int:
    """How many windows fit into the free memory: a power of two, at most `MOST`.

    What one more window takes is the difference between two of them and one. It does not depend on
    how many there are: all that a network holds of a window, its attention too, it holds of each.

    Args:
        model: on the device.
        settings: window and guidance of the run.
        memory: of the device.

    Raises:
        RuntimeError: not even two windows fit.
    """
    evaluate = _trial(model, settings)
    evaluate(1)  # libraries take what they need for themselves
    one, two = (memory.peak(lambda count=count: evaluate(count)) for count in (1, 2))
    each = max(two - one, 1)
    fitting = (SHARE * memory.free() - (one - each)) // each
    batch = 1
    while 2 * batch <= min(fitting, MOST):
        batch *= 2
    log.info("a window takes %.2f GB: batches of %d", each / 1e9, batch)
    return batch


def _trial(model: Model, settings: Settings) -> Callable[[int], object]:
    """Evaluates so many windows of an empty picture, as all windows of the run are."""
    spec, side = model.spec, window_size(model.spec, settings).side
    pixels = side * spec.stride
    source = torch.zeros(1, spec.channels, side, side, device=model.device)
    wish = Wish(settings.prompt, settings.negative, settings.cfg, settings.guidance)
    canvas = torch.zeros(1, 3, pixels, pixels, device=model.device)
    denoiser = model.denoiser(Scene(source, canvas, (pixels, pixels), wish))
    sigma = spec.levels.sigma_max

    def evaluate(count: int) -> object:
        windows = [Box(0, 0, side, side)] * count
        return denoiser(source.repeat(count, 1, 1, 1), torch.full((count,), sigma), windows)

    return evaluate
