"""What training writes: its state, its log, the checkpoint."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from models.training.levels import ARCHITECTURE, SIGMA_MAX, SIGMA_MIN, STRIDE


def save(state: dict[str, object], path: Path) -> None:
    """Write a state whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    torch.save(state, temporary)
    temporary.replace(path)


def note(row: dict[str, object], path: Path) -> None:
    """Append to the log."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(row))
        if fresh:
            writer.writeheader()
        writer.writerow(row)
    print(" ".join(f"{name}={value}" for name, value in row.items()), flush=True)


def export(state: dict[str, Tensor], path: Path, trained: dict[str, object]) -> None:
    """Write the half-precision checkpoint, with everything needed to build it in its header."""
    header = {
        "format": 1,
        "architecture": {
            "channels": ARCHITECTURE.channels,
            "widths": ARCHITECTURE.widths,
            "down_blocks": ARCHITECTURE.down_blocks,
            "up_blocks": ARCHITECTURE.up_blocks,
            "residual_std": ARCHITECTURE.residual_std,
        },
        "stride": STRIDE,
        "window": 144,
        "multiple": STRIDE * 2 ** (len(ARCHITECTURE.widths) - 1),
        "denoise": [0.0, 1.0],
        "sigma": [SIGMA_MIN, SIGMA_MAX],
        "trained": trained,
    }
    tensors = {name: value.half().contiguous().cpu() for name, value in state.items()}
    temporary = path.with_suffix(".part")
    save_file(tensors, temporary, metadata={"tileup": json.dumps(header)})
    temporary.replace(path)
