"""How time and memory grow with the picture, before and after: `make bench-scale DATA=data`.

One photograph after the other side by side, at scale 2 and `--preset smoke` on one thread, each
size in a process of its own, by this tileup, computed as `auto` has it, and by that of an earlier
commit in float32. CPU seconds, so that other programs on the machine hardly count. Ten minutes on a
quiet core.

`--wide` measures what a picture of any height takes, by its width: a strip of it is drawn, and the
whole of it planned, from photographs that are put beside one another as rows are asked for.

`--files` plans files of a gigapixel, by the command line: two CPU minutes to make them, 5 GB of
disk.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bench.tables import ROOT, pictures, table, write
from tileup.images.pixels import spans

DOCUMENT = "bench/scale.md"
BEFORE = "17526ad"
"""The last commit that held every canvas as a whole."""
SMALLEST = 0.25
"""Output megapixels of a run whose time and memory are what every run begins with."""
SIDE = 1000
"""Of a photograph in the picture, pixels."""
WIDE = (20_000, 36_000)
"""Widths of squares of 400 megapixels and of 1.3 gigapixels."""
ROWS = 1000
"""Of a strip, output pixels: more than are at work at once."""
GIGAPIXEL = 31_623
"""Side of a square of so many pixels."""
TILE = 512
"""Side of a TIFF's tile."""
Figures = Mapping[str, float]
"""CPU seconds of each part, and bytes of memory."""


def picture(data: Path, megapixels: float) -> Image.Image:
    """Photographs side by side, of a quarter of the megapixels."""
    side = round(math.sqrt(megapixels * 1e6) / 2)
    return Photographs(data, side).top(side)


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
    arguments += ["--preset", "smoke", "--no-progress"]
    # The earlier one would take bfloat16 for the CPU's flag, which can be slower.
    arguments += [] if tree == ROOT else ["--dtype", "float32"]
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
    for size in (SMALLEST, SMALLEST, *sizes):  # the first run times what is noted for all others
        given = folder / f"{size}.png"
        if not given.exists():
            picture(data, size).save(given, compress_level=1)
        found[size] = figures(tree, given, folder)
        print(f"{tree.name} {size} MP: {dict(found[size])}", flush=True)
    return found


