"""Networks filled with the tensors of a file: strictly, and without copies nobody needs.

The network is made without memory of its own, and takes the tensors themselves for its weights. A
memory-mapped tensor that has the precision and the device already is not copied at all; another is
copied once, by its cast. Matrices and kernels of few bits stay as they are stored (`Packed`), and
so do tables of words, of which a text looks up some rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tileup.errors import ModelError
from tileup.tensors.names import check_names, in_few_bits, the_first
from tileup.tensors.packed import FLOAT8, Packed, unpacked
from tileup.tensors.residency import bring_when_used
from tileup.tensors.scaled import Scaled

ModuleT = TypeVar("ModuleT", bound=nn.Module)


@dataclass(frozen=True, slots=True)
class Placing:
    """How weights are held."""

    dtype: torch.dtype
    """What the network computes in."""
    device: str
    """Where it runs."""
    offload: bool = False
    """Whether weights stay in main memory, and each layer's come to the device while it runs."""
    float32: Collection[str] = ()
    """Layers, by the last part of their names, that compute in float32."""
    overflow: bool = False
    """Whether values too large for `dtype` become infinite, and are no error."""

    def dtype_of(self, name: str) -> torch.dtype:
        """What a weight is cast to."""
        layer = name.split(".")[-2:-1]
        return torch.float32 if layer and layer[0] in self.float32 else self.dtype


def build(
    factory: Callable[[], ModuleT],
    tensors: Mapping[str, Tensor],
    name: str,
    placing: Placing,
    *,
    origin: Mapping[str, str] | None = None,
    left_over: Iterable[str] = (),
    computed: bool = False,
) -> ModuleT:
    """A network with these weights, ready to be evaluated.

    Args:
        factory: makes the network; called where tensors have no memory.
        tensors: weights under the names that the network has for them.
        name: what messages call the checkpoint.
        placing: precision and device.
        origin: what the file calls a tensor, for messages; where it differs.
        left_over: names of tensors of the file that no name of the network belongs to.
        computed: whether the network has tensors that no file holds, such as tables of angles; it
            works them out while it is made.

    Raises:
        ModelError: tensors are missing, change a weight that they lie beside, or are of the wrong
            shape or kind, not finite, or too large for the precision; or the factory finds no
            network of such sizes.
    """
    network = _unfilled(factory, name, computed).eval()
    expected: Mapping[str, Tensor] = network.state_dict()
    called = origin or {}
    check_names(
        {called.get(each, each) for each in expected.keys() - tensors.keys()},
        {called.get(each, each) for each in tensors.keys() - expected.keys()} | {*left_over},
        (called.get(each, each) for each in expected),
        name,
        in_few_bits({called.get(own, own): each for own, each in tensors.items()}),
    )
    tensors = {each: tensors[each] for each in expected}
    _check_shapes(expected, tensors, name, called)
    placed = _placed(network, expected, tensors, name, placing, called)
    _give(network, placed, placing.device if computed else None)
    if placing.offload:
        bring_when_used(network, device=placing.device)
    return network


def _placed(
    network: nn.Module,
    expected: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
    name: str,
    placing: Placing,
    called: Mapping[str, str],
) -> dict[str, Tensor]:
    """The tensors as the network holds them."""
    matrices = _matrices(network)
    weights = {each for each, _ in network.named_parameters()}
    placed: dict[str, Tensor] = {}
    done: dict[tuple[int, torch.dtype, str], Tensor] = {}
    for each, tensor in tensors.items():
        number = expected[each].is_floating_point()
        wanted = placing.dtype_of(each) if number else expected[each].dtype
        title = f"{called.get(each, each)} of {name}"
        place = "cpu" if placing.offload and each in weights else placing.device
        how = (id(tensor), wanted, place)  # one tensor may stand under two names
        if how not in done:
            if (table := matrices.get(each)) is None:
                kept = unpacked(tensor)
            else:
                kept = _packed(tensor, wanted, table)
            _check_values(kept, title, None if placing.overflow else wanted)
            done[how] = _laid_out(kept.to(device=place, dtype=wanted), place)
        placed[each] = done[how]
    return placed


def build_renamed(
    factory: Callable[[], ModuleT],
    tensors: Mapping[str, Tensor],
    names: Mapping[str, str],
    name: str,
    placing: Placing,
) -> ModuleT:
    """As `build`, of tensors under the file's names.

    Args:
        names: the file's name of each of the network's own; of tensors beyond them a warning tells,
            or an error where they seem to change a weight that they lie beside.
    """
    own = {ours: tensors[theirs] for ours, theirs in names.items()}
    beyond = tensors.keys() - set(names.values())
    return build(factory, own, name, placing, origin=names, left_over=beyond)


CHANNELS_LAST = ("cuda",)
"""Kinds of devices whose convolutions are faster where channels lie beside one another. Weights
are copied there anyway; on a CPU it would copy those that lie in the file, and gains nothing."""


def _laid_out(tensor: Tensor, place: str) -> Tensor:
    """A kernel as its device likes it; then all that a convolution gives lies so too."""
    likes = place.partition(":")[0] in CHANNELS_LAST
    if tensor.ndim != 4 or isinstance(tensor, Packed) or not likes:
        return tensor
    # Not `contiguous`, which leaves kernels of 1 x 1 as they are, and then their results.
    return torch.empty_like(tensor, memory_format=torch.channels_last).copy_(tensor)


