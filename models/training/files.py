"""What training reads and writes: its state, its log, the checkpoint of three networks."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from models.training.levels import ARCHITECTURE, SIGMA_MAX, SIGMA_MIN, STRIDE, TEXTURE_RANGE
from tileup.families.bundled import split
from tileup.families.bundled_header import DEBLOCK, RANGES, VIVID

Weights = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Part:
    """One network of a checkpoint."""

    weights: Weights
    trained: Mapping[str, object] = field(default_factory=dict)
    """The last row of its log."""
    ranges: Tensor | None = None
    """Between which ends its maps are rounded to 8 bits (`models/ranges.py`). Training changes
    them, and leaves them out."""

    @classmethod
    def of(cls, tensors: Weights, trained: Mapping[str, object]) -> Part:
        """From its tensors in a checkpoint."""
        weights = dict(tensors)
        ranges = weights.pop(RANGES, None)
        return cls(weights, trained, ranges)

    def tensors(self, prefix: str) -> dict[str, Tensor]:
        """As they are named in a checkpoint."""
        ranges = {} if self.ranges is None else {RANGES: self.ranges}
        return {prefix + name: each for name, each in {**self.weights, **ranges}.items()}


@dataclass(frozen=True, slots=True)
class Parts:
    """A checkpoint: the network that keeps to the source, that for texture, that for JPEG."""

    base: Part
    vivid: Part | None = None
    deblock: Part | None = None


def read_parts(path: Path) -> Parts:
    """All networks of a checkpoint, in single precision.

    Raises:
        FileNotFoundError: it is not there.
    """
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["tileup"])
        tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    parts = split(tensors)
    others = [
        Part.of(parts[prefix], header.get(key, {}).get("trained", {})) if parts[prefix] else None
        for prefix, key in ((VIVID, "texture"), (DEBLOCK, "deblock"))
    ]
    return Parts(Part.of(parts[""], header["trained"]), *others)


def write_parts(parts: Parts, path: Path) -> None:
    """The half-precision checkpoint, with everything needed to build it in its header."""
    header: dict[str, object] = {
        "format": 1,
        "architecture": {
            name: value
            for name, value in asdict(ARCHITECTURE).items()
            if name != "conditions"  # of the second network alone
        },
        "stride": STRIDE,
        "window": 144,
        "multiple": STRIDE * 2 ** (len(ARCHITECTURE.widths) - 1),
        "denoise": [0.0, 1.0],
        "sigma": [SIGMA_MIN, SIGMA_MAX],
        "trained": dict(parts.base.trained),
    }
    tensors = parts.base.tensors("")
    if parts.vivid is not None:
        header["texture"] = {
            "from": TEXTURE_RANGE.start,
            "full": TEXTURE_RANGE.full,
            "trained": dict(parts.vivid.trained),
        }
        tensors |= parts.vivid.tensors(VIVID)
    if parts.deblock is not None:
        header["deblock"] = {"trained": dict(parts.deblock.trained)}
        tensors |= parts.deblock.tensors(DEBLOCK)
    half = {name: value.half().contiguous().cpu() for name, value in tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    save_file(half, temporary, metadata={"tileup": json.dumps(header)})
    temporary.replace(path)


def read_critics(path: Path) -> Weights:
    """What `write_critics` wrote, in single precision.

    Raises:
        FileNotFoundError: it is not there.
    """
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118


def write_critics(weights: Weights, path: Path) -> None:
    """Critics in half precision, which the next run begins with; `tileup` does not read them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    save_file({name: each.half().contiguous().cpu() for name, each in weights.items()}, temporary)
    temporary.replace(path)


def save(state: dict[str, object], path: Path) -> None:
    """Write a state whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    torch.save(state, temporary)
    temporary.replace(path)


def note(row: Mapping[str, object], path: Path) -> None:
    """Append to the log; a figure that it did not have becomes a column, empty before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows: list[Mapping[str, object]] = []
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            rows += csv.DictReader(file)
    rows.append(row)
    names = list(dict.fromkeys(name for each in rows for name in each))
    temporary = path.with_suffix(".part")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=names)
        writer.writeheader()
        writer.writerows(rows)
    temporary.replace(path)
    print(" ".join(f"{name}={value}" for name, value in row.items()), flush=True)
