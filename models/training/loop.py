"""From batch to batch until the learning rate has fallen to 0."""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import numpy as np
import torch
from PIL import Image

from models.training.fidelity import Trainer
from models.training.files import export, note, save
from models.training.samples import Batches, Pictures
from models.training.validation import validate

SAVE_EVERY = 50  # steps


def run(
    trainer: Trainer,
    train: Pictures,
    validation: list[Image.Image],
    arguments: argparse.Namespace,
) -> None:
    """Train until the rate has fallen to 0."""
    begin = mark = time.monotonic()
    first, length = trainer.step, arguments.hours * 3600
    if arguments.finish is not None:
        steps = max(1, round(arguments.tail * (arguments.finish - first)))
        trainer.rate = replace(trainer.rate, finish=arguments.finish, tail=steps)
    losses: list[float] = []
    batches = Batches(train, arguments.seed, arguments.batch, arguments.threads, arguments.crop)
    for _, batch in batches.since(trainer.step):
        losses.append(trainer.advance(batch))
        passed = time.monotonic() - begin
        enough = trainer.step - first >= 20 or passed >= length
        if trainer.rate.finish is None and enough and passed >= (1 - arguments.tail) * length:
            # From here on the rate is a function of the step, so that a resumed run has the same.
            pace = passed / (trainer.step - first)
            steps = max(1, round((length - passed) / pace))
            trainer.rate = replace(trainer.rate, finish=trainer.step + steps, tail=steps)
        done = trainer.rate.finish is not None and trainer.step >= trainer.rate.finish
        if not done and trainer.step % arguments.every:
            if trainer.step % SAVE_EVERY == 0:
                trainer.seconds, mark = trainer.seconds + time.monotonic() - mark, time.monotonic()
                save(trainer.state(), arguments.state)
                print(f"step={trainer.step} loss={np.mean(losses):.5f}", flush=True)
            continue
        trainer.seconds, mark = trainer.seconds + time.monotonic() - mark, time.monotonic()
        save(trainer.state(), arguments.state)
        with torch.no_grad(), torch.autocast(torch.device(arguments.device).type, torch.bfloat16):
            figures = validate(trainer.average, validation, arguments.device)
        row: dict[str, object] = {
            "step": trainer.step,
            "crops": trainer.step * arguments.batch,
            "hours": round(trainer.seconds / 3600, 3),
            "device": arguments.device,
            "rate": round(trainer.rate.at(trainer.step), 8),
            "loss": round(float(np.mean(losses)), 6),
            **{name: round(value, 3) for name, value in figures.items()},
        }
        note(row, arguments.log)
        export(trainer.average.state_dict(), arguments.out, row)
        losses.clear()
        mark = time.monotonic()
        if done:
            return