_EMPTY = frozenset({torch.empty})
_MADE = _EMPTY | {torch.ones, torch.zeros, torch.full, torch.arange, torch.linspace, torch.tensor}
"""What networks make weights and tables with."""
_FIRST = frozenset(
    {
        *(nn.init.uniform_, nn.init.normal_, nn.init.constant_, nn.init.kaiming_uniform_),
        *(Tensor.uniform_, Tensor.normal_, Tensor.fill_, Tensor.zero_),
    }
)
"""What gives weights their first values."""


class _WithoutMemory(TorchFunctionMode):
    """What some functions make has no memory; nor is it given first values, which takes half of
    the time that a network is made in."""

    def __init__(self, functions: Collection[Callable[..., object]]) -> None:
        super().__init__()
        self.functions = functions

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Iterable[type],
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        named = kwargs or {}
        if func in self.functions:
            return func(*args, **named | {"device": "meta"})
        if func in _FIRST:
            first = args[0] if args else named.get("tensor")
            if isinstance(first, Tensor) and first.is_meta:
                return first
        return func(*args, **named)


def _give(network: nn.Module, placed: Mapping[str, Tensor], device: str | None) -> None:
    """Make tensors the network's own; as `load_state_dict`, which takes several times as long.

    Args:
        network: with the names of all of them.
        placed: where they are to lie.
        device: where tensors come to that no file holds; None: there are none.
    """
    for prefix, module in network.named_modules():
        start = f"{prefix}." if prefix else ""
        for name, _ in module.named_parameters(recurse=False):
            setattr(module, name, nn.Parameter(placed[start + name], requires_grad=False))
        for name, buffer in module.named_buffers(recurse=False):
            if start + name in placed:
                setattr(module, name, placed[start + name])
            elif device is not None:
                setattr(module, name, buffer.to(device))


def _unfilled(factory: Callable[[], ModuleT], name: str, computed: bool) -> ModuleT:
    try:
        # What is computed has memory, but for the weights.
        with _WithoutMemory(_EMPTY if computed else _MADE):
            return factory()
    except (TypeError, ValueError, IndexError, ZeroDivisionError) as error:
        raise ModelError(f"the sizes of the tensors of {name} make no network: {error}") from error


def _check_shapes(
    expected: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
    name: str,
    called: Mapping[str, str],
) -> None:
    wrong = [
        f"{called.get(each, each)} has shape {tuple(tensor.shape)} where"
        f" {tuple(expected[each].shape)} is needed"
        for each, tensor in tensors.items()
        if tensor.shape != expected[each].shape
    ]
    if wrong:
        raise ModelError(f"{name} does not fit together: {the_first(wrong)}")
    for each, tensor in tensors.items():
        if expected[each].is_floating_point() and not tensor.is_floating_point():
            raise ModelError(
                f"{name} stores {called.get(each, each)} as {_plain(tensor.dtype)}: quantised"
                f" checkpoints are not supported; use one in fp16, bf16 or fp8"
            )


def _check_values(tensor: Tensor, title: str, dtype: torch.dtype | None) -> None:
    """Whether a tensor's values are finite, and stay so in `dtype`."""
    if not tensor.is_floating_point():
        return
    ends = extremes(tensor)
    lowest, highest = ends.tolist()
    if not (math.isfinite(lowest) and math.isfinite(highest)):
        raise ModelError(f"{title} has values that are not finite: the file is damaged")
    if dtype is None or not dtype.is_floating_point:
        return
    if max(-lowest, highest) <= torch.finfo(dtype).max:
        return
    if (
        ends.to(dtype).isfinite().all()
    ):  # what exceeds the largest number by little is rounded to it
        return
    if isinstance(tensor, Packed):  # its extremes are only a bound
        _check_values(tensor.values(), title, dtype)
        return
    raise ModelError(
        f"{title} has values that are too large for {_plain(dtype)}; use --dtype bfloat16 or"
        f" float32"
    )


def extremes(tensor: Tensor) -> Tensor:
    """Lowest and highest value, NaN where there is one; of packed weights what no value exceeds."""
    if isinstance(tensor, Packed):
        largest = tensor.largest()
        return torch.stack([-largest, largest])
    if tensor.dtype in FLOAT8:
        return extremes(Packed(Scaled(), (tensor,), tensor.shape))
    return torch.stack(torch.aminmax(tensor)) if tensor.numel() else torch.zeros(2)


def _matrices(network: nn.Module) -> Mapping[str, bool]:
    """Names of the matrices, kernels and tables of a network; of tables, of which a run looks up
    a few rows, with True."""
    return {
        f"{prefix}.weight": isinstance(layer, nn.Embedding)
        for prefix, layer in network.named_modules()
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.Embedding)
    }


def _packed(tensor: Tensor, wanted: torch.dtype, table: bool) -> Tensor:
    """A weight that is only stored in its precision, as one that is computed when it is used."""
    kept = tensor.dtype in FLOAT8 or (table and tensor.dtype != wanted)
    if not kept or isinstance(tensor, Packed):
        return tensor
    return Packed(Scaled(), (tensor,), tensor.shape)


def _plain(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
