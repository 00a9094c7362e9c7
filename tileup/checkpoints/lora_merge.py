"""Changes of LoRA files merged into a network's weights.

Adding a change to the weight once costs nothing while sampling, works for every kind of network,
and needs no library that rewrites the network's layers (peft).
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from tileup.checkpoints.changes import Change, LayerChange, fits
from tileup.checkpoints.lora import Lora, made_for
from tileup.checkpoints.lora_names import CLIP_L, NETWORK, PART_WORDS, targets
from tileup.errors import ModelError
from tileup.families.family import no_rules
from tileup.tensors.names import the_first
from tileup.tensors.packed import FLOAT8, Packed
from tileup.tensors.renaming import Rule, Target
from tileup.wording import counted

log = logging.getLogger(__name__)

_PLACES = {"clip_h": CLIP_L}
"""Encoders that files know under another's name: the first one of a model."""


def merge_loras(
    module: nn.Module,
    loras: Sequence[tuple[Lora, float]],
    part: str = NETWORK,
    *,
    dtype: torch.dtype = torch.bfloat16,
    rules: Callable[[Collection[str]], Iterable[Rule]] = no_rules,
) -> None:
    """Add the changes of LoRA files to a network's weights, in place.

    All changes of one layer are made one after the other in float32 and rounded to its precision
    once. A weight of 0 changes nothing; with a weight w a DoRA goes w of the way from the weight as
    it is. Changes that find no layer, or one of another shape, are left out with a warning that
    names them, where as many others fit. Nothing is changed when an error is raised.

    Args:
        module: a network of diffusers or transformers, with its tensors in it.
        loras: each with its weight.
        part: which network this is: network, clip_l, clip_g, clip_h (SD 2's) or t5. Files that have
            nothing for it are passed over.
        dtype: what changed weights of few bits become. Most changes are smaller than their steps,
            and would be lost.
        rules: of the network's family, for files in the words of its first release.

    Raises:
        ModelError: most changes fit no layer, or all those of one kind of layer do not.
    """
    layers = {
        name: each for name, each in module.named_modules() if _own(each, "weight") is not None
    }
    known = targets(layers, rules)
    placed = [
        _TargetedChange(known[normal], change, weight)
        for lora, weight in loras
        for normal, change in _placed(lora, part, known, layers).items()
        if weight
    ]
    for group in _groups(placed):
        _add(layers, group, dtype)


@dataclass(frozen=True, slots=True)
class _TargetedChange:
    """A change, and where it goes."""

    target: Target
    change: LayerChange
    factor: float


def _placed(
    lora: Lora, part: str, known: Mapping[str, Target], layers: Mapping[str, nn.Module]
) -> dict[str, LayerChange]:
    """The changes of one network that find a layer, by the layer's normal name."""
    part = _PLACES.get(part, part)
    content = lora.parts.get(part, {})
    lost = [change.name for normal, change in content.items() if normal not in known]
    found = {normal: change for normal, change in content.items() if normal in known}
    misfits = {
        normal: f"its change to {change.name} has the shape {own.shape}, not {shape}"
        for normal, change in found.items()
        for own, shape in _shapes(change, [layers[each] for each in known[normal].modules])
        if not fits(own.shape, shape)
    }
    fitting = {normal: change for normal, change in found.items() if normal not in misfits}
    another = _of_another_network(misfits, found)
    if lost and (another or len(lost) > len(fitting)):
        raise ModelError(
            f"{lora.name} does not fit this model{made_for(lora)}: {len(lost)} of its"
            f" {counted(len(content), 'change')} to {PART_WORDS[part]} find no layer, such as"
            f" {the_first(lost)}"
        )
    if misfits and (another or len(lost) + len(misfits) > len(fitting)):
        first = next(iter(misfits.values()))
        raise ModelError(f"{lora.name} does not fit this model{made_for(lora)}: {first}")
    whole = f"{counted(len(content), 'change')} to {PART_WORDS[part]}"
    for names, what in ((lost, "find no layer"), (list(misfits.values()), "do not fit")):
        if names:
            log.warning(
                "%s: %d of its %s %s, and are left out: %s",
                *(lora.name, len(names), whole, what, the_first(names)),
            )
    return fitting


def _of_another_network(misfits: Collection[str], found: Collection[str]) -> bool:
    """Whether all layers of a kind, two or more, have another shape than the network's own: what
    fits besides then does so by chance, as attention to pictures does in SD 1 and SD 2."""
    kinds = Counter(re.sub(r"\d+", "#", each) for each in found)
    odd = Counter(re.sub(r"\d+", "#", each) for each in misfits)
    return any(count > 1 and count == kinds[kind] for kind, count in odd.items())


