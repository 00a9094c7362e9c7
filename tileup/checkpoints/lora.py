"""LoRA files and their relatives, read: which layers of which network they change, and how.

What the kinds of change compute is in `tileup.checkpoints.changes`.
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from torch import Tensor

from tileup.checkpoints.changes import (
    Change,
    Decomposed,
    Difference,
    Factors,
    FullMatrix,
    Hadamard,
    Kronecker,
    LayerChange,
    LowRank,
)
from tileup.checkpoints.find import find_model
from tileup.checkpoints.lora_names import NETWORK, role_of, split_name
from tileup.checkpoints.made_for import LayerSize, families_of_layers
from tileup.errors import ModelError
from tileup.families.table import FAMILIES, named
from tileup.storage.beside import ADAPTER, ADAPTER_CONFIG
from tileup.tensors.checkpoint import open_checkpoint, read_json
from tileup.tensors.names import the_first
from tileup.text.embeddings import Embedding, carried_embeddings, is_carried
from tileup.wording import counted

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Lora:
    """A LoRA file, sorted by the network that each change belongs to."""

    name: str
    parts: Mapping[str, Mapping[str, LayerChange]]
    """Network (network, clip_l, clip_g, t5) to normal name of a layer to its change."""
    embeddings: tuple[Embedding, ...] = ()
    """Textual inversions that it brings along, as OneTrainer's do."""

    @property
    def family(self) -> str:
        """For which models it was made, as far as its layers tell: for messages."""
        return _family(self.parts.get(NETWORK, {}))


def read_lora(
    name: str,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
    config: Mapping[str, object] | None = None,
) -> Lora:
    """Sort the tensors of a LoRA file; warnings name those that change nothing, and layers whose
    tensors make no change, where as many others do.

    Args:
        name: the file, for messages.
        tensors: all of it, under the names of kohya's, diffusers', peft's or another trainer.
        metadata: of the safetensors file; diffusers keeps alpha there.
        config: PEFT's adapter_config.json beside the file, which keeps alpha too.

    Raises:
        ModelError: it is no LoRA, or one of another kind (OFT, (IA)^3, GLoRA), a tensor is not
            finite, or of most layers one is missing or of the wrong shape.
    """
    _refuse_other_kinds(name, tensors)
    layers: dict[str, dict[str, Tensor]] = {}
    unknown: list[str] = []
    for key, tensor in tensors.items():
        if told := role_of(key):
            layers.setdefault(told[0], {})[told[1]] = tensor
        elif not is_carried(key):
            unknown.append(key)
    if not layers:
        raise ModelError(
            f"{name} is not a LoRA: none of its {counted(len(tensors), 'tensor')} is a change"
        )
    if unknown:
        log.warning("%s: no part of a LoRA, and left out: %s", name, the_first(unknown))
    alphas = _Alphas.of(metadata or {}, config or {}, name)
    made, odd = _layer_changes(name, layers, alphas)
    if len(odd) > len(made):
        raise odd[0]
    if odd:
        log.warning("%s: left out are layers whose tensors make no change: %s", name, _told(odd))
    parts: dict[str, dict[str, LayerChange]] = {}
    for layer, change in made.items():
        part, normal = split_name(layer)
        place = parts.setdefault(part, {})
        if normal in place:
            raise ModelError(f"{name} changes {layer} and {place[normal].name}, which are the same")
        place[normal] = change
    return Lora(name, parts, carried_embeddings(tensors, name))


class OddLayerError(ModelError):
    """The tensors of one layer of a LoRA make no change."""

    def __init__(self, message: str, what: str = "") -> None:
        super().__init__(message, what)  # both, so that it survives pickle
        self.what = what
        """The layer, and what is wrong with it."""

    def __str__(self) -> str:
        return str(self.args[0])


def _odd(file: str, state: str, what: str) -> OddLayerError:
    return OddLayerError(f"{file} is {state}: {what}", what)


def _told(odd: Sequence[OddLayerError]) -> str:
    """What is wrong with the first of some layers, and how many more there are."""
    return odd[0].what + (f" and {len(odd) - 1} more" if odd[1:] else "")


def _layer_changes(
    name: str, layers: Mapping[str, Mapping[str, Tensor]], alphas: _Alphas
) -> tuple[dict[str, LayerChange], list[OddLayerError]]:
    """The changes by their layers' own names, and what is wrong with layers that make none."""
    made: dict[str, LayerChange] = {}
    odd: list[OddLayerError] = []
    for layer, roles in layers.items():
        try:
            made[layer] = _layer_change(name, layer, roles, alphas)
        except OddLayerError as error:
            odd.append(error)
    return made, odd


