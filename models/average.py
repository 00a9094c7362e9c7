"""Weighted mean of checkpoints of one run, with figures of its own.

    python -m models.average 0.5:end.safetensors 0.5:middle.safetensors -o mean.safetensors

Weights at the end of a falling learning rate draw most detail, and take some of their own noise for
it; those from where the rate was high are smoother. Their mean keeps most of the former without the
latter (Wortsman et al. 2022, arXiv 2203.05482). It is of the network that keeps to the source, or
with `--network` of the one for texture (`vivid`) or for JPEG's damage (`deblock`); the others are
the first checkpoint's.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

import torch
from torch import Tensor

from models.training.critics import efficientnet_lite0
from models.training.files import Part, Parts, Weights, read_parts, write_parts
from models.training.levels import ARCHITECTURE
from models.training.samples import read_pictures
from models.training.validation import validate, validate_texture
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


def chosen(parts: Parts, name: str) -> Part:
    """One of a checkpoint's networks, by its name in `Parts`.

    Raises:
        SystemExit: it has no such network.
    """
    part: Part | None = getattr(parts, name, None)
    if part is None:
        raise SystemExit(f"no network {name!r} in a checkpoint")
    return part


def measured(weights: Weights, data: Path, name: str) -> dict[str, float]:
    """Figures on the validation crops."""
    texture = name == "vivid"
    network = ResidualUNet(replace(ARCHITECTURE, conditions=int(texture)))
    network.load_state_dict(weights)
    pictures = read_pictures(data)[1]
    with torch.no_grad():
        if texture:
            return validate_texture(network, efficientnet_lite0(), pictures, "cpu")
        return validate(network, pictures, "cpu")


def main() -> None:
    """Write the mean; its header has the counts of the first checkpoint and figures of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="+", metavar="SHARE:FILE")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--network", default="base", choices=[each.name for each in fields(Parts)])
    arguments = parser.parse_args()
    shares = [float(part.partition(":")[0]) for part in arguments.parts]
    found = [read_parts(Path(part.partition(":")[2])) for part in arguments.parts]
    ours = [chosen(each, arguments.network) for each in found]
    weights = mean([each.weights for each in ours], shares)
    figures = measured(weights, arguments.data, arguments.network)
    row = {**ours[0].trained, **{name: round(each, 3) for name, each in figures.items()}}
    parts = replace(found[0], **{arguments.network: Part(weights, row)})
    write_parts(parts, arguments.out)
    print(" ".join(f"{name}={value}" for name, value in row.items()))


if __name__ == "__main__":
    main()
