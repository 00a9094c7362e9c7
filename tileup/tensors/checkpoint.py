"""Any checkpoint becomes one value: names and shapes at once, tensors when they are asked for.

A checkpoint is one file, a set of shards with an index, or a folder in the layout of diffusers.
Whatever it is, `Checkpoint.tensors` names everything in it; in a folder of diffusers the names
begin with that of the part: `unet.conv_in.weight`, `text_encoder_2.text_model...`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from tileup.errors import ModelError
from tileup.tensors.header import Header, TensorInfo, read_header
from tileup.tensors.nvfp4 import WHOLE
from tileup.wording import counted

if TYPE_CHECKING:
    from torch import Tensor

MODEL_INDEX = "model_index.json"
"""The file that makes a folder one of diffusers."""
PICKLES = (".ckpt", ".pt", ".pth", ".bin")
MAX_JSON = 50_000_000
"""Bytes; no configuration or index is longer."""


class TensorFile(Protocol):
    """One file with tensors."""

    @property
    def path(self) -> Path: ...

    @property
    def tensors(self) -> Mapping[str, TensorInfo]: ...

    @property
    def metadata(self) -> Mapping[str, str]: ...

    def values(self, name: str) -> NDArray[np.float32] | None:
        """The values of one small tensor, or None where they cannot be had cheaply."""
        ...

    def read(self, names: Sequence[str]) -> dict[str, Tensor]:
        """The named tensors at their stored precision on the CPU, memory-mapped if possible."""
        ...


@dataclass(frozen=True, slots=True)
class SafetensorsFile:
    """A safetensors file, of which only the head was read."""

    header: Header

    @property
    def path(self) -> Path:
        return self.header.path

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        return self.header.tensors

    @property
    def metadata(self) -> Mapping[str, str]:
        return self.header.metadata

    def values(self, name: str) -> NDArray[np.float32] | None:
        return self.header.values(name)

    def read(self, names: Sequence[str]) -> dict[str, Tensor]:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path, framework="pt") as file:
                return {name: file.get_tensor(name) for name in names}
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{self.path} is damaged: {error}") from error


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a checkpoint."""

    prefix: str
    """What the names of its tensors begin with in the checkpoint."""
    file: TensorFile


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Everything that a file, a set of shards or a folder holds."""

    path: Path
    """What was given: the file, the index or the folder."""
    members: tuple[Member, ...]
    tensors: Mapping[str, TensorInfo]
    """Every tensor by name."""
    metadata: Mapping[str, str]
    """Text in the head of the file."""
    configs: Mapping[str, Mapping[str, object]] = field(
        default_factory=dict[str, Mapping[str, object]]
    )
    """Configurations of a diffusers folder by part: `unet`, `scheduler`, `vae`; `` of the whole."""

    @property
    def name(self) -> str:
        """What messages and metadata call it."""
        return self.path.name if self.path.is_dir() else stem(self.path)

    @property
    def bytes(self) -> int:
        """Size of all its files."""
        return sum(member.file.path.stat().st_size for member in self.members)

    def state_dict(self, prefix: str = "") -> dict[str, Tensor]:
        """Tensors whose name begins with `prefix`, named without it.

        They are on the CPU, at their stored precision and memory-mapped: what is not used is not
        read. Weights of few bits are packed with what they mean, and stay as they are stored.

        Raises:
            ModelError: a file cannot be read or is damaged.
        """
        from tileup.tensors.formats import marks_of
        from tileup.tensors.scaled import unscaled

        result: dict[str, Tensor] = {}
        for member in self.members:
            names = {
                name: (member.prefix + name).removeprefix(prefix)
                for name in member.file.tensors
                if (member.prefix + name).startswith(prefix)
            }
            tensors = member.file.read([*names]) if names else {}
            result |= {names[name]: tensor for name, tensor in tensors.items()}
        marks = {name.removeprefix(prefix): mark for name, mark in marks_of(self).items()}
        return unscaled(result, marks)

    def values(self, name: str) -> NDArray[np.float32] | None:
        """The values of one small tensor without torch; None where there is no such tensor."""
        for member in self.members:
            own = name.removeprefix(member.prefix)
            if name.startswith(member.prefix) and own in member.file.tensors:
                return member.file.values(own)
        return None

    def digest(self) -> str:
        """SHA-256 of the file, hexadecimal; of several files, that of their digests in order."""
        each = [_sha256(member.file.path) for member in self.members]
        return each[0] if len(each) == 1 else hashlib.sha256("".join(each).encode()).hexdigest()


def stem(path: Path) -> str:
    """Name of a checkpoint's file without its extension, shard index or not."""
    name = re.sub(r"\.index(\.\w+)?\.json$", "", path.name)
    return name.removesuffix(Path(name).suffix)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_checkpoint(path: Path) -> Checkpoint:
    """Open a file, an index of shards or a folder; tensors are not read.

    Raises:
        ModelError: it cannot be read, is damaged or incomplete, or is no checkpoint.
    """
    try:
        if path.is_dir():
            return _folder(path)
        if is_index(path):
            return _joined(path, [Member("", file) for file in _shards(path)])
        return _joined(path, [Member("", open_file(path))])
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error


