"""Whether strength shows, and what it costs: `python -m bench.texture --data data -m FILE`.

For judging weights in between: minutes on one core. At scale 2, with defaults, on every `--every`th
held-out picture. `--only` picks parts: `strength` is the strengths and the quadtree beside each
other, `jpeg` the same inputs compressed, `clean` photographs whose pixels are soft already.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import tileup
from bench.clean import photographs
from bench.compare import Row, compare, truths, written
from bench.methods import QUADTREE, STRENGTHS, kernels, ours, uniform
from tileup.contracts import Model

COLUMNS = (
    "PSNR",
    "SSIMULACRA2",
    "NIQE",
    "feature distance",
    "texture distance",
    "gradient energy",
    "energy, busy",
    "grain, flat",
    "slope",
)
WEAK, STRONG = uniform(STRENGTHS[0]), uniform(STRENGTHS[-1])


@dataclass(frozen=True, slots=True)
class Claim:
    """Something that shall hold, and what was found."""

    text: str
    found: float
    least: float | None = None
    most: float | None = None

    @property
    def holds(self) -> bool:
        above = self.least is None or self.found >= self.least
        return above and (self.most is None or self.found <= self.most)

    def __str__(self) -> str:
        bounds = [f"at least {self.least:g}"] if self.least is not None else []
        bounds += [f"at most {self.most:g}"] if self.most is not None else []
        return (
            f"{'ok ' if self.holds else 'NOT'} {self.text}: {self.found:.3f} ({', '.join(bounds)})"
        )


def claims(found: Mapping[str, Row]) -> Iterator[Claim]:
    """What more strength shall give, and what it may cost."""
    weak, strong, mixed = found[WEAK], found[STRONG], found[QUADTREE]
    energies = [found[uniform(strength)]["gradient energy"] for strength in STRENGTHS]
    rises = min(b - a for a, b in itertools.pairwise(energies))
    yield Claim("gradient energy of 0.8, of the truth's", energies[-1], least=0.92)
    yield Claim("smallest rise of gradient energy over the strengths", rises, least=0.0)
    yield Claim("NIQE of 0.8", strong["NIQE"], most=7.0)
    yield Claim("NIQE of 0.8 less that of 0.2", strong["NIQE"] - weak["NIQE"], most=-0.5)
    share = strong["texture distance"] / weak["texture distance"]
    yield Claim("texture distance of 0.8, of that of 0.2", share, most=0.85)
    yield Claim("SSIMULACRA2 of 0.8", strong["SSIMULACRA2"], least=60)
    yield Claim("SSIMULACRA2 of the quadtree", mixed["SSIMULACRA2"], least=62)
    yield Claim("PSNR of 0.2", weak["PSNR"], least=30.1)
    share = mixed["energy, busy"] / strong["energy, busy"]
    yield Claim("energy of the quadtree's busy quarter, of 0.8's", share, least=0.95)
    share = mixed["grain, flat"] / weak["grain, flat"]
    yield Claim("grain of the quadtree's flat half, of 0.2's", share, most=1.1)


def strength(model: Model, data: Path, every: int) -> None:
    exact = truths(data, 2)[::every]
    found = compare(exact, 2, ours(model), COLUMNS)
    print(written(found, f"scale 2, {len(exact)} pictures", COLUMNS, WEAK))
    print(*claims(found), sep="\n", flush=True)


def jpeg(model: Model, before: Model, data: Path, every: int) -> None:
    exact = truths(data, 2)[::every]
    chosen = (WEAK, QUADTREE)
    named = {
        **kernels(),
        **{f"before: {name}": ours(before)[name] for name in chosen},
        **{name: ours(model)[name] for name in chosen},
    }
    columns = ("PSNR", "SSIMULACRA2", "NIQE", "gradient energy")
    found = compare(exact, 2, named, columns, jpeg=50)
    print(written(found, "scale 2, JPEG 50", columns, "Lanczos"))
    for name in chosen:
        gain = found[name]["PSNR"] - found[f"before: {name}"]["PSNR"]
        print(Claim(f"gain of {name} over before, dB", gain, least=0.3), flush=True)


def clean(model: Model, data: Path) -> None:
    named = {**kernels(), **{name: ours(model)[name] for name in (WEAK, QUADTREE)}}
    columns = ("PSNR", "SSIMULACRA2")
    for name, truth in photographs(data).items():
        found = compare([truth], 2, named, columns)
        print(written(found, name, columns, "Lanczos"))
        gain = found[WEAK]["PSNR"] - found["Lanczos"]["PSNR"]
        print(Claim(f"gain of 0.2 over Lanczos on {name}, dB", gain, least=0.0), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("-m", "--model", help="a checkpoint of the bundled family")
    parser.add_argument("--before", help="a checkpoint that `jpeg` compares with")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument(
        "--only", nargs="*", choices=("strength", "jpeg", "clean"), default=["strength"]
    )
    arguments = parser.parse_args()
    model = tileup.load_model(arguments.model, device="cpu", dtype="float32")
    if "strength" in arguments.only:
        strength(model, arguments.data, arguments.every)
    if "jpeg" in arguments.only:
        before = tileup.load_model(arguments.before, device="cpu", dtype="float32")
        jpeg(model, before, arguments.data, arguments.every)
    if "clean" in arguments.only:
        clean(model, arguments.data)


if __name__ == "__main__":
    main()
