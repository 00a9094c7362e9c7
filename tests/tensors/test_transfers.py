"""Tensors that come from a device: in order, the next one under way while one is worked on."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from tileup.tensors.transfers import ahead, pinned, to_device, to_host

PARTS = [torch.full((2,), float(number)) for number in range(4)]


@pytest.mark.parametrize("count", range(4))
def test_each_is_given_when_the_next_was_sent(count: int) -> None:
    told: list[str] = []

    def sent() -> Iterator[Callable[[], Tensor]]:
        for number in range(count):
            told.append(f"sent {number}")
            yield lambda number=number: PARTS[number]

    for number, part in enumerate(ahead(sent())):
        assert part is PARTS[number]
        told.append(f"given {number}")
    steps = [(f"sent {number + 1}", f"given {number}") for number in range(count)]
    expected = [f"sent {number}" for number in range(count)][:1] + [
        step for pair in steps for step in pair if step != f"sent {count}"
    ]
    assert told == expected


def test_on_a_cpu_nothing_is_held_or_copied() -> None:
    made: list[int] = []

    def parts() -> Iterator[Tensor]:
        for number, part in enumerate(PARTS):
            made.append(number)
            yield part

    for number, part in enumerate(to_host(parts())):
        assert part is PARTS[number]
        assert made[-1] == number
    assert made == [*range(len(PARTS))]
    assert pinned(PARTS[0], "cpu") is PARTS[0]


def test_what_is_there_already_is_not_copied() -> None:
    part = PARTS[1]
    assert to_device(part, "cpu") is to_device(part, "cpu", part.dtype) is part
    half = to_device(part, torch.device("cpu"), torch.float16)
    assert torch.equal(half, part.half())
    assert half.dtype == torch.float16


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_from_a_gpu_they_come_whole() -> None:
    shape = 64, 1024, 1024
    found = [
        part.clone() for part in to_host(torch.full(shape, n, device="cuda") for n in range(4))
    ]
    assert all(bool((part == n).all()) for n, part in enumerate(found))
    assert pinned(found[0], "cuda").is_pinned()
