"""Tensors between main memory and a GPU, without waiting for one another."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import torch
from torch import Tensor

Arrival = Callable[[], Tensor]
"""Waits for a tensor, and gives it."""


def to_device(
    tensor: Tensor, device: str | torch.device, dtype: torch.dtype | None = None
) -> Tensor:
    """A tensor on a device, in another precision where one is given.

    An NVIDIA GPU is not waited for, nor need the tensor live until it is there. Others are waited
    for: they may read memory that is another's by then. So is the CPU.
    """
    unwaited = torch.device(device).type == "cuda"
    return tensor.to(device, dtype or tensor.dtype, non_blocking=unwaited)


def pinned(tensor: Tensor, device: str) -> Tensor:
    """The same in memory from which a GPU fetches by itself; elsewhere the tensor as it is."""
    if torch.device(device).type != "cuda" or tensor.is_cuda:
        return tensor
    return tensor.pin_memory()


def to_host(parts: Iterable[Tensor]) -> Iterator[Tensor]:
    """Parts in main memory, in order.

    From a GPU they come while the caller works on the part before: the next one is computed and
    copied meanwhile, so one more is held. On a CPU each comes when it is asked for.
    """
    yield from ahead(map(sent, parts))


def ahead(parts: Iterable[Arrival | Tensor]) -> Iterator[Tensor]:
    """What was sent, each after the one behind it was sent too; what is there needs not wait."""
    waiting = deque[Arrival]()
    for each in parts:
        if isinstance(each, Tensor):
            yield each
            continue
        waiting.append(each)
        if len(waiting) > 1:
            yield waiting.popleft()()
    yield from (each() for each in waiting)


def sent(part: Tensor) -> Arrival | Tensor:
    """A tensor in main memory; of a GPU's, what waits for it to arrive there."""
    if not part.is_cuda:
        return part.cpu()
    host = torch.empty_like(part, device="cpu", pin_memory=True)
    host.copy_(part, non_blocking=True)
    copied = torch.cuda.Event()
    copied.record(torch.cuda.current_stream(part.device))
    return partial(_arrived, host, copied)


def _arrived(host: Tensor, copied: torch.cuda.Event) -> Tensor:
    copied.synchronize()
    return host
