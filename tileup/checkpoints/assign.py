"""Networks filled with the tensors of a checkpoint: strictly, and without copies nobody needs.

The network is made without memory of its own, and takes the tensors themselves for its weights. A
memory-mapped tensor that has the precision and the device already is not copied at all; another is
copied once, by its cast.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from tileup.checkpoints.filling import FLOAT8
from tileup.checkpoints.residency import bring_when_used
from tileup.errors import ModelError

Network = TypeVar("Network", bound=nn.Module)

SHOWN = 3
"""Tensors that a message names; the others are counted."""


def build(
    factory: Callable[[], Network],
    tensors: Mapping[str, Tensor],
    name: str,
    *,
    dtype: torch.dtype,
    device: str,
    origin: Mapping[str, str] | None = None,
    offload: bool = False,
) -> Network:
    """A network with these weights, ready to be evaluated.

    Matrices and kernels stored in fp8 stay so, and are cast to `dtype` layer by layer while they
    compute; every other weight is cast here.

    Args:
        factory: makes the network; called where tensors have no memory.
        tensors: weights under the names that the network has for them.
        name: what messages call the checkpoint.
        dtype: precision to compute in.
        device: where it runs.
        origin: what the file calls a tensor, for messages; where it differs.
        offload: weights stay in main memory, each layer's come to the device while it runs.

    Raises:
        ModelError: tensors are missing, unexpected, of the wrong shape or kind, not finite, or too
            large for `dtype`.
    """
    with torch.device("meta"):
        network = factory()
    network.eval().requires_grad_(False)
    expected: Mapping[str, Tensor] = network.state_dict()
    called = origin or {}
    _check_names(expected, tensors, name, called)
    _check_shapes(expected, tensors, name, called)
    kept = _kept_in_fp8(network, tensors)
    weights = {each for each, _ in network.named_parameters()}
    placed: dict[str, Tensor] = {}
    for each, tensor in tensors.items():
        wanted = dtype if expected[each].is_floating_point() else expected[each].dtype
        place = "cpu" if offload and each in weights else device
        title = f"{called.get(each, each)} of {name}"
        placed[each] = _placed(tensor, tensor.dtype if each in kept else wanted, place, title)
    network.load_state_dict(placed, assign=True)
    bring_when_used(network, device=device, dtype=dtype, only_float8=not offload)
    return network


def listed(names: Iterable[str]) -> str:
    """The first names in words, and how many more there are."""
    ordered = sorted(names)
    shown = ", ".join(ordered[:SHOWN])
    return f"{shown} and {len(ordered) - SHOWN} more" if len(ordered) > SHOWN else shown


def check_same_names(expected: Iterable[str], found: Iterable[str], name: str) -> None:
    """Whether a checkpoint has exactly the tensors that its network needs.

    Raises:
        ModelError: some are missing or unexpected.
    """
    missing, unexpected = set(expected) - set(found), set(found) - set(expected)
    if missing:
        raise ModelError(
            f"{name} lacks {len(missing)} of the tensors that its network needs: {listed(missing)}."
            f" The file is incomplete, or of another kind than its other tensors say"
        )
    if unexpected:
        raise ModelError(
            f"{name} has {len(unexpected)} tensors that its network has no place for:"
            f" {listed(unexpected)}. It is a variant that tileup does not support"
        )


def _check_names(
    expected: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
    name: str,
    called: Mapping[str, str],
) -> None:
    check_same_names(
        [called.get(each, each) for each in expected],
        [called.get(each, each) for each in tensors],
        name,
    )
    if expected.keys() != tensors.keys():
        raise ValueError(f"two tensors of {name} have one name in its file")


def _check_shapes(
    expected: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
    name: str,
    called: Mapping[str, str],
) -> None:
    for each, tensor in tensors.items():
        wanted = expected[each]
        if tensor.shape != wanted.shape:
            raise ModelError(
                f"{name} does not fit together: {called.get(each, each)} has shape"
                f" {tuple(tensor.shape)} where {tuple(wanted.shape)} is needed"
            )
        if wanted.is_floating_point() and not tensor.is_floating_point():
            raise ModelError(
                f"{name} stores {called.get(each, each)} as {_plain(tensor.dtype)}: quantised"
                f" checkpoints are not supported; use one in fp16, bf16 or fp8"
            )


def _placed(tensor: Tensor, dtype: torch.dtype, device: str, title: str) -> Tensor:
    """A tensor in its precision and place, after a look at its values."""
    if tensor.is_floating_point():
        ends = _extremes(tensor)
        if not ends.isfinite().all():
            raise ModelError(f"{title} has values that are not finite: the file is damaged")
        if not ends.to(dtype).float().isfinite().all():
            raise ModelError(
                f"{title} has values that are too large for {_plain(dtype)}; use another --dtype"
            )
    return tensor.to(device=device, dtype=dtype)


def _extremes(tensor: Tensor) -> Tensor:
    """Lowest and highest value, NaN where there is one; of fp8 the largest, whatever its sign."""
    if tensor.numel() == 0:
        return torch.zeros(2)
    if tensor.dtype in FLOAT8:
        # Torch compares no fp8, but without their sign its bytes have the order of its values.
        largest = (tensor.view(torch.uint8) & 0x7F).max()
        return torch.stack([largest, largest]).view(tensor.dtype).float()
    return torch.stack(torch.aminmax(tensor))


def _kept_in_fp8(network: nn.Module, tensors: Mapping[str, Tensor]) -> frozenset[str]:
    """Names of the matrices and kernels that are stored in fp8."""
    return frozenset(
        f"{prefix}.weight"
        for prefix, layer in network.named_modules()
        if isinstance(layer, nn.Linear | nn.Conv2d) and tensors[f"{prefix}.weight"].dtype in FLOAT8
    )


def _plain(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
