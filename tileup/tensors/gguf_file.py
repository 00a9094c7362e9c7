"""Checkpoints in GGUF (llama.cpp's format, and for pictures city96/ComfyUI-GGUF's): mapped, packed.

The head is read by the package `gguf`, and no weight until it is used; values are computed from
blocks of 32 or 256 numbers by the functions of diffusers. No torch is needed for the head.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFReader, GGUFValueType
from gguf.gguf_reader import ReaderTensor
from numpy.typing import DTypeLike, NDArray

from tileup.errors import ModelError, UnknownCheckpointError
from tileup.tensors.gguf_names import heads, renamed
from tileup.tensors.header import TensorInfo
from tileup.torchvision_shield import shield_torchvision
from tileup.wording import counted

if TYPE_CHECKING:
    from torch import Tensor

HALVES: Mapping[str, tuple[int, int]] = {
    "Q4_0": (0, 2),
    "Q4_1": (0, 4),
    "Q5_0": (0, 2),
    "Q5_1": (0, 4),
    "Q8_0": (0, 2),
    "Q2_K": (80, 84),
    "Q3_K": (108, 110),
    "Q4_K": (0, 4),
    "Q5_K": (0, 4),
    "Q6_K": (208, 210),
    "IQ4_NL": (0, 2),
    "IQ4_XS": (0, 2),
}
"""Formats of blocks that are read, and the bytes of a block that hold its scales in half precision:
all else are whole numbers, so these alone say whether values are finite."""
FACTOR = 4160
"""No value of any of these formats exceeds so many times the largest scale of its block."""
PLAIN = {"F64": "F64", "F32": "F32", "F16": "F16", "BF16": "BF16"}
"""Types whose numbers stand by themselves, and safetensors' names for them."""
SHAPE = "comfy.gguf.orig_shape."
"""Before the name of a tensor in the metadata: the shape that it had before its blocks were cut."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a tensor is, and what it is."""

    kind: str
    """Type by ggml's name."""
    shape: tuple[int, ...]
    data: NDArray[Any]
    """Mapped from the file: numbers, or of formats of blocks bytes, row by row."""
    heads: int = 0
    """In so many heads the rows lie pair by pair; 0: they lie in order."""


