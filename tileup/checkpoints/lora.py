"""LoRA files: small changes of a network, merged into its weights when it is loaded.

A layer's change is a product of two small matrices, `up @ down`, times `alpha / rank`. Adding it to
the weight once costs nothing while sampling, works for every kind of network, and needs no library
that rewrites the network's layers (peft).
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from tileup.checkpoints.find import find_model
from tileup.checkpoints.lora_names import CLIP_L, NETWORK, split_name, targets
from tileup.errors import ModelError
from tileup.families.family import no_rules
from tileup.families.table import FAMILIES, named, of_context
from tileup.tensors.checkpoint import open_checkpoint, read_json
from tileup.tensors.renaming import Rule, Target
from tileup.tensors.residency import FLOAT8

log = logging.getLogger(__name__)

Layer = nn.Linear | nn.Conv2d


@dataclass(frozen=True, slots=True)
class LowRank:
    """The change of one layer: `scale * up @ down`."""

    name: str
    """The layer in the file's own words."""
    down: Tensor
    """Shape (rank, inputs), or (rank, inputs, h, w) for a convolution."""
    up: Tensor
    """Shape (outputs, rank), or with two more axes of size 1."""
    middle: Tensor | None
    """A convolution between the two, shape (rank, rank, h, w); `down` is then 1 x 1."""
    scale: float

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the weight that it changes."""
        kernel = self.down if self.middle is None else self.middle
        return (self.up.shape[0], self.down.shape[1], *kernel.shape[2:])

    def rows(self, rows: Tensor, device: torch.device) -> Tensor:
        """These rows of the change: indices, shape (n,), to (n, inputs, ...), float32."""
        up = self.up.flatten(1)[rows].to(device, torch.float32) * self.scale
        down = self.down.to(device, torch.float32)
        if self.middle is not None:
            middle = self.middle.to(device, torch.float32)
            return torch.einsum("oa,abhw,bi->oihw", up, middle, down.flatten(1))
        return (up @ down.flatten(1)).unflatten(1, down.shape[1:])


@dataclass(frozen=True, slots=True)
class Lora:
    """A LoRA file, sorted by the network that each change belongs to."""

    name: str
    parts: Mapping[str, Mapping[str, LowRank]]
    """Network (network, clip_l, clip_g, t5) to normal name of a layer to its change."""

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
    """Sort the tensors of a LoRA file; a warning names those that change nothing.

    Args:
        name: the file, for messages.
        tensors: all of it, under the names of kohya's, diffusers', peft's or another trainer.
        metadata: of the safetensors file; diffusers keeps alpha there.
        config: PEFT's adapter_config.json beside the file, which keeps alpha too.

    Raises:
        ModelError: it is no LoRA, or one of another kind (LoHa, LoKr, DoRA and so on), a tensor is
            missing, of the wrong shape or not finite.
    """
    _refuse_other_kinds(name, tensors)
    layers: dict[str, dict[str, Tensor]] = {}
    unknown: list[str] = []
    for key, tensor in tensors.items():
        if match := _KEY.fullmatch(key):
            layers.setdefault(match["layer"], {})[_ROLES[match["role"]]] = tensor
        else:
            unknown.append(key)
    if not layers:
        raise ModelError(f"{name} is not a LoRA: none of its {len(tensors)} tensors is a change")
    if unknown:
        log.warning("%s: no part of a LoRA, and left out: %s", name, _some(unknown))
    alphas = _Alphas.of(metadata or {}, config or {}, name)
    parts: dict[str, dict[str, LowRank]] = {}
    for layer, roles in layers.items():
        part, normal = split_name(layer)
        place = parts.setdefault(part, {})
        if normal in place:
            raise ModelError(f"{name} changes {layer} and {place[normal].name}, which are the same")
        place[normal] = _low_rank(name, layer, roles, alphas)
    return Lora(name, parts)


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
    file = folder / "adapter_config.json"
    own = path.is_dir() or path.stem == "adapter_model"
    return read_json(file) if own and file.is_file() else {}


_KEY = re.compile(
    r"(?P<layer>.+?)"
    r"(?:\.|(?:\.lora|\.lora_linear_layer)?\.(?=down\.|up\.))"
    r"(?P<role>lora_down|lora_up|lora_mid|lora_A|lora_B|down|up|alpha)"
    r"(?:\.default\w*)?(?:\.weight)?"
)
_ROLES = {
    "lora_down": "down",
    "lora_A": "down",
    "down": "down",
    "lora_up": "up",
    "lora_B": "up",
    "up": "up",
    "lora_mid": "middle",
    "alpha": "alpha",
}
_OTHER_KINDS = {
    "LoHa": r"\.hada_w\d",
    "LoKr": r"\.lokr_w\d",
    "DoRA": r"\.dora_scale$|lora_magnitude_vector",
    "OFT": r"\.oft_|\.boft_",
    "(IA)^3": r"\.on_input$",
    "GLoRA": r"\.[ab][12]\.weight$",
    "ControlNet LoRA": r"^lora_controlnet$|query_norm\.scale$",
    "LoRA with full differences": r"\.diff(_b)?$|\.[wb]_norm$",
    "LoRA with biases": r"\.lora_B(\.default)?\.bias$",
}
"""What a tensor's name gives away."""


