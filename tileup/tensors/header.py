"""The head of a safetensors file: names, shapes and places of its tensors. No torch needed.

The reader of safetensors itself is for loading, not for this: with numpy it gives neither bfloat16
nor floats of 8 bits, for one precision that it does not know it refuses a whole file, and of one
that is no checkpoint or cut short it says "header too large" or "file not fully covered", which
tells nobody that a download broke off or led to a login.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from tileup.errors import ModelError
from tileup.wording import counted

MAX_HEADER = 100_000_000
"""Bytes; safetensors itself allows no longer header."""

BITS = {
    "F64": 64,
    "F32": 32,
    "F16": 16,
    "BF16": 16,
    "F8_E4M3": 8,
    "F8_E5M2": 8,
    "I64": 64,
    "I32": 32,
    "I16": 16,
    "I8": 8,
    "U64": 64,
    "U32": 32,
    "U16": 16,
    "U8": 8,
    "BOOL": 8,
}
"""Bits per element of the precisions that are known; files of others are read, not measured."""

_NUMPY = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "U8": "u1"}


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A tensor as its file describes it."""

    dtype: str
    """safetensors' name, such as F16."""
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Header:
    """What the head of a safetensors file says."""

    path: Path
    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]
    offsets: Mapping[str, int]
    """Where the bytes of each tensor begin, from the start of the file."""

    def values(self, name: str) -> NDArray[np.float32] | None:
        """The values of a small tensor, read without torch; None where its precision is rare.

        Raises:
            ModelError: the file cannot be read.
        """
        info = self.tensors[name]
        if info.dtype not in _NUMPY:
            return None
        kind = np.dtype(_NUMPY[info.dtype])
        try:
            raw = np.fromfile(self.path, kind, count=info.elements, offset=self.offsets[name])
        except OSError as error:
            raise ModelError(f"{self.path} cannot be read: {error.strerror}") from error
        if info.dtype == "BF16":  # the upper half of a float32
            raw = (raw.astype(np.uint32) << 16).view(np.float32)
        return raw.astype(np.float32).reshape(info.shape)


def read_header(path: Path) -> Header:
    """Head of a safetensors file.

    Raises:
        ModelError: the file cannot be read, is no safetensors file, or is cut short.
    """
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
        return _entries(cast(dict[str, object], entries), path, 8 + length, size)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise ModelError(f"{path} is not a safetensors file: its header does not parse") from error


def _likely(start: bytes) -> str:
    """What a file that is no safetensors file probably is."""
    if not start:
        return ": it is empty"
    if start.lstrip()[:1] == b"<":
        return ": it looks like a web page; was the download redirected to a login?"
    if start[:7] == b"version":
        return ": it is a pointer of Git LFS; fetch the file itself with `git lfs pull`"
    return ": it is damaged, or of another kind"


def _entries(entries: dict[str, object], path: Path, data: int, size: int) -> Header:
    metadata = cast(dict[object, object], entries.pop("__metadata__", None) or {})
    tensors: dict[str, TensorInfo] = {}
    offsets: dict[str, int] = {}
    end = data
    for name, value in entries.items():
        entry = cast(dict[str, object], value)
        shape = tuple(int(side) for side in cast(list[int], entry["shape"]))
        first, last = (int(each) for each in cast(list[int], entry["data_offsets"]))
        tensors[name] = TensorInfo(str(entry["dtype"]), shape)
        offsets[name] = data + first
        if min(shape, default=0) < 0 or not 0 <= first <= last:
            raise ValueError(f"{name} has no possible place")
        bits = BITS.get(tensors[name].dtype)
        if bits is not None and tensors[name].elements * bits != 8 * (last - first):
            raise ModelError(
                f"{path} is damaged: {name[:200]!r} has the shape {str(list(shape))[:100]} in"
                f" {entry['dtype']}, which is not the {counted(last - first, 'byte')} kept for it;"
                f" download it again"
            )
        end = max(end, data + last)
    if end > size:
        raise ModelError(
            f"{path} is cut short: it should be {counted(end - size, 'byte')} longer;"
            f" download it again"
        )
    return Header(path, tensors, {str(key): str(text) for key, text in metadata.items()}, offsets)
