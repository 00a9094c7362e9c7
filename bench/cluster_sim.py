"""Many workers, simulated with the times that pictures really took: who waits, and for how long.

    python -m bench.cluster_sim [JOURNAL ...] [--pictures 10000] [--figure docs/scale.svg]

Without journals the times are those of `bench/picture_seconds.json`, measured by a run on this
project's machine. Prints a table of utilisation and tail for 1 to 512 workers: pictures pulled by
whoever is free, two at most at each worker, as `tileup.engine.crew` shares them out, against shares
that are fixed before (`--shard`). Workers are unequal, slow down now and then, and fail.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tileup.engine.journal import read_record

MEASURED = Path(__file__).with_name("picture_seconds.json")
COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


@dataclass(frozen=True, slots=True)
class World:
    """What workers are like."""

    speeds: tuple[float, ...] = (1.0, 1.0, 0.55)
    """Of kinds of cards, each as frequent as the others."""
    straggling: float = 0.02
    """Share of pictures that take `slowness` times as long: another process, a hot card."""
    slowness: float = 4.0
    failing: float = 0.0005
    """Chance that a worker is lost within a picture."""
    loading: float = 1.0
    """Times of a mean picture that loading a model takes, at first and after a loss."""


IDEAL = World(speeds=(1.0,), straggling=0.0, failing=0.0, loading=0.0)


@dataclass(frozen=True, slots=True)
class Ran:
    """How a simulated run went."""

    makespan: float
    """Seconds from its start to its last picture."""
    busy: float
    """Worker-seconds of drawing what was kept."""
    workers: int
    half: float
    """Seconds from when the first worker has nothing left to the end: the tail."""
    lost: int
    """Workers that were lost."""

    @property
    def utilisation(self) -> float:
        """Share of all worker-seconds that made pictures."""
        return self.busy / (self.makespan * self.workers)


@dataclass(frozen=True, slots=True)
class Draw:
    """One picture at one worker."""

    seconds: float
    fails: bool


class Workers:
    """Draws pictures' fates: the same for both ways of sharing them out."""

    def __init__(self, count: int, world: World, seed: int) -> None:
        rng = random.Random(seed)
        self.speeds = [rng.choice(world.speeds) for _ in range(count)]
        self.world = world
        self.seed = seed

    def draw(self, worker: int, picture: int, seconds: float, attempt: int) -> Draw:
        rng = random.Random(f"{self.seed} {picture} {attempt}")
        slow = self.world.slowness if rng.random() < self.world.straggling else 1.0
        fails = attempt == 0 and rng.random() < self.world.failing
        taken = seconds * slow / self.speeds[worker]
        return Draw(taken * rng.random() if fails else taken, fails)


def pulled(tasks: Sequence[float], count: int, world: World, seed: int = 0, ahead: int = 2) -> Ran:
    """Pictures go to whoever can take one; the last ones, one for each worker, to the idle alone.

    Args:
        tasks: seconds of each picture, on a card of speed 1.
        count: workers.
        world: what they are like.
        seed: of everything that comes by chance.
        ahead: pictures that a worker has at once, the one that is drawn among them.
    """
    workers, loading = Workers(count, world, seed), world.loading * mean_of(tasks)
    waiting = deque((number, 0) for number in range(len(tasks)))
    held: list[deque[tuple[int, int]]] = [deque() for _ in range(count)]
    events = [(loading / workers.speeds[worker], worker, -1, 0, False) for worker in range(count)]
    heapq.heapify(events)
    busy, lost, idle = 0.0, 0, dict[int, float]()
    end = 0.0
    while events:
        now, worker, picture, attempt, fails = heapq.heappop(events)
        if picture >= 0:
            end = now
            if fails:  # the one that was drawn and the one beside it are tried again
                lost += 1
                waiting.extendleft([(picture, attempt + 1), *held[worker]])
                held[worker].clear()
                again = now + loading / workers.speeds[worker]
                heapq.heappush(events, (again, worker, -1, 0, False))
                continue
            busy += workers.draw(worker, picture, tasks[picture], attempt).seconds
        while waiting and (not held[worker] or len(waiting) > count) and len(held[worker]) < ahead:
            held[worker].append(waiting.popleft())
        if held[worker]:
            number, tried = held[worker].popleft()
            drawn = workers.draw(worker, number, tasks[number], tried)
            heapq.heappush(events, (now + drawn.seconds, worker, number, tried, drawn.fails))
            _wake(events, idle, waiting, now)
        else:
            idle[worker] = now
    return Ran(end, busy, count, end - min(idle.values(), default=end), lost)


def _wake(
    events: list[tuple[float, int, int, int, bool]],
    idle: dict[int, float],
    waiting: deque[tuple[int, int]],
    now: float,
) -> None:
    """Idle workers look again where something has come back."""
    for worker in [*idle][: len(waiting)]:
        del idle[worker]
        heapq.heappush(events, (now, worker, -1, 0, False))