def _refuse_other_kinds(name: str, tensors: Mapping[str, Tensor]) -> None:
    for kind, pattern in _OTHER_KINDS.items():
        found = [key for key in tensors if re.search(pattern, key)]
        if found:
            raise ModelError(
                f"{name} is a {kind}, which tileup does not merge ({_some(found)});"
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

    def scale(self, layer: str, rank: int) -> float:
        """alpha / rank of a layer: 1 where nothing is said."""
        layer = layer.removeprefix("base_model.model.")
        prefix = layer.split(".")[0]
        config = self.configs.get(prefix)
        own = layer.removeprefix(f"{prefix}.") if config else layer
        config = config or self.configs[""]
        alpha = _matching(config.get("alpha_pattern"), own)
        alpha = config.get("lora_alpha", rank) if alpha is None else alpha
        if not isinstance(alpha, int | float):
            return 1.0
        return alpha / (math.sqrt(rank) if config.get("use_rslora") is True else rank)


def _matching(pattern: object, layer: str) -> object:
    """What the first pattern says that a layer's name ends with, as in PEFT; None: nothing."""
    entries = cast(Mapping[str, object], pattern) if isinstance(pattern, Mapping) else {}
    found = (value for key, value in entries.items() if re.fullmatch(rf"(.*\.)?({key})", layer))
    return next(found, None)


def _low_rank(name: str, layer: str, roles: Mapping[str, Tensor], alphas: _Alphas) -> LowRank:
    down, up, middle = roles.get("down"), roles.get("up"), roles.get("middle")
    if down is None or up is None:
        lacking = "down" if down is None else "up"
        raise ModelError(f"{name} is incomplete: {layer} has no {lacking} weight")
    rank = down.shape[0] if middle is None else up.shape[1]
    scale = alphas.scale(layer, rank)
    if "alpha" in roles:
        scale = float(roles["alpha"].float().mean()) / rank
    result = LowRank(layer, down, up, middle, scale)
    if not _composes(result):
        sizes = [tuple(each.shape) for each in (up, middle, down) if each is not None]
        raise ModelError(f"{name} is damaged: {layer} has weights of the shapes {sizes}")
    if not all(each.float().isfinite().all() for each in roles.values()):
        raise ModelError(f"{name} is damaged: {layer} has values that are not finite")
    return result


def _composes(change: LowRank) -> bool:
    """Whether the shapes of a change fit one another."""
    down, up, middle = change.down, change.up, change.middle
    if not (down.ndim in {2, 4} and up.ndim in {2, 4} and set(up.shape[2:]) <= {1}):
        return False
    if middle is None:
        return up.shape[1] == down.shape[0]
    inner = (up.shape[1], down.shape[0])
    return middle.ndim == 4 and tuple(middle.shape[:2]) == inner and set(down.shape[2:]) <= {1}


def merge_loras(
    module: nn.Module,
    loras: Sequence[tuple[Lora, float]],
    part: str = NETWORK,
    *,
    dtype: torch.dtype = torch.bfloat16,
    rules: Callable[[Collection[str]], Iterable[Rule]] = no_rules,
) -> None:
    """Add the changes of LoRA files to a network's weights, in place.

    All changes of one layer are added up in float32 and rounded to its precision once. A weight
    of 0 changes nothing. Nothing is changed when an error is raised.

    Args:
        module: a network of diffusers or transformers, with its tensors in it.
        loras: each with its weight.
        part: which network this is: network, clip_l, clip_g, clip_h (SD 2's) or t5. Files that have
            nothing for it are passed over.
        dtype: what changed weights of 8 bits become. Most changes are smaller than their steps,
            and would be lost.
        rules: of the network's family, for files in the words of its first release.

    Raises:
        ModelError: a change finds no layer, or one of another shape.
    """
    layers = {name: each for name, each in module.named_modules() if isinstance(each, Layer)}
    known = targets(layers, rules)
    changes: dict[str, list[tuple[LowRank, Tensor, float]]] = {}
    for lora, weight in loras:
        placed = _placed(lora, part, known, layers)
        for name, change, rows in placed if weight else ():
            changes.setdefault(name, []).append((change, rows, weight))
    for name, found in changes.items():
        _add(layers[name], found, dtype)


def _placed(
    lora: Lora, part: str, known: Mapping[str, Target], layers: Mapping[str, Layer]
) -> list[tuple[str, LowRank, Tensor]]:
    """Layer, change and the change's rows for it, of each layer that a LoRA changes."""
    placed: list[tuple[str, LowRank, Tensor]] = []
    part = _PLACES.get(part, part)
    content = lora.parts.get(part, {})
    lost = [change.name for normal, change in content.items() if normal not in known]
    if lost:
        raise ModelError(
            f"{lora.name} does not fit this model{_made_for(lora)}: {len(lost)} of its"
            f" {len(content)} changes to {_WORDS[part]} find no layer, such as {_some(lost)}"
        )
    for normal, change in content.items():
        target = known[normal]
        heights = [layers[name].weight.shape[0] for name in target.modules]
        rows = torch.arange(sum(heights))
        if target.swapped:
            rows = rows.roll(len(rows) // 2)
        for name, own in zip(target.modules, rows.split(heights), strict=True):
            wanted = (len(rows), *layers[name].weight.shape[1:])
            if _without_ones(wanted) != _without_ones(change.shape):
                raise ModelError(
                    f"{lora.name} does not fit this model{_made_for(lora)}: its change to"
                    f" {change.name} has the shape {change.shape}, not {wanted}"
                )
            placed.append((name, change, own))
    return placed


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A matrix and a 1 x 1 convolution of its size are the same."""
    return shape[:2] if set(shape[2:]) <= {1} else shape


def _add(
    layer: Layer, changes: Sequence[tuple[LowRank, Tensor, float]], dtype: torch.dtype
) -> None:
    weight = layer.weight
    total = torch.zeros(weight.shape, dtype=torch.float32, device=weight.device)
    for change, rows, factor in changes:
        total += factor * change.rows(rows, weight.device).reshape(weight.shape)
    merged = total.add_(weight.detach().float())
    merged = merged.to(dtype if weight.dtype in FLOAT8 else weight.dtype)
    layer.weight = nn.Parameter(merged, requires_grad=weight.requires_grad)


_PLACES = {"clip_h": CLIP_L}
"""Encoders that files know under another's name: the first one of a model."""
_WORDS = {
    NETWORK: "the network",
    "clip_l": "the first text encoder",
    "clip_g": "the second text encoder",
    "t5": "the T5 text encoder",
    "llm": "the text encoder",
}


def check_parts(lora: Lora, parts: Sequence[str]) -> None:
    """Refuse a LoRA that changes a network which the model does not have.

    Args:
        parts: the networks of the model: network, clip_l, clip_g, clip_h, t5.

    Raises:
        ModelError: there is a change for another network.
    """
    there = {_PLACES.get(part, part) for part in parts}
    for part, content in lora.parts.items():
        if part not in there:
            first = _some([change.name for change in content.values()])
            raise ModelError(
                f"{lora.name} does not fit this model{_made_for(lora)}: it changes"
                f" {_WORDS[part]}, which this model does not have ({first})"
            )


def _made_for(lora: Lora) -> str:
    return f" (it was made for {lora.family})" if lora.family else ""


def _family(changes: Mapping[str, LowRank]) -> str:
    if by_blocks := [
        family for family in FAMILIES if any(name.startswith(family.blocks) for name in changes)
    ]:
        return named(by_blocks)
    texts = [each.shape[1] for name, each in changes.items() if name.endswith("attn2_to_k")]
    family = of_context(texts[0]) if texts else None
    return family.short if family else ""


def _some(names: Sequence[str]) -> str:
    """The first few of some names, and how many more there are."""
    shown = sorted(names)[:3]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