@dataclass(frozen=True, slots=True)
class GgufFile:
    """A GGUF file, of which only the head was read; as `TensorFile`."""

    path: Path
    entries: Mapping[str, Entry]
    metadata: Mapping[str, str]

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """As `TensorFile`."""
        return {name: TensorInfo(each.kind, each.shape) for name, each in self.entries.items()}

    def values(self, name: str) -> NDArray[np.float32] | None:
        """As `TensorFile`: None for blocks, and for whole numbers."""
        entry = self.entries[name]
        if entry.kind not in PLAIN:
            return None
        data = entry.data
        if entry.kind == "BF16":  # the upper half of a float32
            data = (data.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
        return data.astype(np.float32).reshape(entry.shape)

    def read(self, names: Sequence[str]) -> dict[str, Tensor]:
        """As `TensorFile`: blocks stay packed."""
        return {name: _in_order(self.entries[name]) for name in names}


def open_gguf(path: Path) -> GgufFile:
    """Open a GGUF file, its tensors under the names that its network's own files have.

    Raises:
        ModelError: it cannot be read or is damaged.
        UnknownCheckpointError: it is in a format of blocks that is not read.
    """
    try:
        reader = _CheckedReader(path, "c")
        metadata = dict(_metadata(reader))
        shapes = dict(_shapes(reader))
        entries = {
            each.name: _entry(each, shapes.get(each.name), heads(each.name, metadata), path)
            for each in reader.tensors
        }
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from error
    except ModelError:
        raise
    except (ValueError, KeyError, IndexError, TypeError, OverflowError, MemoryError) as error:
        detail = " ".join(str(error).split())[:200]
        raise ModelError(f"{path} is a GGUF file, but cut short or damaged: {detail}") from error
    return GgufFile(path, renamed(entries, metadata, path), metadata)


class _CheckedReader(GGUFReader):
    """Refuses to read beyond the end of the file, where the package goes on with nothing."""

    def _get(
        self,
        offset: int,
        dtype: DTypeLike,
        count: int = 1,
        override_order: Literal["I", "S", "<"] | None = None,
    ) -> NDArray[Any]:
        end = int(offset) + int(count) * np.dtype(dtype).itemsize
        if end > len(self.data):
            raise ValueError(f"it should be {counted(end - len(self.data), 'byte')} longer")
        return super()._get(int(offset), dtype, count, override_order)


def _metadata(reader: GGUFReader) -> Iterator[tuple[str, str]]:
    """Single numbers and short texts; tables of tokens are none."""
    for name, each in reader.fields.items():
        if each.types and each.types[0] != GGUFValueType.ARRAY and not name.startswith("GGUF."):
            text = str(each.contents())
            if len(text) <= 4096:
                yield name, text


def _shapes(reader: GGUFReader) -> Iterator[tuple[str, tuple[int, ...]]]:
    for name, each in reader.fields.items():
        if name.startswith(SHAPE):
            yield name.removeprefix(SHAPE), tuple(int(side) for side in each.contents())


def _entry(tensor: ReaderTensor, shape: tuple[int, ...] | None, heads: int, path: Path) -> Entry:
    kind = tensor.tensor_type.name
    own = tuple(int(side) for side in reversed(tensor.shape.tolist()))
    shape = own if shape is None else shape
    if np.prod(shape, dtype=object) != np.prod(own, dtype=object):
        raise ValueError(f"{tensor.name} has {own}, which are not {shape}")
    if kind not in PLAIN and kind not in HALVES and not kind.startswith("I"):
        raise _unread(path, tensor.name, kind)
    if kind.startswith("IQ") and kind not in HALVES:
        raise _unread(path, tensor.name, kind)
    if heads and shape[0] % (2 * heads):
        raise ValueError(f"{tensor.name} has {shape[0]} rows, which are not those of {heads} heads")
    return Entry(kind, shape, tensor.data, heads)


def _unread(path: Path, name: str, kind: str) -> UnknownCheckpointError:
    return UnknownCheckpointError(
        f"{path} stores {name[:200]} in the GGUF format {kind}, which tileup does not read; it"
        f" reads {', '.join(HALVES)}"
    )


def _in_order(entry: Entry) -> Tensor:
    """A tensor, of each head its first half of rows before its second."""
    from tileup.tensors.packed import Packed

    tensor = _tensor(entry)
    if not entry.heads:
        return tensor

    def ordered(rows: Tensor) -> Tensor:
        pairs = rows.reshape(entry.heads, -1, 2, *rows.shape[1:])
        return pairs.swapaxes(1, 2).reshape(rows.shape)

    return tensor.rows(ordered) if isinstance(tensor, Packed) else ordered(tensor)


def _tensor(entry: Entry) -> Tensor:
    import torch

    from tileup.tensors.packed import Packed

    data = torch.from_numpy(np.ascontiguousarray(entry.data))
    if entry.kind == "BF16":
        return data.view(torch.bfloat16).reshape(entry.shape)
    if entry.kind not in HALVES:
        return data.reshape(entry.shape)
    coding = GgufBlocks(entry.kind)
    rows = entry.shape[0] if entry.shape else 1
    if data.numel() % (rows * coding.size):  # a block lies in two rows
        return coding.decoded((data.reshape(-1, coding.size),), entry.shape)
    return Packed(coding, (data.reshape(rows, -1),), entry.shape)


@dataclass(frozen=True, slots=True)
class GgufBlocks:
    """Numbers in blocks with scales of their own, as `Coding`."""

    kind: str
    """A key of `HALVES`."""

    @property
    def size(self) -> int:
        """Bytes of a block."""
        return GGML_QUANT_SIZES[GGMLQuantizationType[self.kind]][1]

    def decoded(self, stored: Sequence[Tensor], shape: tuple[int, ...]) -> Tensor:
        """As `Coding`."""
        shield_torchvision()
        import torch
        from diffusers.quantizers.gguf.utils import dequantize_functions

        kind = GGMLQuantizationType[self.kind]
        numbers, size = GGML_QUANT_SIZES[kind]
        blocks = stored[0].reshape(-1, size)
        found = dequantize_functions[kind](blocks, numbers, size, dtype=torch.float32)
        return found.reshape(shape)

    def largest(self, stored: Sequence[Tensor]) -> Tensor:
        """As `Coding`."""
        import torch

        start, end = HALVES[self.kind]
        scales = stored[0].reshape(-1, self.size)[:, start:end].contiguous().view(torch.float16)
        if not scales.numel():
            return torch.zeros(())
        return torch.stack(torch.aminmax(scales)).float().abs().max() * FACTOR
