"""How weights of few bits are stored: read from marks, and unknown formats refused by name.

ComfyUI marks each layer, with a tensor `LAYER.comfy_quant` that holds JSON, or all of them in the
metadata under `_quantization_metadata` (its QUANTIZATION.md). No torch needed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from tileup.errors import ModelError, UnknownCheckpointError
from tileup.tensors import nvfp4
from tileup.tensors.header import TensorInfo

MARK = ".comfy_quant"
METADATA = "_quantization_metadata"
STORED = {
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "int8_tensorwise": "I8",
    nvfp4.FORMAT: "U8",
}
"""Formats that are read, and the precision that their weights are stored in."""
TITLES = {
    "float8_e4m3fn": "F8_E4M3 with scales",
    "float8_e5m2": "F8_E5M2 with scales",
    "int8_tensorwise": "INT8",
    nvfp4.FORMAT: "NVFP4",
}
"""As people call them."""
OTHERS = {
    ".wscales": "SVDQuant (Nunchaku)",
    ".quant_state.bitsandbytes__nf4": "bitsandbytes NF4",
    ".quant_state.bitsandbytes__fp4": "bitsandbytes FP4",
    ".absmax": "bitsandbytes",
    ".SCB": "bitsandbytes INT8",
    ".qzeros": "GPTQ or AWQ",
    ".qweight": "GPTQ, AWQ or alike",
}
"""Formats without marks, by the end of a name that only they have."""


class CheckpointHead(Protocol):
    """A checkpoint, of which only the head was read."""

    @property
    def path(self) -> Path: ...

    @property
    def tensors(self) -> Mapping[str, TensorInfo]: ...

    @property
    def metadata(self) -> Mapping[str, str]: ...

    def values(self, name: str) -> NDArray[np.float32] | None: ...


@dataclass(frozen=True, slots=True)
class Quantization:
    """How one layer's weight is stored."""

    format: str
    """A key of `STORED`."""
    rotated: int = 0
    """Columns that were rotated together before they were rounded; 0: none were (ConvRot, Huang et
    al. 2025, arXiv 2512.03673)."""

    @property
    def title(self) -> str:
        """As people call it."""
        return TITLES[self.format] + (", rotated (ConvRot)" if self.rotated else "")


def marks_of(checkpoint: CheckpointHead) -> dict[str, Quantization]:
    """How layers of few bits are stored, by the layer's whole name.

    Raises:
        UnknownCheckpointError: in a format that tileup does not read; it is named.
        ModelError: a mark is damaged, or does not fit its weight.
    """
    ends = tuple(OTHERS)
    for name in checkpoint.tensors:
        if name.endswith(ends):
            end = next(each for each in ends if name.endswith(each))
            raise _unread(checkpoint, name.removesuffix(end), OTHERS[end])
    told = {layer: _mark(checkpoint, layer, entry) for layer, entry in _entries(checkpoint)}
    for layer, mark in told.items():
        info = checkpoint.tensors.get(f"{layer}.weight")
        if info is not None and info.dtype != STORED[mark.format]:
            raise ModelError(
                f"{checkpoint.path} is damaged: {layer} is marked {mark.format}, but its weight is"
                f" stored in {info.dtype}"
            )
    return told


def _entries(checkpoint: CheckpointHead) -> Iterator[tuple[str, object]]:
    """Each marked layer, and what its mark says."""
    try:
        content: object = json.loads(checkpoint.metadata.get(METADATA) or "{}")
        layers = cast(Mapping[str, object], content).get("layers") or {}
        yield from cast(Mapping[str, object], layers).items()
    except (ValueError, AttributeError) as error:
        raise ModelError(f"{checkpoint.path}: its {METADATA} is no table of layers") from error
    for name in checkpoint.tensors:
        if name.endswith(MARK):
            yield name.removesuffix(MARK), _json(checkpoint, name)


def _json(checkpoint: CheckpointHead, name: str) -> object:
    values = checkpoint.values(name)
    try:
        return json.loads(bytes(np.asarray([] if values is None else values, np.uint8).tolist()))
    except ValueError as error:
        raise ModelError(f"{checkpoint.path} is damaged: {name} is no JSON") from error


def _mark(checkpoint: CheckpointHead, layer: str, entry: object) -> Quantization:
    said = cast(Mapping[str, object], entry) if isinstance(entry, Mapping) else {}
    format = str(said.get("format", "unnamed"))[:100]
    if format not in STORED:
        raise _unread(checkpoint, layer, format)
    rotated = said.get("convrot_groupsize", 256) if said.get("convrot") else 0
    if not isinstance(rotated, int) or (rotated and not _power_of_4(rotated)):
        raise _unread(checkpoint, layer, f"{format} with groups of {rotated!r}")
    return Quantization(format, rotated)


def _power_of_4(number: int) -> bool:
    return number in [4**power for power in range(1, 9)]


def _unread(checkpoint: CheckpointHead, layer: str, format: str) -> UnknownCheckpointError:
    return UnknownCheckpointError(
        f"{checkpoint.path} stores {layer[:200]} in the format {format}, which tileup does not"
        f" read; give the file in F16, BF16, FP8, INT8 or NVFP4"
    )
