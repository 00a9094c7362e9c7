"""Seconds per output megapixel, beside other enlargers: `make bench-speed DATA=data`.

One held-out picture at scale 2, every method in turn, several rounds, the median of each; what is
loaded once is not timed. realesrgan-x4plus enlarges a middle of the picture, once. Leave the
machine alone while it runs: a minute or two on two cores.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch
from PIL import Image

import tileup
from bench.compare import truths
from bench.methods import QUADTREE, Method, methods
from bench.peers import x4plus
from bench.quality import DOCUMENT
from bench.tables import table, write
from tileup.checkpoints.load import load_model
from tileup.settings.values import Settings

NUMBER = 3  # of the held-out pictures: kodim05, 768x512
SMALL = 96  # side of what x4plus enlarges, pixels


def seconds(method: Method, small: Image.Image) -> float:
    """For each output megapixel."""
    size = (small.width * 2, small.height * 2)
    start = time.perf_counter()
    method(small, size)
    return (time.perf_counter() - start) / (size[0] * size[1] / 1e6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dry", action="store_true", help="print, do not write the document")
    arguments = parser.parse_args()
    truth = truths(arguments.data, 2)[NUMBER]
    small = truth.resize((truth.width // 2, truth.height // 2), Image.Resampling.BICUBIC)
    threads = torch.get_num_threads()
    named = dict(methods(tileup.load_model(device="cpu"), 2, peers=True))
    exact = methods(load_model(None, Settings(device="cpu", dtype="float32")), 2, peers=False)
    named[f"{QUADTREE}, float32"] = exact[QUADTREE]
    for method in named.values():
        method(small.crop((0, 0, 96, 96)), (192, 192))
    times: dict[str, list[float]] = {name: [] for name in named}
    for _ in range(arguments.rounds):
        for name, method in named.items():
            times[name].append(seconds(method, small))
            print(name, f"{times[name][-1]:.2f}", flush=True)
    large = x4plus(threads)
    left, top = (small.width - SMALL) // 2, (small.height - SMALL) // 2
    times[large.name] = [seconds(large, small.crop((left, top, left + SMALL, top + SMALL)))]
    rows = [
        [name, f"{statistics.median(found):.2f}", f"{min(found):.2f} to {max(found):.2f}"]
        for name, found in times.items()
    ]
    text = table([f"scale 2, {threads} threads", "s per output megapixel", "range"], rows)
    print(text)
    if not arguments.dry:
        write(DOCUMENT, "speed", text)


if __name__ == "__main__":
    main()
