"""A checkpoint in figures and words, without its tensors."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tileup.checkpoints.files import identified


@dataclass(frozen=True, slots=True)
class CheckpointInfo:
    """A checkpoint described for people."""

    path: Path
    family: str
    prediction: str
    parameters: int
    tensors: int
    bytes: int
    dtypes: Mapping[str, int]
    """Parameters stored in each precision."""
    shapes: Mapping[str, str]
    """What the spec says in words."""
    header: Mapping[str, object] = field(default_factory=dict[str, object])
    """Parsed metadata."""


def describe(path: Path) -> CheckpointInfo:
    """A checkpoint in figures, without its tensors.

    Raises:
        ModelError, UnknownCheckpointError: as `identified`.
    """
    known = identified(path)
    checkpoint, spec = known.checkpoint, known.spec
    dtypes: Counter[str] = Counter()
    for tensor in checkpoint.tensors.values():
        dtypes[tensor.dtype] += tensor.elements
    return CheckpointInfo(
        path=path,
        family=spec.family,
        prediction=spec.prediction,
        parameters=dtypes.total(),
        tensors=len(checkpoint.tensors),
        bytes=checkpoint.bytes,
        dtypes=dict(dtypes),
        shapes={
            "stride": f"{spec.stride} px per latent cell",
            "latent channels": str(spec.channels),
            "window": f"{spec.window} px, sides in multiples of {spec.multiple}",
            "noise levels": f"{spec.levels.sigma_min:g} to {spec.levels.sigma_max:g}",
        },
        header=_parsed(checkpoint.metadata),
    )


def _parsed(metadata: Mapping[str, str]) -> dict[str, object]:
    result: dict[str, object] = {}
    for name, text in metadata.items():
        try:
            result[name] = json.loads(text)
        except (ValueError, RecursionError):
            result[name] = text
    return result
