"""Small checkpoints in the layouts of the bundled one, with random weights: one network, or two."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from tileup.families.residual_unet import Architecture, ResidualUNet
from tileup.settings.values import Settings

ARCHITECTURE = Architecture(
    channels=12, widths=(8, 8, 16), down_blocks=(1, 1, 1), up_blocks=(1, 1), residual_std=0.1
)
CPU = Settings(device="cpu", dtype="float32")
SMALL = {"device": "cpu", "dtype": "float32", "tile": 32, "min_tile": 8, "overlap": 8, "steps": 2}
"""For runs on small pictures."""


def small_network(seed: int = 0) -> ResidualUNet:
    """A network whose last layer is not zero, so that it does something."""
    torch.manual_seed(seed)
    network = ResidualUNet(ARCHITECTURE)
    torch.nn.init.normal_(network.leave.weight, std=0.1)
    return network.eval().requires_grad_(False)


def header_of(architecture: Architecture = ARCHITECTURE) -> str:
    return json.dumps(
        {
            "format": 1,
            "architecture": {
                "channels": architecture.channels,
                "widths": architecture.widths,
                "down_blocks": architecture.down_blocks,
                "up_blocks": architecture.up_blocks,
                "residual_std": architecture.residual_std,
            },
            "stride": 2,
            "window": 32,
            "multiple": 8,
            "denoise": [0.0, 1.0],
            "sigma": [0.01, 0.7],
        }
    )


TEXTURE = {"from": 0.2, "full": 0.8}


def vivid_network(seed: int = 1) -> ResidualUNet:
    """A second network, which is told the amount of texture and has nothing of the first."""
    torch.manual_seed(seed)
    network = ResidualUNet(replace(ARCHITECTURE, conditions=1))
    torch.nn.init.normal_(network.leave.weight, std=0.1)
    return network.eval().requires_grad_(False)


def save_both(
    path: Path,
    vivid: ResidualUNet | None = None,
    texture: object = TEXTURE,
    **changes: torch.Tensor,
) -> Path:
    """Write the network of `save_small` and a second one; `changes` as there."""
    second = (vivid or vivid_network()).state_dict()
    named = {f"vivid.{name}": value.half() for name, value in second.items()}
    header = json.dumps(json.loads(header_of()) | {"texture": texture})
    return save_small(path, header, **(named | changes))


def save_small(path: Path, header: str | None = None, **changes: torch.Tensor) -> Path:
    """Write it in half precision; `changes` replace tensors (dots in names as __)."""
    tensors = {name: value.half() for name, value in small_network().state_dict().items()}
    tensors |= {name.replace("__", "."): value for name, value in changes.items()}
    save_file(tensors, path, metadata={"tileup": header or header_of()})
    return path


def save_deblocking(path: Path) -> Path:
    """Write the network of `save_small` and one for sources that JPEG damaged, of another seed."""
    other = small_network(2).state_dict()
    return save_small(path, **{f"deblock.{name}": each.half() for name, each in other.items()})