def open_file(path: Path) -> TensorFile:
    """Open one file, whatever its name says it is.

    Raises:
        ModelError: it cannot be read, is damaged, or is no file of tensors.
    """
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    if start[:4] == b"GGUF":
        from tileup.tensors.gguf_file import open_gguf

        return open_gguf(path)
    # A safetensors file begins with the length of its head, whose upper bytes are 0.
    if start[:2] == b"PK" or (start[:1] == b"\x80" and start[4:] != b"\0\0\0\0"):
        from tileup.tensors.pickles import open_pickle

        return open_pickle(path)
    return SafetensorsFile(read_header(path))


def _joined(
    path: Path,
    members: Iterable[Member],
    configs: Mapping[str, Mapping[str, object]] | None = None,
) -> Checkpoint:
    members = tuple(members)
    tensors: dict[str, TensorInfo] = {}
    metadata: dict[str, str] = {}
    for member in members:
        tensors |= {member.prefix + name: info for name, info in member.file.tensors.items()}
        metadata |= member.file.metadata
    return Checkpoint(path, members, _unfolded(tensors), metadata, configs or {})


def _unfolded(tensors: dict[str, TensorInfo]) -> dict[str, TensorInfo]:
    """Weights of NVFP4 with their own number of columns, of which a byte holds two."""
    for name in [each for each in tensors if each.endswith(WHOLE)]:
        weight = name.removesuffix(WHOLE) + ".weight"
        info = tensors.get(weight)
        if info is not None and info.dtype == "U8" and len(info.shape) == 2:
            tensors[weight] = TensorInfo(info.dtype, (info.shape[0], 2 * info.shape[1]))
    return tensors


def read_json(path: Path) -> dict[str, object]:
    """A JSON object from a file.

    Raises:
        ModelError: it cannot be read, or is no JSON object.
    """
    try:
        if path.stat().st_size > MAX_JSON:
            raise ModelError(f"{path} is too large for a configuration")
        content: object = json.loads(path.read_bytes())
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is damaged: it is not JSON") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} is damaged: it is not a JSON object")
    return cast(dict[str, object], content)


def shard_names(index: Path) -> dict[str, list[str]]:
    """Names of the files beside an index that it names, each with the tensors it should have.

    Raises:
        ModelError: it cannot be read, is no index, or names a file elsewhere.
    """
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise ModelError(f"{index} is not an index of shards: it has no weight_map")
    wanted: dict[str, list[str]] = {}
    for name, shard in cast(dict[str, object], places).items():
        wanted.setdefault(str(shard), []).append(name)
    outside = [shard for shard in wanted if Path(shard).name != shard or shard in (".", "..")]
    if outside:
        raise ModelError(f"{index} names {outside[0][:200]!r}, which is not a file beside it")
    return wanted