def open_lora(name: str) -> Lora:
    """A LoRA from its file, or from the folder that PEFT made for it.

    Args:
        name: a path, or a name in the folders of models.

    Raises:
        ModelError: as `read_lora`; or there is no such file, or it cannot be read.
    """
    path = find_model(name)
    checkpoint = open_checkpoint(path)
    return read_lora(name, checkpoint.state_dict(), checkpoint.metadata, adapter_config(path))


def adapter_config(path: Path) -> dict[str, object]:
    """What PEFT wrote beside a LoRA: adapter_config.json; empty where there is none.

    Args:
        path: the folder, or the file as PEFT names it: adapter_model.safetensors. A file of another
            name may lie there by chance.

    Raises:
        ModelError: it is no JSON object.
    """
    folder = path if path.is_dir() else path.parent
    file = folder / ADAPTER_CONFIG
    own = path.is_dir() or path.stem == ADAPTER
    return read_json(file) if own and file.is_file() else {}


_OTHER_KINDS = {
    "OFT": r"\.oft_|\.boft_",
    "(IA)^3": r"\.on_input$",
    "GLoRA": r"\.[ab][12]\.weight$",
    "ControlNet LoRA": r"^lora_controlnet$|query_norm\.scale$",
}
"""What a tensor's name gives away."""


def _refuse_other_kinds(name: str, tensors: Mapping[str, Tensor]) -> None:
    for kind, pattern in _OTHER_KINDS.items():
        found = [key for key in tensors if re.search(pattern, key)]
        if found:
            raise ModelError(
                f"{name} is a {kind}, which tileup does not merge ({the_first(found)});"
                f" merge it into the checkpoint with the program that made it, or take a plain LoRA"
            )


@dataclass(frozen=True, slots=True)
class _Alphas:
    """What is said of alpha where no tensor says it: by the prefix of the network, or for all."""

    configs: Mapping[str, Mapping[str, object]]

    @classmethod
    def of(cls, metadata: Mapping[str, str], beside: Mapping[str, object], name: str) -> _Alphas:
        """From `lora_adapter_metadata`, as diffusers writes it: {"unet.lora_alpha": 8, ...}; and
        from PEFT's configuration beside the file, which is of all layers: {"lora_alpha": 8, ...}.
        """
        try:
            content: object = json.loads(metadata.get("lora_adapter_metadata") or "{}")
        except ValueError as error:
            raise ModelError(f"{name}: its lora_adapter_metadata is not JSON") from error
        configs: dict[str, dict[str, object]] = {"": dict(beside)}
        if isinstance(content, dict):
            for key, value in cast(dict[str, object], content).items():
                prefix, _, field = key.rpartition(".")
                configs.setdefault(prefix, {})[field] = value
        return cls(configs)

    def scale(self, layer: str, rank: int | None) -> float:
        """alpha / rank of a layer: 1 where nothing is said.

        Args:
            rank: None where no tensor of the layer tells.
        """
        layer = layer.removeprefix("base_model.model.")
        prefix = layer.split(".")[0]
        config = self.configs.get(prefix)
        own = layer.removeprefix(f"{prefix}.") if config else layer
        config = config or self.configs[""]
        if rank is None:
            said = _matching(config.get("rank_pattern"), own) or config.get("r")
            rank = said if isinstance(said, int) else 0
        if not rank:
            return 1.0
        alpha = _matching(config.get("alpha_pattern"), own)
        if alpha is None:
            alpha = config.get("lora_alpha", config.get("alpha", rank))
        if not isinstance(alpha, int | float):
            return 1.0
        return alpha / (math.sqrt(rank) if config.get("use_rslora") is True else rank)


def _matching(pattern: object, layer: str) -> object:
    """What the first pattern says that a layer's name ends with, as in PEFT; None: nothing."""
    entries = cast(Mapping[str, object], pattern) if isinstance(pattern, Mapping) else {}
    found = (value for key, value in entries.items() if re.fullmatch(rf"(.*\.)?({key})", layer))
    return next(found, None)


def _layer_change(
    name: str, layer: str, roles: Mapping[str, Tensor], alphas: _Alphas
) -> LayerChange:
    if not all(each.float().isfinite().all() for each in roles.values()):
        raise ModelError(f"{name} is damaged: {layer} has values that are not finite")
    part = _LoraLayer(name, layer, roles, alphas)
    weight, bias = part.weight(), part.bias()
    if weight is None and bias is None:
        raise _odd(name, "incomplete", f"{layer} has {', '.join(roles)} and no change")
    return LayerChange(layer, weight, bias)


