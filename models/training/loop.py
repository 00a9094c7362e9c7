"""From batch to batch until the learning rate has fallen to 0."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from models.training.files import Part, note, save
from models.training.optimisers import Rate
from models.training.samples import Batches

SAVE_EVERY = 50  # steps


class Trainer(Protocol):
    """What is trained, and everything that a resumed run needs."""

    step: int
    seconds: float
    """Spent on all steps so far."""
    rate: Rate
    device: str
    average: nn.Module

    def advance(self, pixels: Tensor) -> dict[str, float]: ...

    def state(self) -> dict[str, object]: ...

    def restore(self, state: dict[str, Any]) -> None: ...

    def start_from(self, weights: dict[str, Tensor]) -> None: ...


@dataclass(frozen=True, slots=True)
class Length:
    """How long to train."""

    hours: float
    finish: int | None
    """End at this step, whatever the time."""
    tail: float
    """Share of the run in which the rate falls to 0."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where a run keeps what it makes."""

    state: Path
    log: Path
    every: int
    """Steps between validations."""


def run(
    trainer: Trainer,
    batches: Batches,
    length: Length,
    places: Places,
    validate: Callable[[], Mapping[str, float]],
    export: Callable[[Part], None],
) -> None:
    """Train until the rate has fallen to 0; validate, note and export on the way and at the end."""
    clock = _Clock(trainer, length)
    errors: defaultdict[str, list[float]] = defaultdict(list)
    for _, batch in batches.since(trainer.step):
        for name, value in trainer.advance(batch).items():
            errors[name].append(value)
        clock.begin_the_fall()
        done = trainer.rate.finish is not None and trainer.step >= trainer.rate.finish
        means = {name: round(float(np.mean(values)), 6) for name, values in errors.items()}
        if trainer.step % SAVE_EVERY == 0 or done:
            clock.note()
            save(trainer.state(), places.state)
            print(f"step={trainer.step}", *(f"{n}={v}" for n, v in means.items()), flush=True)
        if trainer.step % places.every == 0 or done:
            clock.note()
            with torch.no_grad(), torch.autocast(torch.device(trainer.device).type, torch.bfloat16):
                figures = validate()
            row: dict[str, object] = {
                "step": trainer.step,
                "crops": trainer.step * batches.size,
                "hours": round(trainer.seconds / 3600, 3),
                "device": trainer.device,
                "rate": round(trainer.rate.at(trainer.step), 8),
                **means,
                **{name: round(value, 4) for name, value in figures.items()},
            }
            note(row, places.log)
            export(Part(trainer.average.state_dict(), row))
            errors.clear()
            clock.skip()
        if done:
            return


class _Clock:
    """Counts the seconds of a run, and says when the rate shall begin to fall."""

    def __init__(self, trainer: Trainer, length: Length) -> None:
        self.trainer, self.length = trainer, length
        self.first, self.begin = trainer.step, time.monotonic()
        self.mark = self.begin
        if length.finish is not None:
            steps = max(1, round(length.tail * (length.finish - trainer.step)))
            trainer.rate = replace(trainer.rate, finish=length.finish, tail=steps)

    def begin_the_fall(self) -> None:
        """From then on the rate is a function of the step, so that a resumed run has the same."""
        whole, passed = self.length.hours * 3600, time.monotonic() - self.begin
        taken = self.trainer.step - self.first
        enough = taken >= 20 or passed >= whole
        late = passed >= (1 - self.length.tail) * whole
        if self.trainer.rate.finish is None and enough and late:
            steps = max(1, round((whole - passed) / (passed / taken)))
            self.trainer.rate = replace(
                self.trainer.rate, finish=self.trainer.step + steps, tail=steps
            )

    def note(self) -> None:
        """Add what has passed since it was last noted to the run's seconds."""
        now = time.monotonic()
        self.trainer.seconds += now - self.mark
        self.mark = now

    def skip(self) -> None:
        """Leave out what has passed since it was last noted."""
        self.mark = time.monotonic()
