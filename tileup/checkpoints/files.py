"""Checkpoint files: found, and named by their header alone. No tensor is read, no torch needed."""

from __future__ import annotations

import json
import math
import os
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast

from tileup.checkpoints.families import FAMILIES
from tileup.contracts import ModelSpec
from tileup.errors import ModelError, UnknownCheckpointError
from tileup.resources import resource

BUNDLED = "tileup-small"
"""Stem of the checkpoint that ships with tileup."""
FOLDERS = "TILEUP_MODELS"
"""Environment variable: folders in which models are looked up by name."""
MAX_HEADER = 100_000_000
"""Bytes; safetensors itself allows no longer header."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One entry of a safetensors header."""

    dtype: str
    """safetensors' name, such as F16."""
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Header:
    """What the head of a safetensors file says."""

    path: Path
    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]


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


def find_model(name: str | None) -> Path:
    """Path of a model.

    Args:
        name: a file; or a name, with or without .safetensors, in a folder of TILEUP_MODELS or among
            the shipped models; None is the bundled one.

    Raises:
        ModelError: there is none.
    """
    if name is not None and Path(name).expanduser().exists():
        return Path(name).expanduser().resolve()
    stem = (name or BUNDLED).removesuffix(".safetensors")
    folders = [Path(each) for each in os.environ.get(FOLDERS, "").split(os.pathsep) if each]
    folders.append(resource("models"))
    for folder in folders:
        if (path := folder / f"{stem}.safetensors").is_file():
            return path
    known = sorted({path.stem for folder in folders for path in folder.glob("*.safetensors")})
    raise ModelError(
        f"model {name or BUNDLED!r} is neither a file nor known by name"
        f" (known: {', '.join(known) or 'none'}); give the path of a .safetensors file,"
        f" or set {FOLDERS} to the folder that holds it"
    )


def read_header(path: Path) -> Header:
    """Head of a safetensors file.

    Raises:
        ModelError: the file cannot be read, is no safetensors file, or is cut short.
    """
    if path.is_dir():
        raise ModelError(f"{path} is a folder; give the .safetensors file itself")
    try:
        with path.open("rb") as file:
            return _header(file, path)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error


def _header(file: BinaryIO, path: Path) -> Header:
    size = path.stat().st_size
    start = file.read(8)
    length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
    if not 2 <= length <= min(MAX_HEADER, size - 8):
        raise ModelError(f"{path} is not a safetensors file{_likely(start)}")
    try:
        entries: object = json.loads(file.read(length))
        return _entries(cast(dict[str, object], entries), path, size - 8 - length)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{path} is not a safetensors file: its header does not parse") from error


def _likely(start: bytes) -> str:
    """What a file that is no safetensors file probably is."""
    if not start:
        return ": it is empty"
    if start.lstrip()[:1] == b"<":
        return ": it looks like a web page; was the download redirected to a login?"
    if start[:2] == b"PK" or start[:1] == b"\x80":
        return ": it looks like a pickle (.ckpt, .pt); convert it to .safetensors"
    return ": it is damaged, or of another kind"


def _entries(entries: dict[str, object], path: Path, data_bytes: int) -> Header:
    metadata = cast(dict[str, str], entries.pop("__metadata__", {}))
    tensors: dict[str, TensorInfo] = {}
    end = 0
    for name, value in entries.items():
        entry = cast(dict[str, object], value)
        shape = tuple(int(side) for side in cast(list[int], entry["shape"]))
        tensors[name] = TensorInfo(str(entry["dtype"]), shape)
        end = max(end, int(cast(list[int], entry["data_offsets"])[1]))
    if end > data_bytes:
        raise ModelError(
            f"{path} is cut short: it should be {end - data_bytes} bytes longer; download it again"
        )
    return Header(path, tensors, metadata)


def identify(path: Path) -> ModelSpec:
    """What planning needs to know of a checkpoint.

    Raises:
        ModelError: the file is unreadable or damaged.
        UnknownCheckpointError: it is of no family that tileup can load.
    """
    return _spec(read_header(path))


def _spec(header: Header) -> ModelSpec:
    path = header.path
    for family in FAMILIES:
        if family.matches(header.tensors, header.metadata):
            return family.spec(path.stem, header.metadata)
    first = min(header.tensors, default="-")
    raise UnknownCheckpointError(
        f"{path} is not a checkpoint that tileup can load: among its {len(header.tensors)} tensors,"
        f" the first named {first!r}, are not those of any known family"
        f" ({', '.join(family.name for family in FAMILIES)})."
        f" A LoRA, a bare VAE or one shard of several is not enough."
    )


def describe(path: Path) -> CheckpointInfo:
    """A checkpoint in figures, without its tensors.

    Raises:
        ModelError, UnknownCheckpointError: as `identify`.
    """
    header = read_header(path)
    spec = _spec(header)
    dtypes: Counter[str] = Counter()
    for tensor in header.tensors.values():
        dtypes[tensor.dtype] += math.prod(tensor.shape)
    return CheckpointInfo(
        path=path,
        family=spec.family,
        prediction=spec.prediction,
        parameters=dtypes.total(),
        tensors=len(header.tensors),
        bytes=path.stat().st_size,
        dtypes=dict(dtypes),
        shapes={
            "stride": f"{spec.stride} px per latent cell",
            "latent channels": str(spec.channels),
            "window": f"{spec.window} px, sides in multiples of {spec.multiple}",
            "noise levels": f"{spec.levels.sigma_min:g} to {spec.levels.sigma_max:g}",
        },
        header=_parsed(header.metadata),
    )


def _parsed(metadata: Mapping[str, str]) -> dict[str, object]:
    result: dict[str, object] = {}
    for name, text in metadata.items():
        try:
            result[name] = json.loads(text)
        except ValueError:
            result[name] = text
    return result