@dataclass(frozen=True, slots=True)
class _LoraLayer:
    """The tensors of one layer, by role, and what they make."""

    file: str
    layer: str
    roles: Mapping[str, Tensor]
    alphas: _Alphas

    def weight(self) -> Change | None:
        """The change of the weight, if there is any."""
        change = self._change()
        if change is None:
            return None
        try:
            shape = change.shape
        except (RuntimeError, IndexError) as error:
            raise self._damaged() from error
        magnitude = self.roles.get("magnitude", self.roles.get("dora_scale"))
        return change if magnitude is None else self._decomposed(change, magnitude, shape)

    def bias(self) -> Difference | None:
        """The change of the bias, if there is any."""
        if "diff_b" in self.roles:
            return Difference(self.roles["diff_b"])
        if "up_bias" not in self.roles:
            return None
        return Difference(self.roles["up_bias"], self._scale(self._needed("down").shape[0]))

    def _change(self) -> Change | None:
        starts = {role.partition("_")[0] for role in self.roles}
        if "hada" in starts:
            return self._hadamard()
        if "lokr" in starts:
            return self._kronecker()
        if starts & {"down", "up"}:
            return self._low_rank()
        return Difference(self.roles["diff"]) if "diff" in self.roles else None

    def _low_rank(self) -> LowRank:
        down, up = self._needed("down"), self._needed("up")
        middle = self.roles.get("middle")
        if up.ndim < 2 or not set(up.shape[2:]) <= {1}:
            raise self._damaged()
        rank = down.shape[0] if middle is None else up.shape[1]
        return LowRank(down, up, middle, self._scale(rank))

    def _hadamard(self) -> Hadamard:
        first, second = (self._factors("hada", each) for each in "12")
        return Hadamard(first, second, self._scale(first.b.shape[0]))

    def _kronecker(self) -> Kronecker:
        """Where both are whole there is no rank: a tensor alpha does not count then, as in LyCORIS,
        but PEFT's configuration does.
        """
        first, second = (
            FullMatrix(self.roles[f"lokr_w{each}"])
            if f"lokr_w{each}" in self.roles
            else self._factors("lokr", each)
            for each in "12"
        )
        ranks = [each.b.shape[0] for each in (first, second) if isinstance(each, Factors)]
        scale = self._scale(ranks[0]) if ranks else self.alphas.scale(self.layer, None)
        return Kronecker(first, second, scale)

    def _factors(self, kind: str, number: str) -> Factors:
        names = [f"{kind}_w{number}_{each}" for each in "ab"]
        a, b = (self._needed(each) for each in names)
        if not a.ndim == b.ndim == 2:
            raise self._damaged()
        return Factors(a, b, self.roles.get(f"{kind}_t{number}"))

    def _decomposed(self, change: Change, magnitude: Tensor, shape: tuple[int, ...]) -> Decomposed:
        """By output, or by input as the shape (1, inputs, ...) of some of LyCORIS's says."""
        by_input = (
            "magnitude" not in self.roles
            and magnitude.ndim > 1
            and magnitude.shape[0] == 1 < shape[0]
        )
        count = magnitude.numel()
        if count != shape[0] if not by_input else not count or shape[1] % count:
            raise self._damaged()
        return Decomposed(change, magnitude, by_input)

    def _scale(self, rank: int) -> float:
        if "alpha" in self.roles:
            return float(self.roles["alpha"].float().mean()) / max(rank, 1)
        return self.alphas.scale(self.layer, rank)

    def _needed(self, role: str) -> Tensor:
        if role not in self.roles:
            raise _odd(self.file, "incomplete", f"{self.layer} has no {role} weight")
        tensor = self.roles[role]
        if not tensor.ndim:
            raise self._damaged()
        return tensor

    def _damaged(self) -> OddLayerError:
        sizes = {role: tuple(each.shape) for role, each in self.roles.items() if role != "alpha"}
        what = f"{self.layer} has weights of the shapes {sizes}"
        return _odd(self.file, "damaged", what)


def made_for(lora: Lora) -> str:
    """For which models it was made, in brackets; empty where that is not known."""
    return f" (it was made for {lora.family})" if lora.family else ""


def _family(changes: Mapping[str, LayerChange]) -> str:
    layers = {
        name: None if each.weight is None else LayerSize(*each.weight.shape[:2])
        for name, each in changes.items()
        if each.weight is None or len(each.weight.shape) > 1
    }
    families = families_of_layers(layers)
    return named(family for family in FAMILIES if family.short in families)
