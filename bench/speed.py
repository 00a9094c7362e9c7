"""Time per output megapixel, beside other enlargers: `make bench-speed DATA=data`.

One held-out picture at scale 2, every method in turn, several rounds on one thread and on two: the
medians of seconds and of CPU seconds, and the CPU seconds against realesr-animevideov3's, which
were taken in the same rounds and so hold on a busy machine too. What is loaded once is not timed.
realesrgan-x4plus enlarges a middle of the picture, once. Three minutes on two quiet cores. The
table goes into docs/quality.md, and what it comes to there and into README.md.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

import tileup
from bench.compare import truths
from bench.methods import QUADTREE, Method, methods
from bench.peers import x4plus
from bench.quality import DOCUMENT
from bench.tables import commit, table, write
from tileup.checkpoints.load import load_model
from tileup.contracts import Model
from tileup.devices import processor
from tileup.families.runtimes import INT8
from tileup.settings.values import Settings

NUMBER = 3  # of the held-out pictures: kodim05, 768x512
SMALL = 96  # side of what x4plus enlarges, pixels
PEER = "realesr-animevideov3-x2"
LARGE = "realesrgan-x4plus"


@dataclass(frozen=True, slots=True)
class Spent:
    """For each output megapixel."""

    seconds: float
    cpu: float
    """CPU seconds of all threads."""


def spent(method: Method, small: Image.Image) -> Spent:
    size = (small.width * 2, small.height * 2)
    megapixels = size[0] * size[1] / 1e6
    start, used = time.perf_counter(), time.process_time()
    method(small, size)
    return Spent(
        (time.perf_counter() - start) / megapixels, (time.process_time() - used) / megapixels
    )


WAYS = (("auto", "int8"), ("float32", "ncnn"), ("float32", "torch"), ("bfloat16", "torch"))
"""Precisions, and what computes in them."""


def way_of(model: Model) -> str:
    """How a model's network is computed, in words."""
    if model.runtime == INT8:
        return "int8 by torch"
    return f"{str(model.dtype).removeprefix('torch.')} by {model.runtime}"


def named_methods() -> dict[str, Method]:
    """All that is timed, as `auto` has it computed, and the default in every way."""
    named = dict(methods(tileup.load_model(device="cpu"), 2, peers=True))
    del named[QUADTREE]
    for precision, runtime in WAYS:
        model = load_model(None, Settings(device="cpu", dtype=precision, runtime=runtime))
        named[f"{QUADTREE}, {way_of(model)}"] = methods(model, 2, peers=False)[QUADTREE]
    return named


def rounds(threads: int, small: Image.Image, count: int) -> dict[str, list[Spent]]:
    """What each method spends in each round, on so many threads."""
    torch.set_num_threads(threads)
    named = named_methods()
    for method in named.values():
        method(small.crop((0, 0, 96, 96)), (192, 192))
    found: dict[str, list[Spent]] = {name: [] for name in named}
    for _ in range(count):
        for name, method in named.items():
            found[name].append(spent(method, small))
            print(f"{threads} threads, {name}: {found[name][-1]}", flush=True)
    large = x4plus(threads)
    left, top = (small.width - SMALL) // 2, (small.height - SMALL) // 2
    found[large.name] = [spent(large, small.crop((left, top, left + SMALL, top + SMALL)))]
    return found


def columns(found: dict[str, list[Spent]]) -> dict[str, list[str]]:
    """Seconds, CPU seconds and ratio of each method."""
    peer = found[PEER]

    def of(each: list[Spent]) -> list[str]:
        seconds = statistics.median(one.seconds for one in each)
        cpu = statistics.median(one.cpu for one in each)
        pairs = zip(each, peer[: len(each)], strict=True)
        ratio = statistics.median(one.cpu / other.cpu for one, other in pairs)
        return [f"{seconds:.2f}", f"{cpu:.2f}", f"{ratio:.2f}"]

    return {name: of(each) for name, each in found.items()}


def ratios(rows: Mapping[str, Sequence[str]], chosen: str) -> str:
    """What the default takes of the others' CPU seconds, on as many threads as come first."""
    mine, large = (float(rows[name][2]) for name in (f"{QUADTREE}, {chosen}", LARGE))
    return (
        f"The default, in {chosen}, takes {mine:.2f} of the CPU time of {PEER} and "
        f"1/{large / mine:.0f} of that of {LARGE}."
    )


def in_short(rows: Mapping[str, Sequence[str]], chosen: str, threads: int) -> str:
    """Seconds on as many threads as come last, for who reads no table."""
    mine, peer, large = (float(rows[name][-3]) for name in (f"{QUADTREE}, {chosen}", PEER, LARGE))
    return (
        f"On {threads} threads of a quiet {processor()}, where {chosen} is the fastest, "
        f"the quadtree takes {mine:.1f} s for an output megapixel, {PEER} {peer:.1f} s and {LARGE} "
        f"{large:.0f} s (`make bench-speed DATA=…`)."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--dry", action="store_true", help="print, do not write the document")
    arguments = parser.parse_args()
    truth = truths(arguments.data, 2)[NUMBER]
    small = truth.resize((truth.width // 2, truth.height // 2), Image.Resampling.BICUBIC)
    head, rows = ["scale 2, for each output megapixel"], dict[str, list[str]]()
    for threads in arguments.threads:
        ending = f"{threads} thread{'s' if threads > 1 else ''}"
        head += [f"s, {ending}", f"CPU-s, {ending}", f"CPU-s / {PEER}'s, {ending}"]
        for name, figures in columns(rounds(threads, small, arguments.rounds)).items():
            rows[name] = [*rows.get(name, []), *figures]
    chosen = way_of(load_model(None, Settings(device="cpu")))
    text = table(head, [[name, *each] for name, each in rows.items()])
    measured = f"On {processor()}, where `auto` takes {chosen}, at commit {commit()}"
    text = f"{measured}:\n\n{text}\n\n{ratios(rows, chosen)}"
    short = in_short(rows, chosen, arguments.threads[-1])
    print(f"{text}\n\n{short}")
    if not arguments.dry:
        write(DOCUMENT, "speed", text)
        write("README.md", "speed", short)


if __name__ == "__main__":
    main()
