"""Checkpoints in pickles (.ckpt, .pt, .pth, .bin): tensors only, and never their code."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from tileup.errors import ModelError
from tileup.tensors.header import TensorInfo

if TYPE_CHECKING:
    from torch import Tensor

WRAPPERS = (
    *("state_dict", "params_ema", "params", "model_state_dict", "module", "model"),
    "string_to_param",
)
"""Keys under which the tensors may lie, in a dictionary with other things."""


TRAINERS = (
    "pytorch_lightning.",
    "lightning.",
    "lightning_fabric.",
    "omegaconf.",
    "ldm.",
    "sgm.",
    "argparse.Namespace",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.dtype",
    "pathlib.",
)
"""Where objects come from that training programs leave beside the tensors: callbacks, settings,
figures."""


@dataclass(frozen=True, slots=True)
class PickleFile:
    """A pickle that is open: its tensors are mapped from the file, not read."""

    path: Path
    loaded: Mapping[str, Tensor]
    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]

    def values(self, name: str) -> NDArray[np.float32] | None:
        return self.loaded[name].float().numpy()

    def read(self, names: Sequence[str]) -> dict[str, Tensor]:
        return {name: self.loaded[name] for name in names}


def open_pickle(path: Path) -> PickleFile:
    """Open a pickle as tensors alone; anything else in it is refused before it can run.

    Raises:
        ModelError: it is damaged, holds no tensors, or asks for code to be run.
    """
    loaded = _tensors(_loaded(path))
    if not loaded:
        raise ModelError(f"{path} is a pickle without tensors that have names: no checkpoint")
    infos = {
        name: TensorInfo(_DTYPES.get(str(tensor.dtype), str(tensor.dtype)), tuple(tensor.shape))
        for name, tensor in loaded.items()
    }
    return PickleFile(path, loaded, infos, {})


class Inert:
    """Stands for an object that a training program left beside the tensors; it does nothing."""

    def __new__(cls, *_: object, **__: object) -> Inert:
        return object.__new__(cls)

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


class Parameters(dict[str, object]):
    """Stands for torch's ParameterDict, in which the first textual inversions lie: its tensors."""

    def __setstate__(self, state: Mapping[str, Mapping[str, object]]) -> None:
        self.update(state.get("_parameters", {}))


KNOWN = ((Parameters, "torch.nn.modules.container.ParameterDict"),)
"""Stand-ins for classes of torch's own that hold tensors, and whose code is not run either."""


def _stand_in(name: str) -> type:
    """For a class of a training program; torch fills plain dictionaries alone with entries."""
    return dict if name.endswith("Dict") else Inert


def _loaded(path: Path) -> object:
    """What a pickle holds. Objects of training programs are replaced by stand-ins, one kind after
    another as torch comes upon them; anything else that is no tensor is refused."""
    from torch.serialization import safe_globals

    kinds: list[str] = []
    while True:
        try:
            with safe_globals([*KNOWN, *((_stand_in(each), each) for each in kinds)]):
                return _read(path)
        except pickle.UnpicklingError as error:
            wanted = _named(str(error))
            if wanted is None or wanted in kinds or not wanted.startswith(TRAINERS):
                raise ModelError(_refusal(path, str(error))) from error
            kinds.append(wanted)


def _read(path: Path) -> object:
    import torch

    try:
        # A file from before torch 1.6 is no archive, and cannot be mapped; torch takes one with the
        # wrong name for what the name says, unless it is given open.
        if zipfile.is_zipfile(path) and path.suffix != ".safetensors":
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        else:
            with path.open("rb") as file:
                loaded = torch.load(file, map_location="cpu", weights_only=True)
        return cast(object, loaded)
    except pickle.UnpicklingError:
        raise
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:
        # A damaged pickle can fail as anything: EOFError, RuntimeError, ValueError, KeyError ...
        detail = " ".join(str(error).split())[:200]
        raise ModelError(
            f"{path} looks like a pickle (.ckpt, .pt), but is damaged or of another kind: {detail}"
        ) from error


def _named(message: str) -> str | None:
    """The function or class that torch refused, where its message tells."""
    found = re.search(r"(?:GLOBAL|global|class|function) `?([\w.]+\.[\w.]+)`?", message)
    return found[1] if found else None


def _refusal(path: Path, message: str) -> str:
    named = _named(message)
    if named is None:
        return (
            f"{path} looks like a pickle (.ckpt, .pt), but holds more than tensors, or is damaged;"
            f" give the model as .safetensors"
        )
    return (
        f"{path} is a pickle that asks for {named}, so reading it could run foreign code:"
        f" refused, and nothing was run; give the model as .safetensors, or"
        f" convert it where you trust it"
    )


def _tensors(content: object) -> dict[str, Tensor]:
    """Named tensors of a dictionary, unwrapped from the dictionaries around it."""
    import torch

    for _ in range(3):
        if not isinstance(content, Mapping):
            return {}
        entries = cast(Mapping[object, object], content)
        inner = [entries[key] for key in WRAPPERS if isinstance(entries.get(key), Mapping)]
        if not inner:
            return {
                name: tensor.detach()
                for name, tensor in entries.items()
                if isinstance(name, str)
                and isinstance(tensor, torch.Tensor)
                and tensor.layout == torch.strided
            }
        content = inner[0]
    return {}


_DTYPES = {
    "torch.float64": "F64",
    "torch.float32": "F32",
    "torch.float16": "F16",
    "torch.bfloat16": "BF16",
    "torch.float8_e4m3fn": "F8_E4M3",
    "torch.float8_e5m2": "F8_E5M2",
    "torch.int64": "I64",
    "torch.int32": "I32",
    "torch.int16": "I16",
    "torch.int8": "I8",
    "torch.uint8": "U8",
    "torch.bool": "BOOL",
}
