"""Weighted mean of checkpoints of one run, with figures of its own.

    python -m models.average 0.5:end.safetensors 0.5:middle.safetensors -o mean.safetensors

Weights at the end of a falling learning rate draw most detail, and take some of their own noise for
it; those from where the rate was high are smoother. Their mean keeps most of the former without the
latter (Wortsman et al. 2022, arXiv 2203.05482). It is of the network that keeps to the source; the
one that draws texture is the first checkpoint's.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from models.training.files import Part, Weights, read_parts, write_parts
from models.training.levels import ARCHITECTURE
from models.training.samples import read_pictures
from models.training.validation import validate
from tileup.families.residual_unet import ResidualUNet


def mean(parts: Sequence[Weights], shares: Sequence[float]) -> dict[str, Tensor]:
    """Each tensor's weighted mean."""
    whole = sum(shares)
    return {
        name: torch.stack(
            [each[name] * share / whole for each, share in zip(parts, shares, strict=True)]
        ).sum(dim=0)
        for name in parts[0]
    }


def main() -> None:
    """Write the mean; its header has the counts of the first checkpoint and figures of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="+", metavar="SHARE:FILE")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path("data"))
    arguments = parser.parse_args()
    shares = [float(part.partition(":")[0]) for part in arguments.parts]
    found = [read_parts(Path(part.partition(":")[2])) for part in arguments.parts]
    weights = mean([each.base.weights for each in found], shares)
    network = ResidualUNet(ARCHITECTURE)
    network.load_state_dict(weights)
    with torch.no_grad():
        figures = validate(network, read_pictures(arguments.data)[1], "cpu")
    row = {**found[0].base.trained, **{name: round(each, 3) for name, each in figures.items()}}
    write_parts(replace(found[0], base=Part(weights, row)), arguments.out)
    print(" ".join(f"{name}={value}" for name, value in row.items()))


if __name__ == "__main__":
    main()