def fixed(tasks: Sequence[float], count: int, world: World, seed: int = 0) -> Ran:
    """Shares by a hash, one for each worker, which is started anew where it fails."""
    workers, loading = Workers(count, world, seed), world.loading * mean_of(tasks)
    rng = random.Random(seed)
    ends = [loading / speed for speed in workers.speeds]
    busy, lost = 0.0, 0
    for number, seconds in enumerate(tasks):
        worker, attempt = rng.randrange(count), 0
        while (drawn := workers.draw(worker, number, seconds, attempt)).fails:
            ends[worker] += drawn.seconds + loading / workers.speeds[worker]
            attempt, lost = attempt + 1, lost + 1
        ends[worker] += drawn.seconds
        busy += drawn.seconds
    return Ran(max(ends), busy, count, max(ends) - min(ends), lost)


def times_of(journals: Sequence[Path]) -> list[float]:
    """Seconds of every picture that journals have as done."""
    lines = [line for path in journals for line in path.read_bytes().splitlines()]
    records = [record for line in lines if (record := read_record(line)) is not None]
    return [record.seconds for record in records if record.outcome == "done"]


def mean_of(tasks: Sequence[float]) -> float:
    """Exactly rounded: from Python 3.12 on `sum` rounds otherwise, and who gets a picture where two
    are free at one time hangs on the last bit."""
    return math.fsum(tasks) / len(tasks)


def drawn_from(measured: Sequence[float], count: int, seed: int = 0) -> list[float]:
    """As many times as are wanted, of those measured."""
    return random.Random(seed).choices(measured, k=count)


def compared(tasks: Sequence[float], world: World) -> list[tuple[int, Ran, Ran]]:
    """Both ways, for each number of workers."""
    return [(count, pulled(tasks, count, world), fixed(tasks, count, world)) for count in COUNTS]


def table(rows: Sequence[tuple[int, Ran, Ran]], mean: float) -> str:
    """As docs/scale.md shows it; tails in times of a mean picture."""
    lines = [
        "| workers | pulled: utilisation | tail | fixed shares: utilisation | tail |",
        "| ---: | ---: | ---: | ---: | ---: |",
    ]
    for count, pull, shares in rows:
        lines.append(
            f"| {count} | {pull.utilisation:.1%} | {pull.half / mean:.1f} "
            f"| {shares.utilisation:.1%} | {shares.half / mean:.1f} |"
        )
    return "\n".join(lines)


def figure(rows: Sequence[tuple[int, Ran, Ran]], path: Path) -> None:
    """Utilisation by workers, as SVG: two lines."""
    width, height, left, top = 640, 320, 60, 30
    inner_w, inner_h = width - left - 150, height - top - 50

    def place(count: int, share: float) -> tuple[float, float]:
        x = left + inner_w * math.log2(count) / math.log2(COUNTS[-1])
        return x, top + inner_h * (1 - share)

    def line(values: Sequence[tuple[int, float]], colour: str, name: str) -> str:
        points = [place(*each) for each in values]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        x, y = points[-1]
        return (
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
            f'<text x="{x + 8:.1f}" y="{y + 4:.1f}" fill="{colour}">{name}</text>'
        )

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for share in (0, 0.25, 0.5, 0.75, 1):
        _, y = place(1, share)
        parts.append(
            f'<line x1="{left}" x2="{left + inner_w}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>'
            f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{share:.0%}</text>'
        )
    for count in COUNTS:
        x, y = place(count, 0)
        parts.append(f'<text x="{x:.1f}" y="{y + 18:.1f}" text-anchor="middle">{count}</text>')
    parts.append(
        f'<text x="{left + inner_w / 2}" y="{height - 8}" text-anchor="middle">workers</text>'
        f'<text x="{left}" y="18">utilisation</text>'
    )
    pulls = [(count, pull.utilisation) for count, pull, _ in rows]
    shares = [(count, each.utilisation) for count, _, each in rows]
    parts += [line(pulls, "#1b6ca8", "pulled"), line(shares, "#c0542d", "fixed shares"), "</svg>"]
    path.write_text("\n".join(parts) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("journals", nargs="*", type=Path)
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--figure", type=Path)
    asked = parser.parse_args()
    measured = times_of(asked.journals) if asked.journals else json.loads(MEASURED.read_text())
    tasks = drawn_from(measured, asked.pictures)
    mean = mean_of(tasks)
    rows = compared(tasks, World())
    print(f"{len(measured)} measured times of {min(measured):.2f} to {max(measured):.2f} s")
    print(table(rows, mean))
    if asked.figure:
        figure(rows, asked.figure)


if __name__ == "__main__":
    main()
