"""The head of a checkpoint of our own: how it is told, and what it says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import cast

from tileup.contracts import ModelSpec
from tileup.errors import ModelError
from tileup.families.texture import TextureRange
from tileup.plan.noise_levels import TableLevels
from tileup.tensors.checkpoint import Checkpoint

BUNDLED_KEYS = frozenset({"enter.weight", "leave.weight", "embed.mix.0.weight"})
"""Tensors of our own network."""
VIVID = "vivid."
"""What names of the tensors begin with of the network for texture in such a file, if it has one."""
DEBLOCK = "deblock."
"""The same of the network for sources that JPEG damaged."""
RANGES = "ranges"
"""What the tensor is named, behind its network's prefix, that says between which ends maps are
rounded to 8 bits."""


def is_bundled(checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint is one of our own."""
    return checkpoint.tensors.keys() >= BUNDLED_KEYS and "tileup" in checkpoint.metadata


def is_ranged(checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint says for each of its networks how its maps are rounded."""
    names = checkpoint.tensors.keys()
    prefixes = ["", *(each for each in (VIVID, DEBLOCK) if f"{each}enter.weight" in names)]
    return all(prefix + RANGES in names for prefix in prefixes)


def bundled_spec(checkpoint: Checkpoint) -> ModelSpec:
    """What planning needs to know of a checkpoint of our own: all of it is in its header.

    Raises:
        ModelError: the header lacks something.
    """
    name = checkpoint.name
    header = parse_header(checkpoint.metadata, name)
    textured, deblocks = (
        any(each.startswith(prefix) for each in checkpoint.tensors) for prefix in (VIVID, DEBLOCK)
    )
    try:
        if textured:
            TextureRange.from_header(header)
        return ModelSpec(
            name=name,
            family="bundled",
            prediction="x0",
            stride=integer(header["stride"]),
            channels=3 * integer(header["stride"]) ** 2,
            window=integer(header["window"]),
            multiple=integer(header["multiple"]),
            levels=TableLevels(_numbers(header["denoise"]), _numbers(header["sigma"])),
            text=False,
            precision="float32",
            any_shape=True,
            textured=textured,
            deblocks=deblocks,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"model {name}: its header is wrong ({error})") from error


def parse_header(metadata: Mapping[str, str], name: str) -> dict[str, object]:
    """The JSON object that a bundled checkpoint carries.

    Raises:
        ModelError: it is no JSON object.
    """
    try:
        header: object = json.loads(metadata["tileup"])
    except (KeyError, ValueError) as error:
        raise ModelError(f"model {name}: its header does not parse") from error
    if not isinstance(header, dict):
        raise ModelError(f"model {name}: its header is not a JSON object")
    return cast(dict[str, object], header)


def integer(value: object, least: int = 1) -> int:
    """A whole number of at least `least` from JSON.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, int) or value < least:
        raise ValueError(f"{value!r} should be a whole number above {least - 1}")
    return value


def integers(value: object, least: int = 1) -> tuple[int, ...]:
    """Whole numbers of at least `least` from a JSON list.

    Raises:
        TypeError, ValueError: it is no list of them.
    """
    if not isinstance(value, list):
        raise TypeError(f"{value!r} should be a list of whole numbers")
    return tuple(integer(each, least) for each in cast(list[object], value))


def _numbers(value: object) -> tuple[float, ...]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r} should be a list of numbers")
    return tuple(float(each) for each in cast(list[float], value))