def _shapes(
    change: LayerChange, modules: Sequence[nn.Module]
) -> Iterator[tuple[Change, tuple[int, ...]]]:
    """The changes of a layer, and the shape of what each is added to."""
    weight = _joined_shape(modules, "weight")
    if change.weight is not None:
        yield change.weight, weight
    if change.bias is not None:
        yield change.bias, _joined_shape(modules, "bias") or weight[:1]


def _joined_shape(modules: Sequence[nn.Module], name: str) -> tuple[int, ...]:
    """Of the weights or biases of some layers, one below the other; empty where there are none."""
    tensors = [_own(each, name) for each in modules]
    there = [each for each in tensors if each is not None]
    if len(there) < len(modules):
        return ()
    return (sum(each.shape[0] for each in there), *there[0].shape[1:])


def _groups(placed: Iterable[_TargetedChange]) -> list[list[_TargetedChange]]:
    """Changes sorted so that those of different groups have no layer in common; order is kept."""
    owners: dict[str, list[_TargetedChange]] = {}
    order: dict[int, int] = {}
    for number, each in enumerate(placed):
        order[id(each)] = number
        lists = {id(own): own for name in each.target.modules if (own := owners.get(name))}
        group = [*(one for own in lists.values() for one in own), each]
        group.sort(key=lambda one: order[id(one)])
        owners |= {name: group for one in group for name in one.target.modules}
    return [*{id(group): group for group in owners.values()}.values()]


def _add(
    layers: Mapping[str, nn.Module], group: Sequence[_TargetedChange], dtype: torch.dtype
) -> None:
    """Change the layers of one group."""
    names = dict.fromkeys(name for each in group for name in each.target.modules)
    for kind in ("weight", "bias"):
        changes = [(each, own) for each in group if (own := getattr(each.change, kind)) is not None]
        touched = [
            name for name in names if any(name in each.target.modules for each, _ in changes)
        ]
        totals = {name: _stored(layers[name], kind) for name in touched}
        for each, own in changes:
            _add_one(totals, each, own)
        for name, total in totals.items():
            _store(layers[name], kind, total, dtype)


def _own(layer: nn.Module, kind: str) -> Tensor | None:
    """A weight or bias as the layer holds it; None where it has none."""
    return dict(layer.named_parameters(recurse=False)).get(kind)


def _stored(layer: nn.Module, kind: str) -> Tensor:
    """A weight or bias, float32; zeros for a bias that is not there."""
    tensor = _own(layer, kind)
    if tensor is not None:
        stored = tensor.detach()
        return stored.cast(torch.float32).values() if isinstance(stored, Packed) else stored.float()
    weight = cast(Tensor, _own(layer, "weight"))
    return torch.zeros(weight.shape[0], device=weight.device)


def _add_one(totals: dict[str, Tensor], placed: _TargetedChange, change: Change) -> None:
    own = [totals[name] for name in placed.target.modules]
    base = torch.cat(own) if len(own) > 1 else own[0]
    if placed.target.swapped:
        base = base.roll(len(base) // 2, 0)
    delta = change.delta(base)
    if placed.target.swapped:
        delta = delta.roll(len(delta) // 2, 0)
    pieces = delta.split([len(each) for each in own])
    for name, piece in zip(placed.target.modules, pieces, strict=True):
        totals[name] = totals[name] + placed.factor * piece


def _store(layer: nn.Module, kind: str, total: Tensor, dtype: torch.dtype) -> None:
    old = _own(layer, kind)
    kept = None if old is None or isinstance(old, Packed) or old.dtype in FLOAT8 else old.dtype
    merged = total.to(kept or dtype)
    setattr(layer, kind, nn.Parameter(merged, requires_grad=old is not None and old.requires_grad))


def check_parts(lora: Lora, parts: Sequence[str]) -> None:
    """Warn of changes to networks that the model does not have.

    Args:
        parts: the networks of the model: network, clip_l, clip_g, clip_h, t5.

    Raises:
        ModelError: nothing else is in the file.
    """
    there = {_PLACES.get(part, part) for part in parts}
    for part, content in lora.parts.items():
        if part in there:
            continue
        first = the_first([change.name for change in content.values()])
        what = f"{PART_WORDS[part]}, which this model does not have ({first})"
        if not there & lora.parts.keys():
            raise ModelError(
                f"{lora.name} does not fit this model{made_for(lora)}: it changes {what}"
            )
        log.warning("%s: left out are its changes to %s", lora.name, what)
