"""Fidelity and looks on held-out pictures, beside other enlargers: `make bench-quality DATA=data`.

Each truth is shrunk by bicubic, enlarged again by every method in turn, and compared.
realesrgan-x4plus takes minutes for a megapixel, so it has a table of its own, in which every
method enlarges the middles of the pictures. Times are measured by `bench.speed`. `--only` picks
tables by their names in the document.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import tileup
from bench.compare import compare, truths, written
from bench.methods import methods
from bench.tables import write
from tileup.contracts import Model

DOCUMENT = "docs/quality.md"
MIDDLE = 216
"""Side of the middles that x4plus is compared on, pixels."""
FIDELITY = ("PSNR", "SSIM", "MS-SSIM", "SSIMULACRA2", "feature distance")
LOOKS = ("texture distance", "NIQE", "gradient energy", "slope")
SHORT = ("PSNR", "SSIM", "SSIMULACRA2", "NIQE", "gradient energy")


@dataclass(frozen=True, slots=True)
class Bench:
    """What is measured on what, and where to."""

    model: Model
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


TABLES: dict[str, Callable[[Bench], None]] = {
    "scale-2": lambda bench: scale(bench, 2),
    "scale-3": lambda bench: scale(bench, 3),
    "scale-4": lambda bench: scale(bench, 4),
    "middles": middles,
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
        tileup.load_model(arguments.model, device="cpu"),
        arguments.data,
        arguments.limit,
        arguments.peers,
        arguments.dry,
    )
    for name in arguments.only:
        TABLES[name](bench)


if __name__ == "__main__":
    main()
