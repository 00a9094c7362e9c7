"""What reading and writing beside drawing saves: the same folder with and without it.

    python -m bench.overlap [PICTURES] [SIDE]

Prints seconds of both, and what share of the time reading and writing took alone.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from tileup.checkpoints.load import load_model
from tileup.engine.jobs import find_jobs
from tileup.engine.local import run
from tileup.engine.request import Request
from tileup.settings.values import Settings


def main(count: int, side: int) -> None:
    model = load_model()
    settings = Settings(steps=2, tile=256, min_tile=64, overlap=32)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        rng = np.random.default_rng(0)
        for number in range(count):
            small = rng.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8)
            image = Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC)
            image.save(folder / "in" / f"{number}.png")
        seconds: dict[bool, float] = {}
        for overlap in (False, True, False, True):
            out = str(folder / f"out{time.monotonic_ns()}")
            jobs = find_jobs(Request((str(folder / "in"),), output=out), settings)
            begun = time.perf_counter()
            assert all(
                each.outcome == "done"
                for each in run(jobs, settings, lambda _: model, overlap=overlap)
            )
            took = time.perf_counter() - begun
            seconds[overlap] = min(seconds.get(overlap, took), took)
    gain = 1 - seconds[True] / seconds[False]
    print(
        f"{count} pictures of {side}x{side} on {model.device}: one after the other "
        f"{seconds[False]:.1f} s, overlapped {seconds[True]:.1f} s, {gain:.0%} less"
    )


if __name__ == "__main__":
    main(*(int(each) for each in (sys.argv[1:] or ["6", "256"])))