class Photographs:
    """Photographs side by side, as `tileup.images.pixels.Pixels`: what a picture takes by itself
    does not count."""

    def __init__(self, data: Path, side: int) -> None:
        files = pictures(data, "large", "*.jpg")
        images = [Image.open(path).convert("RGB").resize((SIDE, SIDE)) for path in files]
        self.photographs = [np.asarray(image) for image in images]
        self.shape = side, side, 3
        self.dtype = np.dtype(np.float32)

    def __getitem__(self, rows: slice) -> NDArray[np.float32]:
        made = [self.row(row) for row in range(*rows.indices(self.shape[0]))]
        return np.stack(made).astype(np.float32) / np.float32(255)

    def row(self, row: int) -> NDArray[np.uint8]:
        """One of the rows, of 255."""
        across = -(-self.shape[1] // SIDE)
        chosen = [
            self.photographs[(row // SIDE * across + number) % len(self.photographs)]
            for number in range(across)
        ]
        return np.concatenate([each[row % SIDE] for each in chosen])[: self.shape[1]]

    def top(self, rows: int) -> Image.Image:
        """So many of the rows."""
        return Image.fromarray(np.stack([self.row(row) for row in range(rows)]))


def plan_alone(data: Path, side: int) -> None:
    """Plan a square of a side, output pixels, and print what that took."""
    import tileup
    from tileup.images.picture import Picture

    given = Picture(Photographs(data, side // 2))
    start = time.process_time()
    tiles = len(tileup.make_plan(given, preset="smoke").tiles)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    told = {"tiles": tiles, "all": time.process_time() - start, "memory": used}
    print(json.dumps(told))


def draw_square(data: Path, side: int) -> None:
    """Draw a square of a side, output pixels, and print what that took."""
    with tempfile.TemporaryDirectory() as name:
        given = Path(name) / f"{side}.png"
        Photographs(data, side // 2).top(side // 2).save(given, compress_level=1)
        print(json.dumps(figures(ROOT, given, Path(name))))


def wide(data: Path, folder: Path) -> str:
    """What pictures of some widths take, as a table."""
    result: list[list[object]] = []
    for width in WIDE:
        given = folder / f"{width}.png"
        Photographs(data, width // 2).top(ROWS // 2).save(given, compress_level=1)
        drawn = figures(ROOT, given, folder)
        command = [sys.executable, "-m", "bench.scale", "--data", str(data), "--plan", str(width)]
        done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
        plan: Figures = json.loads(done.stdout)
        print(f"{width}: {dict(drawn)}, {dict(plan)}", flush=True)
        row = [f"{width:,}", f"{drawn['memory'] / 1e9:.2f}", f"{plan['tiles']:,.0f}"]
        result.append([*row, f"{plan['all']:.0f}", f"{plan['memory'] / 1e9:.2f}"])
    head = ["width, px", f"a strip of {ROWS:,} rows drawn, GB", "tiles of the square"]
    return table([*head, "the square planned, CPU-s", "GB"], result)


class Numbers:
    """The same as they stand in a file; satisfies `tileup.images.pixels.NumberRows`."""

    def __init__(self, photographs: Photographs) -> None:
        self._row, self.shape = photographs.row, photographs.shape
        self.dtype = np.dtype(np.uint8)

    def __getitem__(self, rows: slice) -> NDArray[np.uint8]:
        return np.stack([self._row(row) for row in range(*rows.indices(self.shape[0]))])


def plain_tiff(numbers: Numbers, path: Path) -> None:
    """A file with nothing packed."""
    import tifffile

    shape, rgb = numbers.shape, "rgb"
    start = tifffile.memmap(path, shape=shape, dtype=np.uint8, photometric=rgb).offset
    with path.open("r+b") as stream:  # what is written to a map stays in memory
        stream.seek(start)
        for part in spans(shape[0], TILE):
            stream.write(numbers[part].data)


def tiled_tiff(numbers: Numbers, path: Path) -> None:
    """A file of tiles, as most programs that make large ones pack them."""
    import tifffile

    def tiles() -> Iterator[NDArray[np.uint8]]:
        for down in spans(numbers.shape[0], TILE):
            band = numbers[down]
            for across in spans(numbers.shape[1], TILE):
                tile = np.zeros((TILE, TILE, 3), np.uint8)
                part = band[:, across]
                tile[: part.shape[0], : part.shape[1]] = part
                yield tile

    tifffile.imwrite(
        path,
        tiles(),
        shape=numbers.shape,
        dtype=np.uint8,
        photometric="rgb",
        tile=(TILE, TILE),
        compression="zlib",
        predictor=True,
        maxworkers=1,
    )


def png(numbers: Numbers, path: Path) -> None:
    """A file as tileup writes them."""
    from tileup.images.picture import Picture
    from tileup.images.pixels import IntegerPixels
    from tileup.images.writing import save_picture

    save_picture(Picture(IntegerPixels(numbers)), path, "png")


FILES: Mapping[str, tuple[str, Callable[[Numbers, Path], None]]] = {
    "TIFF, not compressed": ("plain.tif", plain_tiff),
    "TIFF, deflated in tiles": ("tiled.tif", tiled_tiff),
    "PNG": ("one.png", png),
}


def files(data: Path, folder: Path, side: int) -> str:
    """What `tileup plan` takes for files of a square, as a table."""
    numbers, result = Numbers(Photographs(data, side)), list[list[object]]()
    for name, (file, make) in FILES.items():
        path = folder / file
        make(numbers, path)
        clock, command = time.perf_counter(), ["-m", "tileup", "plan", str(path), "--quiet"]
        with subprocess.Popen([sys.executable, *command], cwd=ROOT) as child:
            _, code, used = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(code)
        if child.returncode:
            raise SystemExit(f"bench: {path} was not planned")
        cpu, wall = used.ru_utime + used.ru_stime, time.perf_counter() - clock
        gigabytes = path.stat().st_size / 1e9
        print(f"{name}: {cpu:.1f} CPU-s, {wall:.1f} s", flush=True)
        row = [name, f"{gigabytes:.1f}", f"{cpu:.0f}", f"{wall:.0f}"]
        result.append([*row, f"{used.ru_maxrss * 1024 / 1e9:.2f}"])
        path.unlink()
    return table(["file", "of GB", "CPU-s", "seconds", "memory, GB"], result)


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
        around = 1 - each["network"] / (each["sampling"] - each.get("pixels", 0.0))
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
    parser.add_argument("--sizes", type=float, nargs="+", default=[4, 16, 64, 256], metavar="MP")
    parser.add_argument("--before-sizes", type=float, nargs="+", default=[4, 16], metavar="MP")
    parser.add_argument("--before", default=BEFORE, metavar="COMMIT")
    parser.add_argument("--alone", action="store_true", help="only this tileup")
    parser.add_argument("--dry", action="store_true", help="print, do not write the document")
    parser.add_argument("--wide", action="store_true", help="what a picture takes by its width")
    parser.add_argument("--files", type=int, nargs="?", const=GIGAPIXEL, metavar="SIDE")
    parser.add_argument("--plan", type=int, metavar="SIDE", help="plan such a square, and no more")
    parser.add_argument("--square", type=int, metavar="SIDE", help="draw such a square, no more")
    arguments = parser.parse_args()
    if arguments.square:
        return draw_square(arguments.data.resolve(), arguments.square)
    if arguments.plan:
        return plan_alone(arguments.data, arguments.plan)
    with tempfile.TemporaryDirectory() as name:
        folder, found = Path(name), dict[str, dict[float, Figures]]()
        data: Path = arguments.data.resolve()
        if arguments.files:
            text = f"{cpu()}; {os.cpu_count()} cores.\n\n{files(data, folder, arguments.files)}"
            print(text)
            return None if arguments.dry else write(DOCUMENT, "files", text)
        if arguments.wide:
            text = f"{cpu()}; one thread.\n\n{wide(data, folder)}"
            print(text)
            return None if arguments.dry else write(DOCUMENT, "wide", text)
        if not arguments.alone:
            tree = checked_out(arguments.before, folder / "before")
            found["before"] = measured(tree, arguments.before_sizes, data, folder)
        found["now"] = measured(ROOT, arguments.sizes, data, folder)
    head = ["tileup", "output, MP", "network, CPU-s per MP", "of sampling outside it"]
    head += ["all outside it, CPU-s per MP", "of it encoding", "memory, GB", "bytes per pixel"]
    text = table(head, [row for name, each in found.items() for row in rows(name, each)])
    head = ["tileup", "between", "time", "time outside the network", "memory"]
    grown = table(head, [growth(name, each) for name, each in found.items() if len(each) > 2])
    text = f"{cpu()}; one thread.\n\n{text}\n\nExponents of growth:\n\n{grown}"
    print(text)
    if not arguments.dry:
        write(DOCUMENT, "scale", text)
    return None


if __name__ == "__main__":
    main()
