"""Fidelity and looks on held-out pictures, beside other enlargers: `make bench-quality DATA=data`.

Each truth is shrunk by bicubic, enlarged again by every method in turn, and compared.
realesrgan-x4plus takes minutes for a megapixel, so it has a table of its own, in which every
method enlarges the middles of the pictures. Times are measured by `bench.speed`. `--only` picks
tables by their names in the document.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

import tileup
from bench.clean import photographs
from bench.compare import FORMATS, compare, truths, written
from bench.measures.fidelity import psnr, ssim
from bench.measures.letters import SIZES, Line, error_rate, lines, read
from bench.measures.pixels import trimmed
from bench.measures.texture import busy, diversity, flat, sharpness
from bench.methods import QUADTREE, Method, methods, ours, preset, uniform
from bench.tables import table, write
from tileup.contracts import Model

DOCUMENT = "docs/quality.md"
MIDDLE = 216
"""Side of the middles that x4plus is compared on, pixels."""
FIDELITY = ("PSNR", "SSIM", "MS-SSIM", "SSIMULACRA2", "feature distance")
LOOKS = ("texture distance", "NIQE", "gradient energy", "slope")
EVERY, SEEDS = 4, 4
"""Diversity is measured on each how many-th picture, over so many seeds."""
QUALITY = 50
"""Of the compressed pictures."""
MIDDLING = (uniform(0.4), uniform(0.6))
"""Left out where only the weakest and the strongest tell something."""
SHORT = ("PSNR", "SSIM", "SSIMULACRA2", "NIQE", "gradient energy")


@dataclass(frozen=True, slots=True)
class Bench:
    """What is measured on what, and where to."""

    model: Model
    """In float32."""
    named: str | None
    """The checkpoint."""
    data: Path
    limit: int | None
    """Only so many pictures."""
    peers: bool
    """Whether the other networks are compared too."""
    dry: bool
    """Print, and leave the documents alone."""

    def put(self, name: str, text: str, document: str = DOCUMENT) -> None:
        print(text, flush=True)
        if not self.dry:
            write(document, name, text)


def scale(bench: Bench, times: int) -> None:
    """All pictures at a scale, by everything."""
    exact = truths(bench.data, times)[: bench.limit]
    columns = (*FIDELITY, *LOOKS)
    found = compare(exact, times, methods(bench.model, times, peers=bench.peers), columns)
    head = f"scale {times}, {len(exact)} pictures"
    bench.put(f"scale-{times}", written(found, head, columns, "bicubic"))
    if times == 2:
        bench.put("quality", written(found, head, SHORT, "bicubic"), "README.md")


def middles(bench: Bench) -> None:
    """Middles of the pictures, with the network that takes long."""
    exact = truths(bench.data, 2, MIDDLE)[: bench.limit]
    columns = (*FIDELITY, *LOOKS)
    found = compare(exact, 2, methods(bench.model, 2, peers=bench.peers, large=True), columns)
    bench.put("middles", written(found, f"scale 2, middles of {MIDDLE} px", columns, "bicubic"))


def strengths(bench: Bench) -> None:
    """Where strength draws what, and how much of it is chance."""
    exact = truths(bench.data, 2)[: bench.limit]
    columns = ("energy, busy", "grain, flat")
    found = compare(exact, 2, ours(bench.model), columns)
    spread = {name: [] for name in found}
    for truth in exact[::EVERY]:
        small = truth.resize((truth.width // 2, truth.height // 2), Image.Resampling.BICUBIC)
        parts = busy(trimmed(truth)), flat(trimmed(truth))
        for name in found:
            seeded = [
                trimmed(ours(bench.model, seed)[name](small, truth.size)) for seed in range(SEEDS)
            ]
            spread[name].append([diversity(seeded, part) for part in parts])
    rows = [
        [
            name,
            *(FORMATS[each].format(row[each]) for each in columns),
            *(f"{value:.2f}" for value in np.mean(spread[name], axis=0)),
        ]
        for name, row in found.items()
    ]
    head = [f"scale 2, {len(exact)} pictures", *columns, "diversity, busy", "diversity, flat"]
    bench.put("strengths", table(head, rows))


def jpeg(bench: Bench) -> None:
    """The small pictures compressed."""
    exact = truths(bench.data, 2)[: bench.limit]
    named = methods(bench.model, 2, peers=bench.peers)
    chosen = {name: each for name, each in named.items() if name not in MIDDLING}
    found = compare(exact, 2, chosen, SHORT, jpeg=QUALITY)
    head = f"scale 2, JPEG {QUALITY}, {len(exact)} pictures"
    bench.put("jpeg", written(found, head, SHORT, "bicubic"))


def clean(bench: Bench) -> None:
    """Photographs whose own pixels are soft."""
    named = methods(bench.model, 2, peers=bench.peers)
    chosen = {name: each for name, each in named.items() if name not in MIDDLING}
    figures = {
        name: compare([truth], 2, chosen, ("PSNR",))
        for name, truth in photographs(bench.data).items()
    }
    rows = [
        [method, *(f"{figures[name][method]['PSNR']:.2f}" for name in figures)] for method in chosen
    ]
    bench.put("clean", table(["PSNR, scale 2", *figures], rows))


def halved(line: Line) -> tuple[Image.Image, tuple[int, int]]:
    """A line at half its size, and the size to bring it to."""
    half = (line.image.width // 2, line.image.height // 2)
    return line.image.resize(half, Image.Resampling.BICUBIC), line.image.size


def shares_misread(drawn: Sequence[Line], shown: Sequence[Image.Image]) -> list[str]:
    """Of all lines, and of those of each size."""
    found = [read(image) for image in shown]
    shares = []
    for sizes in (SIZES, *((size,) for size in SIZES)):
        pairs = [(a.text, b) for a, b in zip(drawn, found, strict=True) if a.size in sizes]
        shares.append(f"{error_rate([a for a, _ in pairs], [b for _, b in pairs]):.1%}")
    return shares


def letters(bench: Bench) -> None:
    """Drawn text, read again."""
    named: dict[str, Method] = {
        **methods(bench.model, 2, peers=bench.peers),
        "tileup, preset subtle": partial(preset, model=bench.model, name="subtle"),
    }
    drawn = lines()
    rows = [["the truth", *shares_misread(drawn, [line.image for line in drawn])]]
    for name, method in named.items():
        if name not in MIDDLING:
            rows.append([name, *shares_misread(drawn, [method(*halved(each)) for each in drawn])])
            print(*rows[-1], flush=True)
    head = ["letters read wrongly", "all", *(f"{size} px" for size in SIZES)]
    bench.put("letters", table(head, rows))


def rounded(bench: Bench) -> None:
    """What rounding to 8 bits changes, where `auto` has it so."""
    in_int8 = tileup.load_model(bench.named, device="cpu", runtime="int8")
    exact = truths(bench.data, 2)[: bench.limit]
    rows: list[list[str]] = []
    for name in (uniform(0.2), uniform(0.8), QUADTREE):
        found: list[list[float]] = []
        for truth in exact:
            small = truth.resize((truth.width // 2, truth.height // 2), Image.Resampling.BICUBIC)
            one, two, true = (
                trimmed(each)
                for each in (
                    *(ours(model)[name](small, truth.size) for model in (bench.model, in_int8)),
                    truth,
                )
            )
            apart = np.abs(one.astype(int) - two)
            found.append(
                [
                    *(psnr(true, two) - psnr(true, one), ssim(true, two) - ssim(true, one)),
                    100 * (sharpness(one, two) - 1),
                    *(psnr(one, two), 100 * float((apart > 1).mean()), float(apart.max())),
                ]
            )
        gain, likeness, energy, near, more, most = np.mean(found, axis=0)
        figures = [f"{gain:+.3f}", f"{likeness:+.4f}", f"{energy:+.1f} %", f"{near:.1f}"]
        rows.append([name, *figures, f"{more:.1f} %", f"{most:.0f}"])
    head = ["int8 against float32, scale 2", "PSNR, dB", "SSIM", "gradient energy"]
    head += ["PSNR between the two", "values apart by more than 1 of 255", "most, mean of pictures"]
    bench.put("rounded", table(head, rows))


TABLES: dict[str, Callable[[Bench], None]] = {
    "scale-2": lambda bench: scale(bench, 2),
    "scale-3": lambda bench: scale(bench, 3),
    "scale-4": lambda bench: scale(bench, 4),
    "middles": middles,
    "strengths": strengths,
    "jpeg": jpeg,
    "clean": clean,
    "letters": letters,
    "rounded": rounded,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--only", nargs="*", choices=list(TABLES), default=list(TABLES))
    parser.add_argument("--model", help="another checkpoint of the bundled family")
    parser.add_argument("--limit", type=int, help="only so many pictures")
    parser.add_argument("--no-peers", dest="peers", action="store_false")
    parser.add_argument("--dry", action="store_true", help="print, do not write the documents")
    arguments = parser.parse_args()
    bench = Bench(
        tileup.load_model(arguments.model, device="cpu", dtype="float32"),
        arguments.model,
        arguments.data,
        arguments.limit,
        arguments.peers,
        arguments.dry,
    )
    for name in arguments.only:
        TABLES[name](bench)


if __name__ == "__main__":
    main()