def _shards(index: Path) -> list[TensorFile]:
    """The files that an index names, each with the tensors that it should have."""
    wanted = shard_names(index)
    missing = sorted(shard for shard in wanted if not (index.parent / shard).is_file())
    if missing:
        raise ModelError(
            f"{index} is incomplete: it lacks {len(missing)} of its"
            f" {counted(len(wanted), 'shard')}, the first {missing[0][:200]!r};"
            f" download them into the same folder"
        )
    files = [open_file(index.parent / shard) for shard in sorted(wanted)]
    for file in files:
        absent = sorted(set(wanted[file.path.name]) - file.tensors.keys())
        if absent:
            raise ModelError(
                f"{file.path} lacks {absent[0][:200]!r}, which {index.name} says it holds: the"
                f" two belong to different downloads"
            )
    return files


FOLDERS = (
    "unet",
    "transformer",
    "vae",
    "text_encoder",
    "text_encoder_2",
    "text_encoder_3",
)
"""Folders of weights in a diffusers folder; tokenizers and the scheduler have none."""


def _folder(path: Path) -> Checkpoint:
    if not (path / MODEL_INDEX).is_file():
        return _loose(path)
    configs = {"": read_json(path / MODEL_INDEX)}
    for part in (*FOLDERS, "scheduler"):
        for name in ("config.json", "scheduler_config.json"):
            if (path / part / name).is_file():
                configs[part] = read_json(path / part / name)
    members = [
        Member(f"{part}.", file)
        for part in FOLDERS
        if (path / part).is_dir()
        for file in weight_files(path / part)
    ]
    if not any(member.prefix in ("unet.", "transformer.") for member in members):
        raise ModelError(
            f"{path} has {MODEL_INDEX}, but neither unet/ nor transformer/ with weights in it;"
            f" download the whole folder"
        )
    return _joined(path, members, configs)


def _loose(path: Path) -> Checkpoint:
    """A folder that holds one model, in one file or in shards; perhaps one part of a larger one."""
    config = path / "config.json"
    configs = {"": read_json(config)} if config.is_file() else {}
    files = weight_files(path)
    if not files:
        raise ModelError(
            f"{path} is a folder without a checkpoint; give a .safetensors file, an index of"
            f" shards, or a folder of diffusers, which has a {MODEL_INDEX}"
        )
    return _joined(path, [Member("", file) for file in files], configs)


def weight_files(folder: Path) -> list[TensorFile]:
    """The files that hold the weights of a folder: one, or the shards of one index.

    Where the same weights are there in several precisions or formats, safetensors is taken before
    pickles and the plain name before `fp16`. None where there are no weights.

    Raises:
        ModelError: there are several, and nothing says which one is meant.
    """
    files = [each for each in sorted(folder.iterdir()) if each.is_file()]
    for ending in (".safetensors", ".bin"):
        own = [each for each in files if each.name.removesuffix(".json").find(ending) > 0]
        indexes = [each for each in own if is_index(each)]
        whole = [each for each in own if each.suffix == ending and not is_shard(each)]
        if found := indexes or whole:
            chosen = _plainest(found)
            return _shards(chosen) if is_index(chosen) else [open_file(chosen)]
    return []


def is_index(path: Path) -> bool:
    """Whether a name is that of an index of shards, such as model.safetensors.index.fp16.json."""
    return re.search(r"\.index(\.\w+)?\.json$", path.name) is not None


def is_shard(path: Path) -> bool:
    """Whether a name is like diffusion_pytorch_model-00001-of-00003.safetensors."""
    return re.search(r"-\d+-of-\d+\b", path.name) is not None


def _plainest(paths: Sequence[Path]) -> Path:
    """The one file, or the one of which all others are variants: model.fp16.bin of model.bin."""
    if len({each.name.split(".")[0] for each in paths}) > 1:
        raise ModelError(
            f"{paths[0].parent} holds several checkpoints"
            f" ({', '.join(each.name for each in paths[:4])}); give the file itself"
        )
    return min(paths, key=lambda each: len(each.name))
