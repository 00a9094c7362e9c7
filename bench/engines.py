"""Two workers against one, and Ray's against the local engine's: `python -m bench.engines`.

    python -m bench.engines --data data

Twenty-four small pictures with two workers, by the local engine and by Ray in turns, from the first
picture done to the last, so that starting counts for neither. Then one picture by one process and
by two that share it, each with one thread, and by one with two threads, over the second half of its
windows: two are at work by then. Several rounds, medians, and the bytes are compared. It writes
into docs/scale.md.

On a machine with other work to do, each process gets its share of the cores, and two get twice that
of one: ratios hold better than seconds.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from PIL import Image

from bench.tables import ROOT, pictures, table, write
from tileup.contracts import Step
from tileup.engine import spread
from tileup.engine.engine import Team, engine_named
from tileup.engine.jobs import find_jobs
from tileup.engine.models import loaded
from tileup.engine.outcomes import Event, Finished
from tileup.engine.request import Request
from tileup.model_settings import resolve_with_model
from tileup.settings.values import Settings

DOCUMENT = "docs/scale.md"
COUNT = 24
SIDE = 192
"""Of the small pictures, pixels."""
LARGE = (800, 600)
"""Of the picture that is shared."""


def crops(data: Path, folder: Path) -> None:
    """Small pictures, cut from photographs."""
    folder.mkdir()
    found = pictures(data, "large", "*.jpg")
    for number in range(COUNT):
        image = Image.open(found[number % len(found)]).convert("RGB")
        left, top = SIDE * (number // len(found)), SIDE
        image.crop((left, top, left + SIDE, top + SIDE)).save(folder / f"{number:02}.png")


def times(
    source: Path, output: Path, engine: str, workers: int, settings: Settings, kind: type
) -> list[float]:
    """When each picture was done, or each batch of windows, in seconds."""
    found: list[float] = []

    def hear(event: Event) -> None:
        if isinstance(event, kind):
            found.append(time.monotonic())

    jobs = find_jobs(Request((str(source),), output=str(output)), settings)
    draw = engine_named(engine)
    outcomes = list(draw(jobs, settings, partial(loaded, None), hear, team=Team(workers)))
    wrong = [each.error for each in outcomes if each.error is not None]
    if wrong:
        raise SystemExit(f"bench: {wrong[0]}")
    return found


def contents(folder: Path) -> dict[str, bytes]:
    """Of the pictures, by name."""
    return {path.name: path.read_bytes() for path in folder.glob("[!.]*")}


def many(data: Path, place: Path, rounds: int, settings: Settings) -> dict[str, list[float]]:
    """Seconds from the first picture done to the last, of each round."""
    crops(data, place / "in")
    found: dict[str, list[float]] = {"local": [], "ray": []}
    made: list[dict[str, bytes]] = []
    for number in range(rounds):
        for engine, seconds in found.items():
            output = place / f"{engine}-{number}"
            done = times(place / "in", output, engine, 2, settings, Finished)
            seconds.append(done[-1] - done[0])
            made.append(contents(output))
    if len(made[0]) != COUNT or any(each != made[0] for each in made):
        raise SystemExit("bench: the engines made other pictures")
    return found


def one(data: Path, place: Path, rounds: int, settings: Settings) -> dict[str, list[float]]:
    """Seconds of the second half of a picture's windows, by one process and by two."""
    spread.STARTING = 0
    image = Image.open(pictures(data, "large", "*.jpg")[0]).convert("RGB")
    image.crop((0, 0, *LARGE)).save(place / "large.png")
    ways = {"one": (1, 1), "two": (2, 1), "threads": (1, 2)}
    found: dict[str, list[float]] = {way: [] for way in ways}
    made: list[dict[str, bytes]] = []
    for number in range(rounds):
        for (way, seconds), (workers, threads) in zip(found.items(), ways.values(), strict=True):
            output, chosen = place / f"{way}-{number}", replace(settings, threads=threads)
            told = times(place / "large.png", output, "local", workers, chosen, Step)
            half = told[len(told) // 2 :]
            seconds.append(half[-1] - half[0])
            made.append(contents(output))
    if any(each != made[0] for number, each in enumerate(made) if number % len(ways) < 2):
        raise SystemExit("bench: one and two processes made other pictures")
    return found


def row(name: str, seconds: Sequence[float], ratio: str) -> list[str]:
    each = ", ".join(f"{each:.1f}" for each in sorted(seconds))
    return [name, f"{statistics.median(seconds):.1f}", each, ratio]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT / "data")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--part", choices=("many", "one"), help="only one of the two")
    arguments = parser.parse_args()
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    logging.basicConfig(level=logging.WARNING)
    smoke = resolve_with_model(preset="smoke", flags={"threads": 1, "metadata": False}).settings
    plain = Settings(threads=1, metadata=False, device="cpu")
    rows: list[list[str]] = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        if arguments.part != "one":
            found = many(arguments.data, place, arguments.rounds, smoke)
            local, ray = (statistics.median(each) for each in found.values())
            rows.append(row("24 pictures, local, 2 workers", found["local"], "1"))
            rows.append(row("24 pictures, Ray, 2 workers", found["ray"], f"{local / ray:.2f}"))
        if arguments.part != "many":
            found = one(arguments.data, place, arguments.rounds, plain)
            alone, both, threads = (statistics.median(each) for each in found.values())
            beside = f"{alone / threads:.2f}"
            rows.append(row("1 picture, 1 process", found["one"], "1"))
            rows.append(row("1 picture, 2 processes", found["two"], f"{alone / both:.2f}"))
            rows.append(row("1 picture, 1 process of 2 threads", found["threads"], beside))
    heads = ["what", "seconds, median", "each", "speed beside the first"]
    made = table(heads, rows)
    print(made)
    if arguments.part is None:
        write(DOCUMENT, "engines", made)


if __name__ == "__main__":
    main()
