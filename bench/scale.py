"""How time and memory grow with the picture, before and after: `make bench-scale DATA=data`.

One photograph after the other side by side, at scale 2 and `--preset smoke`, in float32 on one
thread, each size in a process of its own, by this tileup and by that of an earlier commit. CPU
seconds, so that other programs on the machine hardly count. Three minutes on a quiet core.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from bench.tables import ROOT, pictures, table, write

DOCUMENT = "bench/scale.md"
BEFORE = "17526ad"
"""The last commit that held every canvas as a whole."""
SMALLEST = 0.25
"""Output megapixels of a run whose time and memory are what every run begins with."""
SIDE = 1000
"""Of a photograph in the picture, pixels."""
Figures = Mapping[str, float]
"""CPU seconds of each part, and bytes of memory."""


def picture(data: Path, megapixels: float) -> Image.Image:
    """Photographs side by side, of a quarter of the megapixels."""
    side = round(math.sqrt(megapixels * 1e6) / 2)
    result = Image.new("RGB", (side, side))
    photographs = [
        Image.open(path).convert("RGB").resize((SIDE, SIDE))
        for path in pictures(data, "large", "*.jpg")
    ]
    places = [(left, top) for top in range(0, side, SIDE) for left in range(0, side, SIDE)]
    for number, place in enumerate(places):
        result.paste(photographs[number % len(photographs)], place)
    return result


def checked_out(commit: str, folder: Path) -> Path:
    """The files of a commit.

    Raises:
        SystemExit: there is no such commit here.
    """
    done = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(f"bench: commit {commit} is not in this clone; leave it out with --alone")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def figures(tree: Path, given: Path, folder: Path) -> Figures:
    """One run of the tileup in a folder."""
    result = folder / "figures.json"
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    environment = {**os.environ, **dict.fromkeys(names, "1"), "PYTHONPATH": str(tree)}
    arguments = ["upscale", str(given), "-o", str(folder / "out.png"), "--overwrite"]
    arguments += ["--preset", "smoke", "--dtype", "float32", "--no-progress"]
    script = str(ROOT / "bench" / "clocked.py")
    subprocess.run(
        [sys.executable, "-P", script, str(result), *arguments],
        env=environment,
        cwd=folder,
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return json.loads(result.read_text(encoding="utf-8"))


def measured(tree: Path, sizes: Sequence[float], data: Path, folder: Path) -> dict[float, Figures]:
    found: dict[float, Figures] = {}
    for size in (SMALLEST, *sizes):
        given = folder / f"{size}.png"
        if not given.exists():
            picture(data, size).save(given, compress_level=1)
        found[size] = figures(tree, given, folder)
        print(f"{tree.name} {size} MP: {dict(found[size])}", flush=True)
    return found


def exponent(first: float, last: float, sizes: tuple[float, float]) -> str:
    """p in `value ~ size^p` between two sizes."""
    return f"{math.log(last / first) / math.log(sizes[1] / sizes[0]):.2f}"


def outside(of: Figures) -> float:
    return of["all"] - of["network"]


def rows(name: str, found: Mapping[float, Figures]) -> list[list[object]]:
    """Of each size: per output megapixel, less what the smallest run takes."""
    small, result = found[SMALLEST], []
    for size, each in found.items():
        if size == SMALLEST:
            continue
        more = size - SMALLEST
        around = 1 - each["network"] / each["sampling"]
        network = (each["network"] - small["network"]) / more
        rest = (outside(each) - outside(small)) / more
        encoding = each["encoding"] / size
        memory = (each["memory"] - small["memory"]) / more / 1e6
        gigabytes = f"{each['memory'] / 1e9:.2f}"
        row = [name, f"{size:g}", f"{network:.2f}", f"{around:.0%}", f"{rest:.2f}"]
        result.append([*row, f"{encoding:.2f}", gigabytes, f"{memory:.0f}"])
    return result


def growth(name: str, found: Mapping[float, Figures]) -> list[object]:
    """Exponents between the first and the last size, without what the smallest run takes."""
    small, sizes = found[SMALLEST], (sorted(found)[1], max(found))
    first, last = (found[size] for size in sizes)

    def grown(part: str) -> str:
        return exponent(first[part] - small[part], last[part] - small[part], sizes)

    rest = [outside(each) - outside(small) for each in (first, last)]
    spent = exponent(rest[0], rest[1], sizes)
    return [name, f"{sizes[0]:g} to {sizes[1]:g} MP", grown("all"), spent, grown("memory")]


def cpu() -> str:
    """The CPU as the system names it."""
    from tileup.devices import processor

    return processor()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--sizes", type=float, nargs="+", default=[4, 16, 64], metavar="MP")
    parser.add_argument("--before-sizes", type=float, nargs="+", default=[4, 16], metavar="MP")
    parser.add_argument("--before", default=BEFORE, metavar="COMMIT")
    parser.add_argument("--alone", action="store_true", help="only this tileup")
    parser.add_argument("--dry", action="store_true", help="print, do not write the document")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, found = Path(name), dict[str, dict[float, Figures]]()
        data: Path = arguments.data.resolve()
        if not arguments.alone:
            tree = checked_out(arguments.before, folder / "before")
            found["before"] = measured(tree, arguments.before_sizes, data, folder)
        found["now"] = measured(ROOT, arguments.sizes, data, folder)
    head = ["tileup", "output, MP", "network, CPU-s per MP", "of sampling outside it"]
    head += ["all outside it, CPU-s per MP", "of it encoding", "memory, GB", "bytes per pixel"]
    text = table(head, [row for name, each in found.items() for row in rows(name, each)])
    head = ["tileup", "between", "time", "time outside the network", "memory"]
    grown = table(head, [growth(name, each) for name, each in found.items()])
    text = f"{cpu()}; one thread.\n\n{text}\n\nExponents of growth:\n\n{grown}"
    print(text)
    if not arguments.dry:
        write(DOCUMENT, "scale", text)


if __name__ == "__main__":
    main()
