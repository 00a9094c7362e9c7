"""Weighted mean of checkpoints of one run, with figures of its own.

    python -m models.average 0.5:end.safetensors 0.5:middle.safetensors -o mean.safetensors

Weights at the end of a falling learning rate draw most detail, and take some of their own noise for
it; those from where the rate was high are smoother. Their mean keeps most of the former without the
latter (Wortsman et al. 2022, arXiv 2203.05482).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from models.training.files import export
from models.training.levels import ARCHITECTURE
from models.training.samples import read_pictures
from models.training.validation import validate
from tileup.families.residual_unet import ResidualUNet


def main() -> None:
    """Write the mean; its header has the counts of the first checkpoint and figures of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="+", metavar="SHARE:FILE")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path("data"))
    arguments = parser.parse_args()
    total: dict[str, Tensor] = {}
    trained: dict[str, object] = {}
    shares = [float(part.partition(":")[0]) for part in arguments.parts]
    for part, share in zip(arguments.parts, shares, strict=True):
        with safe_open(part.partition(":")[2], "pt") as file:
            trained = trained or json.loads(file.metadata()["tileup"])["trained"]
            for name in file.keys():  # noqa: SIM118
                weight = file.get_tensor(name).float() * share / sum(shares)
                total[name] = total[name] + weight if name in total else weight
    mean = ResidualUNet(ARCHITECTURE)
    mean.load_state_dict(total)
    with torch.no_grad():
        figures = validate(mean, read_pictures(arguments.data)[1], "cpu")
    row = {**trained, **{name: round(value, 3) for name, value in figures.items()}}
    export(mean.state_dict(), arguments.out, row)
    print(" ".join(f"{name}={value}" for name, value in row.items()))


if __name__ == "__main__":
    main()
